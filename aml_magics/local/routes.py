"""Every operation that is answered: verbs, pattern, function; the first that fits is taken.

Patterns are of paths in one space: `doors.py` has put each of the cloud's hosts into it. `{ws}`
is the scope of a workspace, `{name}` a segment, `{name:path}` the rest; case does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import (
    arm,
    assets,
    batch,
    computes,
    curves,
    datastores,
    deployments,
    endpoints,
    features,
    groups,
    history,
    identity,
    indexes,
    jobs,
    mlflow,
    monitor,
    pages,
    registries,
    resources,
    router,
    schedules,
    serverless,
    shares,
    workspaces,
)
from aml_magics.local.wire import PROVIDER, Call


def health(call: Call) -> Response:
    memory = {"warm_mb": call.local.warm.memory() >> 20}  # of fork servers for jobs
    return JSONResponse({"status": "ok", **call.local.live(), **memory})


_SUB = "/subscriptions/{subscription}"
_GROUP = _SUB + "/resourceGroups/{group}"
_LOCATION = f"{_SUB}/providers/{PROVIDER}/locations/{{location}}"
_REGISTRY = _GROUP + f"/providers/{PROVIDER}/registries/{{registry}}"
_INDEXES = "/genericasset{ws}/indexes"
_DEPLOYED = _GROUP + "/providers/Microsoft.Resources/deployments/{deployment}"
_DEPENDENT = (
    _GROUP + "/providers/(?P<type>Microsoft.(?:Storage|KeyVault|Insights|OperationalInsights"
    "|ContainerRegistry|ManagedIdentity)/[^/]+)/{name}"
)
_RUN = "/history/v1.0{ws}(?:/experiment(?:s|ids)/[^/]+)?/runs/{run}"
_ARTIFACTS = _RUN + "/artifacts"
_MLFLOW = r"/mlflow/v\d\.\d{ws}"
_PROXY = _MLFLOW + r"/(?:api|ajax-api)/2\.0/mlflow-artifacts/artifacts"
_ENDPOINT = "{ws}/onlineEndpoints/{endpoint}"
_DEPLOYMENT = _ENDPOINT + "/deployments/{deployment}"
_INFERENCE = "/inference/{account}/{endpoint}"
_VERSIONED = (
    "{ws}/(?P<collection>codes|components|data|environments|featuresets|featurestoreEntities"
    "|models)"
)

_STORAGE = "/(?:blob|dfs|file)/{account}/{container}"

_STORED = (
    "{ws}/(?P<collection>schedules|batchEndpoints|connections|outboundRules|serverlessEndpoints"
    "|marketplaceSubscriptions|capabilityHosts)"
)
_BATCH_DEPLOYMENTS = "{ws}/(?P<collection>batchEndpoints)/{parent}/(?P<nested>deployments)"

Route = tuple[str, str, Callable[[Call], Any]]

ROUTES: tuple[Route, ...] = (
    ("GET", "/healthz", health),
    # pages
    ("GET", "/", pages.default_workspace),
    ("GET", "/studio/runs/{job}", pages.run),
    # tokens
    ("POST", "/login/{tenant}/oauth2(?:/v2.0)?/token", identity.token),
    ("GET", "/login/common/discovery/instance", identity.instance_discovery),
    (
        "GET",
        "/login/{tenant}(?:/v2.0)?/.well-known/openid-configuration",
        identity.openid_configuration,
    ),
    ("GET", "/msi/token", identity.managed_identity_token),
    # registries, before workspaces: `{ws}` is the scope of either
    ("GET", "/registrymanagement/v1.0/registries/{registry}/discovery", registries.discover),
    ("GET", f"{_SUB}/providers/{PROVIDER}/registries", registries.list_),
    ("GET", f"{_GROUP}/providers/{PROVIDER}/registries", registries.list_),
    ("GET", _REGISTRY, registries.get),
    ("PUT", _REGISTRY, registries.put),
    ("DELETE", _REGISTRY, registries.delete),
    ("PUT", "{ws}/tempdatarefs/{name}/versions/{version}", registries.upload_reference),
    ("POST", "{ws}/datarefs/{name}/versions/{version}", registries.download_reference),
    ("POST", "{ws}/import", registries.import_asset),
    ("GET", "/assetstore/v1.0/operations/{operation}", registries.asset_operation),
    ("GET", "/environment/v1.0/operations/{operation}", registries.environment_operation),
    # workspaces
    ("GET", "{ws}", workspaces.get),
    ("PUT", "{ws}", workspaces.put),
    ("PATCH", "{ws}", workspaces.patch),
    ("DELETE", "{ws}", workspaces.delete),
    ("POST", "{ws}/listKeys", workspaces.list_keys),
    ("POST", "{ws}/resyncKeys", workspaces.resync_keys),
    ("POST", "{ws}/diagnose", workspaces.diagnose),
    ("GET", f"{_SUB}/providers/{PROVIDER}/workspaces", workspaces.list_),
    ("GET", f"{_GROUP}/providers/{PROVIDER}/workspaces", workspaces.list_),
    ("GET", "/discovery(?:/.*)?", workspaces.discovery),
    ("GET", "/metadata/endpoints/{account}", workspaces.cloud_metadata),
    # above workspaces
    ("GET", "/subscriptions", groups.list_subscriptions),
    ("GET", _GROUP, groups.get_group),
    ("GET", _GROUP + "/resources", groups.list_resources),
    ("POST", "/providers/Microsoft.ResourceGraph/resources", groups.query_graph),
    ("PUT", _DEPLOYED, groups.put_deployment),
    ("GET", _DEPLOYED, groups.get_deployment),
    ("POST", _DEPLOYED + "/validate", groups.validate_deployment),
    ("GET", _DEPLOYED + "/operationStatuses/{status}", groups.deployment_status),
    ("GET", _GROUP + "/deployments/{deployment}/operations", groups.deployment_operations),
    ("GET", _DEPENDENT, groups.get_dependent),
    ("DELETE", _DEPENDENT, groups.delete_dependent),
    # datastores, computes
    ("GET", "{ws}/datastores", datastores.list_),
    ("GET", "{ws}/datastores/{name}", datastores.get),
    ("PUT", "{ws}/datastores/{name}", datastores.put),
    ("DELETE", "{ws}/datastores/{name}", datastores.delete),
    ("POST", "{ws}/datastores/{name}/listSecrets", datastores.list_secrets),
    ("GET", "{ws}/computes", computes.list_),
    ("GET", "{ws}/computes/{name}", computes.get),
    ("PUT", "{ws}/computes/{name}", computes.put),
    ("PATCH", "{ws}/computes/{name}", computes.patch),
    ("DELETE", "{ws}/computes/{name}", computes.delete),
    ("POST", "{ws}/computes/{name}/(?P<action>start|stop|restart)", computes.act),
    ("POST", "{ws}/computes/{name}/listNodes", computes.list_nodes),
    ("GET", _LOCATION + "/vmSizes", computes.list_sizes),
    ("GET", _LOCATION + "/usages", computes.list_usages),
    # versioned assets
    ("GET", _VERSIONED, assets.list_containers),
    ("GET", _VERSIONED + "/{name}", assets.get_container),
    ("PUT", _VERSIONED + "/{name}", assets.put_container),
    ("GET", _VERSIONED + "/{name}/versions", assets.list_versions),
    ("GET", _VERSIONED + "/{name}/versions/{version}", assets.get_version),
    ("PUT", _VERSIONED + "/{name}/versions/{version}", assets.put_version),
    (
        "POST",
        "{ws}/codes/{name}/versions/{version}/startPendingUpload",
        assets.start_pending_upload,
    ),
    ("GET", _INDEXES, indexes.list_latest),
    ("GET", _INDEXES + "/{name}", indexes.get_latest),
    ("POST", _INDEXES + "/{name}:getNextVersion", indexes.next_version),
    ("GET", _INDEXES + "/{name}/versions", indexes.list_versions),
    ("GET", _INDEXES + "/{name}/versions/{version}", indexes.get),
    ("PUT", _INDEXES + "/{name}/versions/{version}", indexes.put),
    # resources that are stored only
    ("GET", _STORED, resources.list_),
    ("GET", _STORED + "/{name}", resources.get),
    ("PUT", _STORED + "/{name}", resources.put),
    ("PATCH", _STORED + "/{name}", resources.patch),
    ("DELETE", _STORED + "/{name}", resources.delete),
    ("GET", _BATCH_DEPLOYMENTS, resources.list_),
    ("GET", _BATCH_DEPLOYMENTS + "/{name}", resources.get),
    ("PUT", _BATCH_DEPLOYMENTS + "/{name}", resources.put),
    ("PATCH", _BATCH_DEPLOYMENTS + "/{name}", resources.patch),
    ("DELETE", _BATCH_DEPLOYMENTS + "/{name}", resources.delete),
    ("GET", "{ws}/batchEndpoints/{name}/jobs", batch.list_jobs),
    ("GET", "{ws}/batchEndpoints/{parent}/deployments/{name}/jobs", batch.list_jobs),
    ("GET", "{ws}/batchEndpoints/{parent}/jobs/{name}", batch.get_job),
    ("POST", _INFERENCE + "/jobs", batch.invoke),
    ("POST", "{ws}/connections/{name}/listsecrets", resources.list_secrets),
    ("POST", "{ws}/schedules/{name}/trigger", schedules.trigger),
    ("GET", "{ws}/featuresets/{name}/versions/{version}/features", features.list_),
    ("GET", "{ws}/featuresets/{name}/versions/{version}/features/{feature}", features.get),
    ("POST", "{ws}/featuresets/{name}/versions/{version}/backfill", resources.cannot_run),
    ("POST", "{ws}/models/{name}/versions/{version}/package", resources.cannot_run),
    ("GET", "{ws}/connections/{name}/deployments", resources.cannot_run),
    ("POST", "{ws}/provisionManagedNetwork", resources.cannot_run),
    ("POST", "{ws}/serverlessEndpoints/{name}/listKeys", serverless.list_keys),
    ("POST", "{ws}/serverlessEndpoints/{name}/regenerateKeys", serverless.regenerate_keys),
    # jobs
    ("GET", "{ws}/jobs", jobs.list_),
    ("GET", "{ws}/jobs/{name}", jobs.get),
    ("PUT", "{ws}/jobs/{name}", jobs.put),
    ("DELETE", "{ws}/jobs/{name}", jobs.delete),
    ("POST", "{ws}/jobs/{name}/cancel", jobs.cancel),
    # online endpoints and their deployments
    ("GET", "{ws}/onlineEndpoints", endpoints.list_),
    ("GET", _ENDPOINT, endpoints.get),
    ("PUT", _ENDPOINT, endpoints.put),
    ("PATCH", _ENDPOINT, endpoints.patch),
    ("DELETE", _ENDPOINT, endpoints.delete),
    ("POST", _ENDPOINT + "/listKeys", endpoints.list_keys),
    ("POST", _ENDPOINT + "/regenerateKeys", endpoints.regenerate_keys),
    ("POST", _ENDPOINT + "/token", endpoints.token),
    ("GET", _ENDPOINT + "/providers/microsoft.insights/metrics", monitor.metrics),
    ("GET", _ENDPOINT + "/deployments", deployments.list_),
    ("GET", _DEPLOYMENT, deployments.get),
    ("PUT", _DEPLOYMENT, deployments.put),
    ("PATCH", _DEPLOYMENT, deployments.patch),
    ("DELETE", _DEPLOYMENT, deployments.delete),
    ("POST", _DEPLOYMENT + "/getLogs", deployments.get_logs),
    ("GET POST OPTIONS", _INFERENCE + "/(?P<operation>score)", router.score),
    ("GET", _INFERENCE + "/(?P<operation>swagger.json)", router.score),
    ("GET HEAD", _INFERENCE + "/(?P<operation>)", router.score),
    (
        "POST PUT PATCH DELETE",
        _INFERENCE + "/(?P<operation>score|swagger.json|)",
        router.not_allowed,
    ),
    # long-running operations
    ("GET", _LOCATION + "/mfeOperationsStatus/{operation}", arm.operation_status),
    ("GET", _LOCATION + "/mfeOperationResults/{operation}", arm.operation_result),
    ("GET", _LOCATION + "/workspaceOperationsStatus/{operation}", workspaces.operation),
    ("GET", _LOCATION + "/registryOperationsStatus/{operation}", registries.operation),
    ("GET", _LOCATION + "/computeOperationsStatus/{operation}", computes.operation),
    # run history
    ("GET", _RUN, history.get_run),
    ("PATCH", _RUN, history.change_run),
    ("GET", _RUN + "/details", history.details),
    ("GET", _RUN + "/children", history.children),
    ("GET", _RUN + "/serviceinstances/{node}", history.service_instances),
    ("POST", "/history/v1.0{ws}/rundata", history.run_data),
    ("POST", "/data/v1.0{ws}/dataversion/batchGetResolvedUris", history.resolved_uris),
    ("GET", _ARTIFACTS, history.list_artifacts),
    ("GET", _ARTIFACTS + "/path", history.list_artifacts_in_path),
    ("GET", _ARTIFACTS + "/contentinfo", history.artifact_content),
    ("GET", _ARTIFACTS + "/prefix/contentinfo", history.artifact_prefix_content),
    ("POST", _ARTIFACTS + "/batch/metadata", history.create_artifacts),
    # MLflow
    ("GET", _PROXY, mlflow.list_artifacts),
    ("GET HEAD", _PROXY + "/{rest:path}", mlflow.get_artifact),
    ("PUT", _PROXY + "/{rest:path}", mlflow.put_artifact),
    ("DELETE", _PROXY + "/{rest:path}", mlflow.delete_artifact),
    ("POST", _MLFLOW + r"/ajax-api/2\.0/mlflow/metrics/sample-histories", curves.answer),
    ("GET POST PUT PATCH DELETE", _MLFLOW + "{rest:path}", mlflow.serve),
    # blob and Data Lake storage, file shares
    ("GET HEAD PUT DELETE", _STORAGE, shares.share),
    ("GET HEAD PUT PATCH DELETE", _STORAGE + "/{name:path}", shares.path),
)
