"""The workspace, its datastores and its computes, all made when they are first asked for."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, blobs, doors, signatures, uris
from aml_magics.local.store import Body
from aml_magics.local.wire import PROVIDER, REGION, TENANT, ArmError, Call, Workspace


def get(call: Call) -> Response:
    return JSONResponse(workspace_body(call))


def list_(call: Call) -> Response:
    """The workspaces this home has been asked for so far, of the URL's resource group if any."""
    rows = call.local.store.of_kind("workspaces")
    scope = call.request.url.path.lower().partition("/providers/")[0] + "/"
    bodies = [
        workspace_body(call._replace(ws=Workspace(*row.body["triple"])))
        for row in rows
        if row.id.lower().startswith(scope)
    ]
    return JSONResponse({"value": bodies})


def ensure(call: Call) -> None:
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
    assert row is not None  # noqa: S101 (`ensure` ran before the handler)
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
    body = arm.shown(row)
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
        arm.page(
            call,
            call.workspace.id,
            "datastores",
            lambda row: bool(row.properties.get("isDefault")) or not only_default,
        )
    )


def get_datastore(call: Call) -> Response:
    message = f"Could not find datastore: {call.path['name']}."
    return JSONResponse(arm.shown(arm.found(call, call.arm_id, message)))


def list_secrets(call: Call) -> Response:
    name = call.path["name"]
    arm.found(call, call.arm_id.rpartition("/")[0], f"Could not find datastore: {name}.")
    key = signatures.account_key(call.local, call.workspace.account)
    return JSONResponse({"secretsType": "AccountKey", "key": key})


def get_compute(call: Call) -> Response:
    """Any compute name is a virtual cluster on this machine; 404 when strict, as on Azure."""
    store, name = call.local.store, call.path["name"]
    resource = store.get(call.arm_id)
    if resource is None:
        if call.local.strict:
            return Response(status_code=404)
        resource, _ = store.put(call.arm_id, "computes", _cluster(call.local.slots))
    return JSONResponse({**arm.shown(resource), "name": name, "location": REGION, "tags": {}})


def list_computes(call: Call) -> Response:
    body = arm.page(call, call.workspace.id, "computes")
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
