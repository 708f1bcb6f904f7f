"""What Azure Resource Manager knows above a workspace: resource groups, deployments, graphs."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import app, workspaces
from aml_magics.local.store import Body
from aml_magics.local.wire import PROVIDER, REGION, ArmError, Call, bad_request, not_found

KIND = "deployments"
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
    body = {"id": path, "name": call.path["name"], "type": call.path["type"]}
    return JSONResponse({**body, "location": REGION, "tags": {}, "properties": {}})


def delete_dependent(call: Call) -> Response:
    return Response(status_code=204)


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
    body = {"properties": _deployed(properties, id_)}
    resource, _ = call.local.store.put(_deployment_id(call), KIND, body)
    status = f"{call.door.arm}{call.request.url.path}/operationStatuses/{resource.sequence}"
    headers = {"Azure-AsyncOperation": f"{status}?api-version=2020-06-01"}
    return JSONResponse(_shown(call), 201, headers)


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


def _deployed(properties: Body, workspace_id: str) -> Body:
    return {
        "parameters": properties["parameters"],
        "mode": "Incremental",
        "provisioningState": "Succeeded",
        "duration": "PT0S",
        "correlationId": workspace_id.rpartition("/")[2],
        "outputResources": [{"id": workspace_id}],
    }


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
    head = {"id": resource.id, "name": resource.name, "type": "Microsoft.Resources/deployments"}
    return {**head, **resource.body}
