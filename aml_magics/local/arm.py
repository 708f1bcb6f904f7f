"""Resources of a workspace over ARM: versioned assets, computes, datastores, the workspace itself.

One row of `ASSETS` describes one kind of asset; the handlers below serve all of them.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from aml_magics.local import blobs, doors, registry, uris
from aml_magics.local.controllers.command import TERMINAL
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import (
    PROVIDER,
    REGION,
    TENANT,
    ArmError,
    Call,
    Workspace,
    error_body,
    not_found,
)

PAGE = 100
USER = "local"


class Asset(NamedTuple):
    """A kind of versioned asset: what the service adds to a version, and how it says 404."""

    defaults: Body
    missing: str
    complete: Callable[[Call, str, Body], None] | None = None
    adopt: Callable[[Call], None] | None = None


def shown(resource: Resource) -> Body:
    """A stored resource as ARM shows it."""
    system = {
        "createdAt": resource.created_at,
        "createdBy": USER,
        "createdByType": "User",
        "lastModifiedAt": resource.modified_at,
        "lastModifiedBy": USER,
        "lastModifiedByType": "User",
    }
    kind = f"{PROVIDER}/workspaces/{resource.kind}"
    head = {"id": resource.id, "name": resource.name, "type": kind}
    return {**head, **resource.body, "systemData": system}


def answer(resource: Resource, created: bool, call: Call, **headers: str) -> Response:
    """201 with its Location for what is new, 200 for what was there."""
    location = {"Location": call.door.arm + str(call.request.url.path)} if created else {}
    return JSONResponse(shown(resource), 201 if created else 200, {**location, **headers})


def found(call: Call, id: str, message: str) -> Resource:  # noqa: A002
    resource = call.local.store.get(id)
    if resource is None:
        raise not_found(message)
    return resource


def page(
    call: Call, parent: str, kind: str, keep: Callable[[Resource], bool] | None = None
) -> Body:
    """A page of a listing, newest first, with the absolute URL of the next one."""
    query = call.query
    top = _whole_number(query, "$top", PAGE)
    skip = _whole_number(query, "$skiptoken", 2**62)
    view = query.get("listviewtype", "ActiveOnly")
    rows = call.local.store.children(parent, kind, view=view, before=skip)
    chosen = [row for row in rows if keep is None or keep(row)]
    body: Body = {"value": [shown(row) for row in chosen[:top]]}
    if len(chosen) > top > 0:
        rest = {**call.request.query_params, "$skipToken": str(chosen[top - 1].sequence)}
        body["nextLink"] = f"{call.door.arm}{call.request.url.path}?{urlencode(rest)}"
    return body


def _whole_number(query: Any, name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError as exc:
        raise ArmError(400, "UserError", f"{name} is not a number: {query[name]}") from exc


# Versioned assets


def list_containers(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    kind = call.path["collection"].lower()
    body = page(call, call.workspace.id, kind)
    for container in body["value"]:
        container["properties"].update(_latest_and_next(call, container["id"], kind))
    return JSONResponse(body)


def get_container(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    body = shown(found(call, call.arm_id, asset.missing.format(**call.path, version="")))
    body["properties"].update(_latest_and_next(call, call.arm_id, call.path["collection"].lower()))
    return JSONResponse(body)


def put_container(call: Call) -> Response:
    kind, body = call.path["collection"].lower(), _properties(call)
    body["properties"] = {**_CONTAINER, **body["properties"]}
    resource, created = call.local.store.put(call.arm_id, kind, body)
    return answer(resource, created, call)


def list_versions(call: Call) -> Response:
    """Versions, newest first; `hash` asks for the snapshot with that content (codes)."""
    asset, wanted = _asset(call), call.query.get("hash")
    if asset.adopt:
        asset.adopt(call)

    def has_hash(resource: Resource) -> bool:
        known = resource.properties.get("properties") or {}
        return wanted is None or known.get("hash_sha256") == wanted

    parent = call.arm_id.rpartition("/")[0]
    kind = f"{call.path['collection'].lower()}/versions"
    if wanted is not None:  # Any code asset with that content will do, whatever its name.
        rows = [row for row in call.local.store.of_kind(kind) if has_hash(row)]
        here = [row for row in rows if row.id.lower().startswith(call.workspace.id.lower() + "/")]
        return JSONResponse({"value": [shown(row) for row in here[-1:]]})
    return JSONResponse(page(call, parent, kind))


def get_version(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    return JSONResponse(shown(found(call, call.arm_id, asset.missing.format(**call.path))))


def put_version(call: Call) -> Response:
    """Create or update a version; its container is made with the first one."""
    asset, kind, body = _asset(call), call.path["collection"].lower(), _properties(call)
    properties = {
        **asset.defaults,
        **{k: v for k, v in body["properties"].items() if v is not None},
    }
    body["properties"] = properties
    with call.local.store.transaction():
        if asset.complete:
            asset.complete(call, call.path["version"], properties)
        container = call.arm_id.rsplit("/", 2)[0]
        if call.local.store.get(container) is None:
            call.local.store.put(container, kind, _container(properties))
        resource, created = call.local.store.put(call.arm_id, f"{kind}/versions", body)
    return answer(resource, created, call)


def start_pending_upload(call: Call) -> Response:
    """A fresh container for one upload, with a SAS that may write to it."""
    container, uri, sas_uri = blobs.new_container(call.local, call.workspace, call.door)
    reference = {
        "blobUri": uri,
        "storageAccountArmId": blobs.account_id(call.workspace),
        "credential": {"credentialType": "SAS", "sasUri": sas_uri},
    }
    return JSONResponse(
        {
            "blobReferenceForConsumption": reference,
            "pendingUploadId": container,
            "pendingUploadType": "TemporaryBlobReference",
        }
    )


def _asset(call: Call) -> Asset:
    return ASSETS[call.path["collection"].lower()]


def _properties(call: Call) -> Body:
    body = call.document()
    if not isinstance(body.get("properties"), dict):
        raise ArmError(400, "UserError", "The request has no properties.", "BadRequest")
    return body


def _container(version: Body) -> Body:
    shared = {key: version[key] for key in ("dataType",) if key in version}
    return {"properties": {**_CONTAINER, **shared}}


def _latest_and_next(call: Call, container: str, kind: str) -> Body:
    versions = call.local.store.children(container, f"{kind}/versions")
    active = [row.name for row in versions if not row.archived]
    numbers = [int(row.name) for row in versions if row.name.isdecimal()]
    return {
        "latestVersion": active[0] if active else None,
        "nextVersion": str(max(numbers, default=0) + 1),
    }


def _complete_data(call: Call, version: str, properties: Body) -> None:
    properties["dataUri"] = uris.long_uri(call.workspace, properties.get("dataUri") or "")


def _complete_environment(call: Call, version: str, properties: Body) -> None:
    conda = properties.get("condaFile") or ""
    properties["condaFile"] = conda if isinstance(conda, str) else json.dumps(conda)


_CONTAINER: Body = {"description": None, "tags": {}, "properties": {}, "isArchived": False}
_COMMON: Body = {**_CONTAINER, "isAnonymous": False}
ASSETS = {
    "codes": Asset(
        {**_COMMON, "codeUri": None, "provisioningState": "Succeeded"},
        "Code version with name: {name} version: {version} not found.",
    ),
    "data": Asset(
        {**_COMMON, "dataUri": None, "dataType": "uri_folder"},
        "Data asset with name: {name} version: {version} not found.",
        _complete_data,
    ),
    "environments": Asset(
        {**_COMMON, "environmentType": "UserCreated", "image": None, "osType": "Linux"},
        "No environment exists for name: {name}, version: {version}, label: ",
        _complete_environment,
    ),
    "models": Asset(
        {
            **_COMMON,
            "flavors": {},
            "modelType": "custom_model",
            "modelUri": None,
            "jobName": None,
            "provisioningState": "Succeeded",
            "stage": None,
        },
        "Model with name: {name} version: {version} not found.",
        registry.complete,
        registry.adopt,
    ),
}


# The workspace, its datastores and computes


def get_workspace(call: Call) -> Response:
    return JSONResponse(workspace_body(call))


def list_workspaces(call: Call) -> Response:
    """The workspaces this home has been asked for so far, of the URL's resource group if any."""
    rows = call.local.store.of_kind("workspaces")
    scope = call.request.url.path.lower().partition("/providers/")[0] + "/"
    bodies = [
        workspace_body(call._replace(ws=Workspace(*row.body["triple"])))
        for row in rows
        if row.id.lower().startswith(scope)
    ]
    return JSONResponse({"value": bodies})


