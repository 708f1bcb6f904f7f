"""Datastores: the four of every workspace, and those that clients describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, signatures, uris
from aml_magics.local.store import Body
from aml_magics.local.wire import Call, Workspace, bad_request, check_name

if TYPE_CHECKING:
    from aml_magics.local.app import Local

KIND = "datastores"
DEFAULTS: Body = {
    "description": None,
    "tags": {},
    "properties": {},
    "isDefault": False,
    "serviceDataAccessAuthIdentity": "None",
}
# What tells each type where its data is.
PLACES = {
    "AzureBlob": ("accountName", "containerName"),
    "AzureFile": ("accountName", "fileShareName"),
    "AzureDataLakeGen1": ("storeName",),
    "AzureDataLakeGen2": ("accountName", "filesystem"),
    "OneLake": ("oneLakeWorkspaceName", "artifact"),
}
CREDENTIALS = ("AccountKey", "Certificate", "None", "Sas", "ServicePrincipal")


def make_own(local: Local, ws: Workspace) -> None:
    """Make the datastores that every workspace has, on its own storage account."""
    for name, container in uris.datastores(ws).items():
        uris.container(local, ws.account, container).mkdir(parents=True, exist_ok=True)
        body = {"properties": _own(ws, name, container)}
        local.store.put(f"{ws.id}/datastores/{name}", KIND, body)


def _own(ws: Workspace, name: str, container: str) -> Body:
    file_share = name.startswith("workspacef") or name.startswith("workspacew")
    place = {"fileShareName": container} if file_share else {"containerName": container}
    return {
        **DEFAULTS,
        "tags": None,
        "properties": None,
        "isDefault": name == "workspaceblobstore",
        "credentials": {"credentialsType": "AccountKey"},
        "datastoreType": "AzureFile" if file_share else "AzureBlob",
        "accountName": ws.account,
        **place,
        "endpoint": "core.windows.net",
        "protocol": "https",
    }


def list_(call: Call) -> Response:
    only_default = call.query.get("isdefault", "").lower() == "true"
    return JSONResponse(
        arm.page(
            call,
            call.workspace.id,
            KIND,
            lambda row: bool(row.properties.get("isDefault")) or not only_default,
        )
    )


def get(call: Call) -> Response:
    return JSONResponse(arm.shown(arm.found(call, call.arm_id, _missing(call))))


def put(call: Call) -> Response:
    """Describe a datastore; its secrets are kept apart, and only `listSecrets` gives them."""
    check_name(call.path["name"])
    store, properties = call.local.store, _asked(call)
    credentials = dict(properties.get("credentials") or {"credentialsType": "None"})
    secrets = credentials.pop("secrets", None)
    if str(credentials.get("credentialsType")) not in CREDENTIALS:
        raise bad_request(f"credentialsType is none of {', '.join(CREDENTIALS)}.")
    properties["credentials"] = credentials
    with store.transaction():
        arm.check_match(call, call.arm_id)
        if properties["isDefault"]:
            _end_default(call)
        resource, created = store.put(call.arm_id, KIND, {"properties": properties})
        if secrets is not None:
            store.note(call.arm_id, "secrets", secrets)
    return arm.answer(resource, created, call)


def delete(call: Call) -> Response:
    if call.path["name"] in uris.datastores(call.workspace):
        raise bad_request(f"Datastore {call.path['name']} is the workspace's own.")
    existed = call.local.store.delete(call.arm_id)
    return Response(status_code=200 if existed else 204)


def list_secrets(call: Call) -> Response:
    """The secrets of a datastore; for those on the workspace's account its real key.

    Raises: ArmError 400: it has none.
    """
    id_ = call.arm_id.rpartition("/")[0]
    properties = arm.found(call, id_, _missing(call)).properties
    kept = call.local.store.noted(id_, "secrets")
    if kept:
        return JSONResponse(kept)
    if properties.get("accountName") != call.workspace.account:
        raise bad_request(f"Datastore {call.path['name']} has no secrets.")
    key = signatures.account_key(call.local, call.workspace.account)
    return JSONResponse({"secretsType": "AccountKey", "key": key})


def _asked(call: Call) -> Body:
    asked: Any = call.document().get("properties")
    if not isinstance(asked, dict) or str(asked.get("datastoreType")) not in PLACES:
        raise bad_request(f"datastoreType is none of {', '.join(PLACES)}.")
    if not isinstance(asked.get("credentials") or {}, dict):
        raise bad_request("The credentials of a datastore are a mapping.")
    for field in PLACES[asked["datastoreType"]]:
        if not asked.get(field):
            raise bad_request(f"A datastore of type {asked['datastoreType']} needs {field}.")
    return {**DEFAULTS, **{key: value for key, value in asked.items() if value is not None}}


def _end_default(call: Call) -> None:
    for row in call.local.store.children(call.workspace.id, KIND):
        if row.properties.get("isDefault"):
            call.local.store.update(row.id, lambda properties: properties.update(isDefault=False))


def _missing(call: Call) -> str:
    return f"Could not find datastore: {call.path['name']}."
