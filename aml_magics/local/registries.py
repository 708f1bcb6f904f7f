"""Registries: made, found by name, and filled with assets by the same code as a workspace."""

from __future__ import annotations

import re
import shutil
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import app, arm, assets, blobs, containers, signatures, uris
from aml_magics.local.daemon import DEFAULT_SUBSCRIPTION
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import (
    PROVIDER,
    REGION,
    TENANT,
    ArmError,
    Call,
    Workspace,
    bad_request,
    check_name,
    not_found,
)

KIND = "registries"
SHARED = ("data", "environments", "models")
_SOURCE = re.compile(
    r"azureml://locations/[^/]+/workspaces/(?P<guid>[^/]+)/(\w+)/([^/]+)/versions/([^/]+)"
)
PUBLIC = "azureml"  # the registry of curated assets that everyone can read


def put(call: Call) -> Response:
    check_name(call.path["registry"])
    document = call.document()
    if not isinstance(document.get("properties"), dict):
        raise bad_request("The registry has no properties.")
    ws = _scope(call)
    body: Body = {
        "tags": document.get("tags") or {},
        "location": document.get("location") or REGION,
        "properties": document["properties"],
    }
    call.local.store.put(ws.id, KIND, {**body, "scope": list(ws)})
    return Response(b"null", 202, _operation(call, ws.id), "application/json")


def get(call: Call) -> Response:
    return JSONResponse(_shown(call, _found(call, _scope(call).id)))


def list_(call: Call) -> Response:
    scope = call.request.url.path.lower().partition("/providers/")[0] + "/"
    rows = call.local.store.of_kind(KIND)
    chosen = [_shown(call, row) for row in rows if row.id.lower().startswith(scope)]
    return JSONResponse({"value": chosen})


def delete(call: Call) -> Response:
    id_ = _scope(call).id
    if not call.local.store.delete(id_):
        return Response(status_code=204)
    return Response(b"null", 202, _operation(call, id_), "application/json")


def operation(call: Call) -> Response:
    """The end of an operation on a registry: everything here is done when it is answered."""
    _, resource = arm.operation(call)
    if call.query.get("type") != "location":
        return JSONResponse({"status": "Succeeded", "percentComplete": 100.0})
    return JSONResponse(_shown(call, resource)) if resource else Response(status_code=204)


def discover(call: Call) -> Response:
    """Where a registry is, by its name alone."""
    name = call.path["registry"]
    ws = uris.registry(call.local, name)
    if ws is None and name.lower() == PUBLIC:
        ws = app.workspace(DEFAULT_SUBSCRIPTION, PUBLIC, PUBLIC, KIND)
        body = {"tags": {}, "location": REGION, "properties": {}, "scope": list(ws)}
        call.local.store.put(ws.id, KIND, body)
    if ws is None:
        raise not_found(f"Registry {name} not found.")
    uri = f"{call.door.api}/"
    return JSONResponse(
        {
            "registryId": ws.guid,
            "registryName": ws.name,
            "tenantId": TENANT,
            "primaryRegion": REGION,
            "regions": [REGION],
            "subscriptionId": ws.subscription,
            "resourceGroup": ws.resource_group,
            "workspaceName": None,
            "primaryRegionResourceProviderUri": uri,
            "registryFqdns": {REGION: {"uri": uri}},
        }
    )


def upload_reference(call: Call) -> Response:
    """A fresh container for one upload, with a SAS that may write to it."""
    container, uri, sas_uri = containers.new_container(call.local, call.workspace, call.door)
    return JSONResponse(
        {
            "blobReferenceForConsumption": _reference(call, uri, sas_uri),
            "imageReferenceForConsumption": None,
            "temporaryDataReferenceId": container,
            "temporaryDataReferenceType": None,
        }
    )


def download_reference(call: Call) -> Response:
    """A SAS to read the container that an asset of the registry is in."""
    uri, account = str(call.document().get("blobUri") or ""), call.workspace.account
    match = re.match(rf"https://{account}\.blob\.core\.windows\.net(?::443)?/(?P<name>[^/]+)", uri)
    if match is None:
        raise bad_request(f"{uri} is not in the storage of this registry.")
    sas = signatures.sas(call.local, account, match["name"], allow="rl")
    sas_uri = f"{call.door.blob(account)}/{match['name']}?{sas}"
    return JSONResponse({"blobReferenceForConsumption": _reference(call, uri, sas_uri)})