def ensure_workspace(call: Call) -> None:
    """Any workspace that is asked for is made: unmodified scripts bring their own names."""
    ws, store = call.workspace, call.local.store
    if store.get(ws.id) is not None:
        return
    if call.local.strict:
        message = (
            f"The Resource '{PROVIDER}/workspaces/{ws.name}' under resource group "
            f"'{ws.resource_group}' was not found."
        )
        raise ArmError(404, "ResourceNotFound", message)
    with store.transaction():
        store.put(ws.id, "workspaces", {"properties": {}, "triple": list(ws)})
        for name, container in uris.datastores(ws).items():
            body = {"properties": datastore_properties(ws, name, container)}
            store.put(f"{ws.id}/datastores/{name}", "datastores", body)


def workspace_body(call: Call) -> Body:
    ws, group = call.workspace, call.workspace.group_id
    row = call.local.store.get(ws.id)
    assert row is not None  # noqa: S101 (ensure_workspace ran before the handler)
    properties = {
        "friendlyName": ws.name,
        "description": "A workspace on this machine.",
        "storageAccount": blobs.account_id(ws),
        "keyVault": f"{group}/providers/Microsoft.Keyvault/vaults/{ws.account}",
        "applicationInsights": f"{group}/providers/Microsoft.insights/components/{ws.account}",
        "containerRegistry": None,
        "hbiWorkspace": False,
        "tenantId": TENANT,
        "imageBuildCompute": None,
        "provisioningState": "Succeeded",
        "v1LegacyMode": False,
        "softDeleteEnabled": False,
        "storageHnsEnabled": False,
        "workspaceId": ws.guid,
        "publicNetworkAccess": "Disabled",
        "discoveryUrl": f"{call.door.api}/discovery",
        "mlFlowTrackingUri": call.door.mlflow(ws.id),
        "sdkTelemetryAppInsightsKey": None,
    }
    identity = {"type": "SystemAssigned", "principalId": ws.guid, "tenantId": TENANT}
    body = shown(row)
    body.pop("triple")
    return {
        **body,
        "type": f"{PROVIDER}/workspaces",
        "location": REGION,
        "tags": {},
        "etag": None,
        "kind": "Default",
        "properties": properties,
        "identity": identity,
        "sku": {"name": "Basic", "tier": "Basic"},
    }


