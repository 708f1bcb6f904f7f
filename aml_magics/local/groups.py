"""What Azure Resource Manager knows above a workspace: resource groups, deployments, graphs."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from starlette.responses import JSONResponse, Response

from aml_magics.local import app, components, uris, workspaces
from aml_magics.local.daemon import DEFAULT_SUBSCRIPTION
from aml_magics.local.store import Body, now
from aml_magics.local.wire import (
    PROVIDER,
    REGION,
    TENANT,
    ArmError,
    Call,
    Workspace,
    bad_request,
    not_found,
)

KIND = "deployments"
_TYPE = "Microsoft.Resources/deployments"
# Parameter of the SDK's template → property of the workspace.
PARAMETERS = {
    "friendlyName": "friendlyName",
    "description": "description",
    "publicNetworkAccess": "publicNetworkAccess",
    "imageBuildCompute": "imageBuildCompute",
    "primaryUserAssignedIdentity": "primaryUserAssignedIdentity",
    "managedNetwork": "managedNetwork",
    "workspace_hub": "hubResourceId",
    "workspace_hub_config": "workspaceHubConfig",
    "serverless_compute_settings": "serverlessComputeSettings",
    "systemDatastoresAuthMode": "systemDatastoresAuthMode",
}


def list_subscriptions(call: Call) -> Response:
    """The subscriptions that workspaces of this home are in."""
    rows = call.local.store.of_kind(workspaces.KIND)
    ids = sorted({DEFAULT_SUBSCRIPTION, *(str(row.body["triple"][0]) for row in rows)})
    count = {"type": "Total", "value": len(ids)}
    return JSONResponse({"value": [_subscription(id_) for id_ in ids], "count": count})


def _subscription(id_: str) -> Body:
    return {
        "id": f"/subscriptions/{id_}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "tags": {},
        "subscriptionId": id_,
        "tenantId": TENANT,
        "displayName": "This machine",
        "state": "Enabled",
        "subscriptionPolicies": dict.fromkeys(("locationPlacementId", "quotaId", "spendingLimit")),
    }


def get_group(call: Call) -> Response:
    """Any resource group is there: workspaces of any name are."""
    return JSONResponse(_group(call.path["subscription"], call.path["group"]))


def list_resources(call: Call) -> Response:
    """The resources of a group besides its workspaces: none."""
    return JSONResponse({"value": []})


def query_graph(call: Call) -> Response:
    """Azure Resource Graph: the SDK asks it for virtual clusters, of which there are none."""
    empty: Body = {"totalRecords": 0, "count": 0, "data": [], "facets": []}
    return JSONResponse({**empty, "resultTruncated": "false"})


def get_dependent(call: Call) -> Response:
    """A storage account, vault or the like of a workspace, of which only the name exists."""
    path = str(call.request.url.path)
    is_identity = call.path["type"].lower().startswith("microsoft.managedidentity/")
    guid = str(uuid5(NAMESPACE_URL, path.lower()))
    facts = {"tenantId": TENANT, "principalId": guid, "clientId": guid} if is_identity else {}
    body = {"id": path, "name": call.path["name"], "type": call.path["type"]}
    return JSONResponse({**body, "location": REGION, "tags": {}, "properties": facts})


def delete_dependent(call: Call) -> Response:
    """Delete what a workspace was made with: of a storage account its files, else the name."""
    id_, name = str(call.request.url.path), call.path["name"]
    rows = call.local.store.of_kind(workspaces.KIND)
    is_own = any(Workspace(*row.body["triple"]).account == name for row in rows)
    if not is_own or call.local.store.noted(id_, "deleted"):
        return Response(status_code=204)
    if call.path["type"].lower() == "microsoft.storage/storageaccounts":
        shutil.rmtree(uris.account(call.local, name), ignore_errors=True)
    else:
        call.local.store.note(id_, "deleted", True)
    return Response(status_code=200)


def put_deployment(call: Call) -> Response:
    """Make the workspace that the SDK's template describes.

    The template itself is not evaluated: its parameters say all that is kept here.
    """
    document = call.document()
    properties = document.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("parameters"), dict):
        raise bad_request("The deployment has no parameters.")
    asked = {key: _value(entry) for key, entry in properties["parameters"].items()}
    if not isinstance(asked.get("workspaceName"), str):
        raise ArmError(501, "NotImplemented", "Only deployments of workspaces are emulated.")
    id_ = _create_workspace(call, asked)
    body = {"properties": _deployed(call, properties, id_)}
    resource, _ = call.local.store.put(_deployment_id(call), KIND, body)
    status = f"{call.door.arm}{call.request.url.path}/operationStatuses/{resource.sequence}"
    headers = {"Azure-AsyncOperation": f"{status}?api-version=2020-06-01"}
    return JSONResponse(_shown(call), 201, headers)


def validate_deployment(call: Call) -> Response:
    """Check the components that a template describes, as `components.validate` asks for it."""
    properties = call.document().get("properties") or {}
    template = properties.get("template") if isinstance(properties, dict) else None
    resources = template.get("resources") if isinstance(template, dict) else None
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        raise bad_request("The deployment has no template with resources.")
    try:
        ids = [{"id": _checked(call, one)} for one in resources]
    except ArmError as exc:
        if exc.status == 501:
            raise
        detail = {"code": exc.code, "message": str(exc), "target": "properties/componentSpec"}
        error = {"code": "InvalidTemplateDeployment", "message": str(exc), "details": [detail]}
        return JSONResponse({"error": error})  # 400 makes the SDK raise what it should list
    head = {"id": _deployment_id(call), "name": call.path["deployment"], "type": _TYPE}
    body = _facts(properties, "components/versions")
    return JSONResponse({**head, "properties": {**body, "validatedResources": ids}})


def _checked(call: Call, resource: Body) -> str:
    if not str(resource.get("type")).lower().endswith("/workspaces/components/versions"):
        raise ArmError(501, "NotImplemented", "Only deployments of components are validated.")
    names = str(resource.get("name")).split("/")
    if len(names) != 3 or not isinstance(resource.get("properties"), dict):
        raise bad_request("A component has the name WORKSPACE/NAME/VERSION, and properties.")
    workspace, name, version = names
    below = f"/components/{name}/versions/{version}"
    scope = (call.path["subscription"], call.path["group"], workspace)
    path = {**call.path, "name": name, "version": version, "below": below}
    call = call._replace(path=path, ws=app.workspace(*scope))
    components.complete(call, version, dict(resource["properties"]))
    return call.arm_id


def get_deployment(call: Call) -> Response:
    return JSONResponse(_shown(call))


def deployment_status(call: Call) -> Response:
    return JSONResponse({"status": _shown(call)["properties"]["provisioningState"]})


def deployment_operations(call: Call) -> Response:
    id_ = _shown(call)["properties"]["outputResources"][0]["id"]
    name = id_.rpartition("/")[2]
    target = {"id": id_, "resourceType": f"{PROVIDER}/workspaces", "resourceName": name}
    operation = {
        "provisioningOperation": "Create",
        "provisioningState": "Succeeded",
        "statusCode": "OK",
        "duration": "PT0S",
        "targetResource": target,
    }
    return JSONResponse({"value": [{"operationId": name, "properties": operation}]})


def _create_workspace(call: Call, asked: Body) -> str:
    scope = (call.path["subscription"], call.path["group"])
    ws = app.workspace(*scope, asked["workspaceName"])
    properties = {ours: asked[theirs] for theirs, ours in PARAMETERS.items() if asked.get(theirs)}
    kind = str(asked.get("kind") or "Default")
    body: Body = {
        "kind": "Default" if kind.lower() == "default" else kind,
        "tags": asked.get("tagValues") or {},
        "identity": asked.get("identity"),
        "location": asked.get("location") or REGION,
        "properties": properties,
    }
    if asked.get("spark_runtime_version"):
        runtime = {"sparkRuntimeVersion": asked["spark_runtime_version"]}
        properties["featureStoreSettings"] = {"computeRuntime": runtime}
    return workspaces.create(call._replace(ws=ws), body).id


def _deployed(call: Call, properties: Body, workspace_id: str) -> Body:
    ws = call.local.workspace_of(workspace_id)
    made = [_reference(id_) for id_ in workspaces.dependents(ws).values()]
    uses = {"dependsOn": made, **_reference(workspace_id)}
    facts = {**_facts(properties, "workspaces"), "dependencies": [uses]}
    return {**facts, "outputResources": [{"id": workspace_id}]}


def _facts(properties: Body, kind: str) -> Body:
    """What is told of every deployment, valid or done."""
    template = properties.get("template") or {}
    content = json.dumps(template, sort_keys=True).encode()
    types = [{"resourceType": kind, "locations": [REGION]}]
    return {
        "templateHash": str(int(sha256(content).hexdigest()[:16], 16)),
        "parameters": _parameters(template.get("parameters"), properties.get("parameters")),
        "mode": "Incremental",
        "provisioningState": "Succeeded",
        "timestamp": now(),
        "duration": "PT0S",
        "correlationId": str(uuid4()),
        "providers": [{"namespace": PROVIDER, "resourceTypes": types}],
        "dependencies": [],
    }


def _parameters(declared: Any, given: Any) -> Body:
    """The parameters of a template with their types, as given or by default."""
    found: Body = {}
    for name, about in declared.items() if isinstance(declared, dict) else ():
        if isinstance(about, dict):
            value = given.get(name) if isinstance(given, dict) else None
            default = about.get("defaultValue")
            chosen = value.get("value") if isinstance(value, dict) else default
            found[name] = {"type": str(about.get("type")).capitalize(), "value": chosen}
    return found


def _reference(id_: str) -> Body:
    provider, kind, name = id_.split("/")[-3:]
    return {"id": id_, "resourceType": f"{provider}/{kind}", "resourceName": name}


def _value(entry: Any) -> Any:
    return entry.get("value") if isinstance(entry, dict) else None


def _group(subscription: str, name: str) -> Body:
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": REGION,
        "tags": {},
        "properties": {"provisioningState": "Succeeded"},
    }


def _deployment_id(call: Call) -> str:
    group = _group(call.path["subscription"], call.path["group"])["id"]
    return f"{group}/providers/Microsoft.Resources/deployments/{call.path['deployment']}"


def _shown(call: Call) -> Body:
    resource = call.local.store.get(_deployment_id(call))
    if resource is None:
        raise not_found(f"Deployment {call.path['deployment']} could not be found.")
    head = {"id": resource.id, "name": resource.name, "type": _TYPE}
    return {**head, **resource.body}
