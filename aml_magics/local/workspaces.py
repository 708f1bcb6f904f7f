"""Workspaces and what is around them: made when they are first asked for, or by a deployment."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, blobs, datastores, doors, identity, signatures
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import (
    PROVIDER,
    REGION,
    TENANT,
    ArmError,
    Call,
    GatewayError,
    Workspace,
    bad_request,
)

KIND = "workspaces"
GIVEN = ("kind", "tags", "identity", "location")  # kept beside the properties
OWN = ("storageAccount", "workspaceId", "provisioningState", "discoveryUrl", "mlFlowTrackingUri")
IN_REGISTRIES = {
    *("codes", "components", "data", "environments", "models"),
    *("datarefs", "import", "tempdatarefs"),
}
DIAGNOSES = (
    "userDefinedRoute",
    "networkSecurityRule",
    "resourceLock",
    "dnsResolution",
    "storageAccount",
    "keyVault",
    "containerRegistry",
    "applicationInsights",
    "other",
)


def get(call: Call) -> Response:
    return JSONResponse(_shown(call, call.workspace))


def list_(call: Call) -> Response:
    """The workspaces this home has been asked for so far, of the URL's resource group if any."""
    scope = call.request.url.path.lower().partition("/providers/")[0] + "/"
    kinds = {kind.lower() for kind in call.query.get("kind", "").split(",") if kind}
    bodies = [
        _shown(call, Workspace(*row.body["triple"]))
        for row in call.local.store.of_kind(KIND)
        if row.id.lower().startswith(scope)
        and (not kinds or str(row.body.get("kind", "Default")).lower() in kinds)
    ]
    return JSONResponse({"value": bodies})


def ensure(call: Call) -> None:
    """Make any workspace that is asked for: unmodified scripts bring their own names.

    A client that logged in to one workspace makes no other by looking whether it is there: that is
    how the SDK begins to create one, perhaps as a hub or project.

    Raises: ArmError 404: it was deleted here, or is not made on demand (strict).
    """
    ws, store = call.workspace, call.local.store
    _check_in_registry(call)
    is_made_now = call.request.method == "PUT" and not call.path["below"]
    if is_made_now or store.get(ws.id) is not None:
        return
    if _is_strict(call) or store.noted(ws.id, "deleted") or ws.collection != KIND:
        message = (
            f"The Resource '{PROVIDER}/{ws.collection}/{ws.name}' under resource group "
            f"'{ws.resource_group}' was not found."
        )
        raise GatewayError(404, "ResourceNotFound", message)
    create(call, {"properties": {}})


def _is_strict(call: Call) -> bool:
    own = identity.workspace_of(identity.bearer(call.request.headers))
    is_look = call.request.method == "GET" and not call.path["below"]
    is_elsewhere = own not in ("", call.workspace.account) and is_look
    return call.local.strict or own == identity.NO_WORKSPACE or is_elsewhere


def _check_in_registry(call: Call) -> None:
    below = call.path["below"].strip("/").partition("/")[0].lower()
    if call.workspace.collection != KIND and below not in IN_REGISTRIES:
        message = f"The local workspace does not emulate {below or 'this'} in registries."
        raise ArmError(501, "NotImplemented", message)


def create(call: Call, asked: Body) -> Resource:
    """Make a workspace with the datastores that every workspace has, or change one."""
    ws, store = call.workspace, call.local.store
    with store.transaction():
        old = store.get(ws.id)
        resource, _ = store.put(ws.id, KIND, _merged(old, asked) | {"triple": list(ws)})
        store.forget(ws.id, "deleted")
        if old is None:
            datastores.make_own(call.local, ws)
    return resource


def _merged(old: Resource | None, asked: Body) -> Body:
    properties = asked.get("properties") or {}
    if not isinstance(properties, dict):
        raise bad_request("The properties of a workspace are a mapping.")
    before = old.body if old else {"properties": {}}
    given = {key: asked[key] for key in GIVEN if asked.get(key) is not None}
    kept = {k: v for k, v in properties.items() if v is not None and k not in OWN}
    return {**before, **given, "properties": {**before["properties"], **kept}}


def put(call: Call) -> Response:
    create(call, call.document())
    return JSONResponse(_shown(call, call.workspace), 200, _operation(call, call.workspace.id))


def patch(call: Call) -> Response:
    create(call, call.document())
    return Response(status_code=202, headers=_operation(call, call.workspace.id))