def discovery(call: Call) -> Response:
    services = "api catalog experimentation gallery history hyperdrive labeling modelmanagement"
    return JSONResponse({**dict.fromkeys(services.split(), call.door.api), "studio": call.door.api})


def cloud_metadata(call: Call) -> Response:
    """The endpoints of this "cloud", for clients that look it up by ARM_CLOUD_METADATA_URL."""
    address = call.local.address
    name, cloud = doors.direct_cloud(address.url, address.secure_url, call.path["account"])
    login = {
        "loginEndpoint": cloud["active_directory"],
        "audiences": [cloud["resource_manager"]],
        "tenant": TENANT,
    }
    body = {
        "name": name,
        "portal": cloud["azure_portal"],
        "resourceManager": cloud["resource_manager"],
        "authentication": login,
        "suffixes": {"storage": cloud["storage_endpoint"]},
    }
    return JSONResponse([body])


def datastore_properties(ws: Workspace, name: str, container: str) -> Body:
    file_share = name.startswith("workspacef") or name.startswith("workspacew")
    place = {"fileShareName": container} if file_share else {"containerName": container}
    return {
        "description": None,
        "tags": None,
        "properties": None,
        "isDefault": name == "workspaceblobstore",
        "credentials": {"credentialsType": "AccountKey"},
        "datastoreType": "AzureFile" if file_share else "AzureBlob",
        "accountName": ws.account,
        **place,
        "endpoint": "core.windows.net",
        "protocol": "https",
        "serviceDataAccessAuthIdentity": "None",
    }