def import_asset(call: Call) -> Response:
    """Share a version of an asset of a workspace: what it is and the bytes it names are copied.

    Raises: ArmError 404: it is not there; 409: the registry has that version; 501: its kind.
    """
    asked = call.document().get("properties")
    source = _SOURCE.fullmatch(str(asked.get("sourceAssetId"))) if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or source is None:
        raise bad_request("sourceAssetId names no asset of a workspace.")
    _, kind, name, version = source.groups()
    if kind not in SHARED:
        message = f"The local workspace does not share {kind}, only {', '.join(SHARED)}."
        raise ArmError(501, "NotImplemented", message)
    row = call.local.store.get(f"{_workspace(call, source)}/{kind}/{name}/versions/{version}")
    if row is None:
        raise not_found(f"{asked['sourceAssetId']} is not on this machine.")
    name, version = (
        str(asked.get(field) or own)
        for field, own in (("destinationName", name), ("destinationVersion", version))
    )
    id_ = f"{call.workspace.id}/{kind}/{name}/versions/{version}"
    if call.local.store.get(id_):
        raise ArmError(409, "UserError", f"The registry has {name}:{version} already.", "Conflict")
    properties = {**_copied(call, row), "originAssetId": asked["sourceAssetId"]}
    assets.register(call.local, call.workspace, kind, name, properties, version=version)
    headers = arm.lro_headers(call, f"{id_}/import", "assetstore")
    headers.pop("Azure-AsyncOperation")  # registries tell the one place only
    return Response(b"null", 202, headers, "application/json")


def _workspace(call: Call, source: re.Match[str]) -> str:
    """The id of the workspace that an asset id names by its guid."""
    rows = call.local.store.of_kind("workspaces")
    ids = (row.id for row in rows if call.local.workspace_of(row.id).guid == source["guid"].lower())
    return next(ids, "")


def _copied(call: Call, row: Resource) -> Body:
    """The properties of an asset with its files in the storage of the registry."""
    properties, ws = {**row.properties, "isArchived": False}, call.local.workspace_of(row.id)
    for field in ("dataUri", "modelUri"):
        if properties.get(field):
            properties[field] = _copied_files(call, ws, properties[field])
    if properties.get("build"):
        context = _copied_files(call, ws, properties["build"]["contextUri"])
        properties["build"] = {**properties["build"], "contextUri": context}
    return properties


def _copied_files(call: Call, ws: Workspace, uri: str) -> str:
    """Copy what a URI names into the registry; data elsewhere stays where it is."""
    try:
        source = uris.local_path(call.local, ws, uri)
    except ArmError as exc:
        if exc.status == 404:
            raise
        return uri
    name, lasting, _ = containers.new_container(call.local, call.workspace, call.door)
    target = uris.container(call.local, call.workspace.account, name) / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return f"{lasting}/{source.name}"


def asset_operation(call: Call) -> Response:
    """The end of a write to a registry: the id of what was written, or nothing after an import."""
    id_, _ = arm.operation(call)
    if id_.endswith("/import"):
        return Response(status_code=204)
    scope, _, below = id_.partition("/registries/")
    return JSONResponse({"assetId": f"azureml://registries/{below}"} if scope else {})


def environment_operation(call: Call) -> Response:
    """The end of a write of an environment, which the service tells without a body."""
    arm.operation(call)
    return Response(status_code=200)


def _reference(call: Call, uri: str, sas_uri: str) -> Body:
    return {
        "blobUri": uri,
        "storageAccountArmId": blobs.account_id(call.workspace),
        "credential": {"credentialType": "SAS", "sasUri": sas_uri, "wasbsUri": None},
    }


def _scope(call: Call) -> Workspace:
    path = call.path
    return app.workspace(path["subscription"], path["group"], path["registry"], KIND)


def _operation(call: Call, id_: str) -> dict[str, str]:
    return arm.lro_headers(call, id_, "registry")


def _found(call: Call, id_: str) -> Resource:
    return arm.found(call, id_, f"Registry {call.path['registry']} not found.")


def _region(ws: Workspace, asked: Any) -> Any:
    """A region with the names of the accounts that were made for it."""
    if not isinstance(asked, dict):
        return asked
    made = {
        "storageAccountDetails": ("StorageAccount", "storageAccountName", blobs.account_id(ws)),
        "acrDetails": ("AcrAccount", "acrAccountName", None),
    }
    return {**asked, **{key: _accounts(asked.get(key), *about) for key, about in made.items()}}


def _accounts(details: Any, kind: str, field: str, id_: str | None) -> Any:
    if not isinstance(details, list):
        return details
    own = {field: id_ and id_.rpartition("/")[2], "armResourceId": {"resourceId": id_}}
    system, user = f"systemCreated{kind}", f"userCreated{kind}"
    return [
        {user: None, **one, **({system: {**own, **one[system]}} if one.get(system) else {})}
        if isinstance(one, dict)
        else one
        for one in details
    ]


def _shown(call: Call, row: Resource) -> Body:
    ws = Workspace(*row.body["scope"])
    body = {key: value for key, value in row.body.items() if key != "scope"}
    name = ws.name
    own = {
        "publicNetworkAccess": "Enabled",
        "intellectualPropertyPublisher": None,
        "discoveryUrl": f"{call.door.api}/registrymanagement/v1.0/registries/{name}/discovery",
        "mlFlowRegistryUri": None,
        "managedResourceGroup": {"resourceId": ws.group_id},
    }
    head = {"id": ws.id, "name": name, "type": f"{PROVIDER}/registries", "systemData": None}
    identity = {"type": "SystemAssigned", "principalId": ws.guid, "tenantId": TENANT}
    properties = {**own, **row.properties}
    regions = properties.get("regionDetails")
    if isinstance(regions, list):
        properties["regionDetails"] = [_region(ws, one) for one in regions]
    return {**head, **body, "identity": identity, "properties": properties}