def delete(call: Call) -> Response:
    """End what runs in a workspace and remove all it knows; the files of its storage stay."""
    ws, store = call.workspace, call.local.store
    call.local.jobs.clear(ws)
    store.delete(ws.id)
    call.local.online.remove_below(ws.id)
    call.local.monitor.forget_below(ws.id)
    store.note(ws.id, "deleted", True)
    call.local.mlflow.forget(ws.account)
    return Response(status_code=202, headers=_operation(call, ws.id))


def list_keys(call: Call) -> Response:
    return JSONResponse(
        {
            "userStorageKey": signatures.account_key(call.local, call.workspace.account),
            "userStorageArmId": blobs.account_id(call.workspace),
            "appInsightsInstrumentationKey": None,
            "containerRegistryCredentials": None,
            "notebookAccessKeys": None,
        }
    )


def resync_keys(call: Call) -> Response:
    """Nothing to do: the keys are derived, never copied."""
    return Response(status_code=202, headers=_operation(call, call.workspace.id))


def diagnose(call: Call) -> Response:
    headers = _operation(call, f"{call.workspace.id}/diagnose")
    return Response(status_code=202, headers={"Location": headers["Location"]})


def operation(call: Call) -> Response:
    """The end of an operation on a workspace: everything here is done when it is answered."""
    id_, resource = arm.operation(call)
    if call.query.get("type") != "location":
        return JSONResponse({"status": "Succeeded", "percentComplete": 100.0})
    if id_.endswith("/diagnose"):
        return JSONResponse({"value": {f"{what}Results": [] for what in DIAGNOSES}})
    if resource is None:
        return Response(status_code=204)
    if resource.kind == KIND:
        return JSONResponse(_shown(call, Workspace(*resource.body["triple"])))
    return JSONResponse(arm.shown(resource))


def _operation(call: Call, id_: str) -> dict[str, str]:
    return arm.lro_headers(call, id_, "workspace")


def _shown(call: Call, ws: Workspace) -> Body:
    row = call.local.store.get(ws.id)
    assert row is not None  # noqa: S101 (`ensure` ran before the handler)
    body = arm.shown(row)
    body.pop("triple")
    assigned = {"type": "SystemAssigned", "principalId": ws.guid, "tenantId": TENANT}
    return {
        "location": REGION,
        "tags": {},
        "etag": None,
        "kind": "Default",
        "sku": {"name": "Basic", "tier": "Basic"},
        **body,
        "type": f"{PROVIDER}/workspaces",
        "identity": {**assigned, **(body.get("identity") or {})},
        "properties": {
            **_properties(call, ws),
            "creationTime": row.created_at,
            **row.properties,
        },
    }


def dependents(ws: Workspace) -> dict[str, str]:
    """The ids of what a workspace is made with, by the property that names it."""
    providers = f"{ws.group_id}/providers"
    return {
        "storageAccount": blobs.account_id(ws),
        "keyVault": f"{providers}/Microsoft.Keyvault/vaults/{ws.account}",
        "applicationInsights": f"{providers}/Microsoft.insights/components/{ws.account}",
    }


def _properties(call: Call, ws: Workspace) -> dict[str, Any]:
    return {
        "friendlyName": ws.name,
        "description": "A workspace on this machine.",
        **dependents(ws),
        "containerRegistry": None,
        "hbiWorkspace": False,
        "tenantId": TENANT,
        "imageBuildCompute": None,
        "provisioningState": "Succeeded",
        "v1LegacyMode": False,
        "softDeleteEnabled": False,
        "storageHnsEnabled": False,
        "workspaceId": ws.guid,
        "publicNetworkAccess": "Enabled",
        "discoveryUrl": f"{call.door.api}/discovery",
        "mlFlowTrackingUri": call.door.mlflow(ws.id),
        "sdkTelemetryAppInsightsKey": None,
        "notebookInfo": _NO_NOTEBOOKS,
        "linkedModelInventoryArmId": None,
        "privateLinkCount": 0,
        "sasGetterUri": "",
        "enableDataIsolation": False,
        "managedNetwork": {"isolationMode": "Disabled"},
    }


_NO_NOTEBOOKS: Body = {
    **dict.fromkeys(("resourceId", "fqdn", "notebookPreparationError")),
    "isPrivateLinkEnabled": False,
}


def discovery(call: Call) -> Response:
    services = "api catalog experimentation gallery history hyperdrive labeling modelmanagement"
    services += " pipelines quota-manager"
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