def list_datastores(call: Call) -> Response:
    only_default = call.query.get("isdefault", "").lower() == "true"
    return JSONResponse(
        page(
            call,
            call.workspace.id,
            "datastores",
            lambda row: bool(row.properties.get("isDefault")) or not only_default,
        )
    )


def get_datastore(call: Call) -> Response:
    message = f"Could not find datastore: {call.path['name']}."
    return JSONResponse(shown(found(call, call.arm_id, message)))


def list_secrets(call: Call) -> Response:
    name = call.path["name"]
    found(call, call.arm_id.rpartition("/")[0], f"Could not find datastore: {name}.")
    key = blobs.account_key(call.local, call.workspace.account)
    return JSONResponse({"secretsType": "AccountKey", "key": key})


def get_compute(call: Call) -> Response:
    """Any compute name is a virtual cluster on this machine; 404 when strict, as on Azure."""
    store, name = call.local.store, call.path["name"]
    resource = store.get(call.arm_id)
    if resource is None:
        if call.local.strict:
            return Response(status_code=404)
        resource, _ = store.put(call.arm_id, "computes", _cluster(call.local.slots))
    return JSONResponse({**shown(resource), "name": name, "location": REGION, "tags": {}})


def list_computes(call: Call) -> Response:
    body = page(call, call.workspace.id, "computes")
    body["value"] = [{**row, "location": REGION, "tags": {}} for row in body["value"]]
    return JSONResponse(body)


def _cluster(slots: int) -> Body:
    scale = {
        "minNodeCount": 0,
        "maxNodeCount": slots,
        "nodeIdleTimeBeforeScaleDown": "PT2M",
    }
    size = {"vmSize": "LOCAL", "vmPriority": "Dedicated", "scaleSettings": scale}
    return {
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": REGION,
            "provisioningState": "Succeeded",
            "provisioningErrors": None,
            "isAttachedCompute": False,
            "disableLocalAuth": False,
            "description": None,
            "resourceId": None,
            "properties": {**size, "osType": "Linux", "allocationState": "Steady"},
        }
    }


# Long-running operations: the operation's id names the resource, whose state is the answer.

BUSY = {"Creating", "Updating", "Deleting", "Accepted"}


def lro_headers(call: Call, id: str) -> dict[str, str]:  # noqa: A002
    """The headers by which a client follows what happens to a resource (dialect 1)."""
    token = urlsafe_b64encode(id.encode()).decode().rstrip("=")
    scope = f"{call.door.arm}/subscriptions/{call.workspace.subscription}/providers/{PROVIDER}"
    base = f"{scope}/locations/{REGION}"
    return {
        "Azure-AsyncOperation": f"{base}/mfeOperationsStatus/{token}?api-version=2023-10-01",
        "Location": f"{base}/mfeOperationResults/{token}?api-version=2023-10-01",
        "x-ms-async-operation-timeout": "PT30M",
        "x-ms-retry-after-ms": "100",  # Retry-After is in whole seconds
    }


def _operation(call: Call) -> tuple[str, Resource | None]:
    token = call.path["operation"]
    try:
        id_ = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError as exc:
        raise not_found(f"Operation {token} not found.") from exc
    return id_, call.local.store.get(id_)


def _is_busy(resource: Resource) -> bool:
    if resource.kind == "jobs":
        return resource.properties["status"] not in TERMINAL
    return resource.properties.get("provisioningState") in BUSY


def operation_status(call: Call) -> Response:
    id_, resource = _operation(call)
    state = resource.properties.get("provisioningState", "Succeeded") if resource else "Succeeded"
    body: Body = {"id": str(call.request.url.path), "name": call.path["operation"]}
    if state == "Failed":
        error = call.local.store.noted(id_, "error") or {"message": "The operation failed."}
        body.update(error_body("UserError", error["message"]))
    done = state not in BUSY
    body.update(status=state, percentComplete=100.0 if done else 0.0)
    return JSONResponse(body, headers={} if done else {"x-ms-retry-after-ms": "100"})


def operation_result(call: Call) -> Response:
    _, resource = _operation(call)
    if resource and _is_busy(resource):
        here = call.door.arm + str(call.request.url.path)
        return JSONResponse({}, 202, {"Location": here, "x-ms-retry-after-ms": "100"})
    return Response(status_code=200)
