"""Versioned assets: one row of `ASSETS` describes a kind, the handlers serve all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from aml_magics.local import (
    arm,
    blobs,
    components,
    containers,
    doors,
    registry,
    specifications,
    uris,
)
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import ArmError, Call, Workspace, bad_request, check_name, not_found

if TYPE_CHECKING:
    from aml_magics.local.app import Local


class Asset(NamedTuple):
    """A kind of versioned asset.

    `defaults`: what the service adds to a version; `missing`: how it says 404; `complete`: edits
    the properties before they are kept; `adopt`: takes up versions made elsewhere; `identify`:
    the version the service gives; `frozen`: properties that no update may change (409);
    `absent`: the code in the details of the 404 of a container.
    """

    defaults: Body
    missing: str
    complete: Callable[[Call, str, Body], None] | None = None
    adopt: Callable[[Call], None] | None = None
    identify: Callable[[Call, Body], str] | None = None
    frozen: tuple[str, ...] = ()
    absent: str = ""


def list_containers(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    kind = _kind(call)
    body = arm.page(call, call.workspace.id, kind, lambda row: row.name != components.ANONYMOUS)
    for container in body["value"]:
        id_ = f"{call.arm_id}/{container['name']}"
        container["properties"].update(_latest_and_next(call.local, id_, kind))
    return JSONResponse(body)


def get_container(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    message = asset.missing.format(**call.path, version="")
    body = arm.shown(arm.found(call, call.arm_id, message, asset.absent))
    body["properties"].update(_latest_and_next(call.local, call.arm_id, _kind(call)))
    return JSONResponse(body)


def put_container(call: Call) -> Response:
    check_name(call.path["name"])
    kind, body = _kind(call), _properties(call)
    body["properties"] = {**_CONTAINER, **body["properties"]}
    resource, created = call.local.store.put(call.arm_id, kind, body)
    resource.properties.update(_latest_and_next(call.local, call.arm_id, kind))
    return arm.answer(resource, created, call)


def list_versions(call: Call) -> Response:
    """Versions, newest first; `hash` asks for the snapshot with that content (codes)."""
    asset, wanted, stage = _asset(call), call.query.get("hash"), call.query.get("stage")
    if asset.adopt:
        asset.adopt(call)
    if wanted is not None:  # Any code asset with that content will do, whatever its name.
        id_ = call.local.store.noted(f"{call.workspace.id}/codes", f"sha256 {wanted}")
        known = call.local.store.get(id_) if id_ else None
        return JSONResponse({"value": [arm.shown(known)] if known else []})
    parent, kind = call.arm_id.rpartition("/")[0], f"{_kind(call)}/versions"
    keep = stage and (lambda row: row.properties.get("stage") == stage)
    return JSONResponse(arm.page(call, parent, kind, keep or None))


def get_version(call: Call) -> Response:
    asset = _asset(call)
    if asset.adopt:
        asset.adopt(call)
    message = asset.missing.format(**call.path)
    if call.path["version"] != DEFAULT_VERSION:
        return JSONResponse(arm.shown(arm.found(call, call.arm_id, message)))
    kind = f"{_kind(call)}/versions"
    container = call.arm_id.rsplit("/", 2)[0]
    latest = call.local.store.children(container, kind, view="ActiveOnly", top=1)
    if not latest:
        raise not_found(message)
    return JSONResponse(arm.shown(latest[0]))


def put_version(call: Call) -> Response:
    """Create or update a version; its container is made with the first one."""
    for part in ("name", "version"):
        check_name(call.path[part])
    call, resource, created = _put_version(call, _properties(call))
    if call.workspace.collection == "registries":
        is_environment = _kind(call) == "environments"
        dialect = "environment" if is_environment else "assetstore"
        headers = arm.lro_headers(call, call.arm_id, dialect)
        headers.pop("Azure-AsyncOperation")  # registries tell the one place only
        return Response(b"null", 202, headers, "application/json")
    return arm.answer(resource, created, call)


def register(
    local: Local, ws: Workspace, collection: str, name: str, properties: Body, *, version: str = ""
) -> str:
    """Make a version of an asset for the workspace itself; without a version, the next.

    Returns: the version.
    """
    check_name(name)
    container = f"{ws.id}/{collection}/{name}"
    version = version or _latest_and_next(local, container, collection)["nextVersion"]
    below = f"/{collection}/{name}/versions/{version}"
    path = {"collection": collection, "name": name, "version": version, "below": below}
    request = Request({"type": "http", "method": "PUT", "headers": []})
    _put_version(Call(request, path, b"", doors.CLOUD, local, ws), {"properties": properties})
    return version


def _put_version(call: Call, body: Body) -> tuple[Call, Resource, bool]:
    asset, kind = _asset(call), _kind(call)
    properties = {
        **asset.defaults,
        **{k: v for k, v in body["properties"].items() if v is not None},
    }
    body["properties"] = properties
    if asset.identify:
        call = _at_version(call, asset.identify(call, properties))
    if kind == "models":
        call.local.mlflow.app()  # to load it takes seconds, which nobody waits for the store
    with call.local.store.transaction():
        arm.check_match(call, call.arm_id)
        if asset.complete:
            asset.complete(call, call.path["version"], properties)
        _check_frozen(call, asset, properties)
        container = call.arm_id.rsplit("/", 2)[0]
        if call.local.store.get(container) is None:
            call.local.store.put(container, kind, _container(properties))
        resource, created = call.local.store.put(call.arm_id, f"{kind}/versions", body)
    return call, resource, created


def start_pending_upload(call: Call) -> Response:
    """A fresh container for one upload, with a SAS that may write to it."""
    container, uri, sas_uri = containers.new_container(call.local, call.workspace, call.door)
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


def _at_version(call: Call, version: str) -> Call:
    below = f"{call.path['below'].rpartition('/')[0]}/{version}"
    return call._replace(path={**call.path, "version": version, "below": below})


def _check_frozen(call: Call, asset: Asset, properties: Body) -> None:
    old = call.local.store.get(call.arm_id)
    for field in asset.frozen if old else ():
        if old and old.properties.get(field) != properties.get(field):
            name, version = call.path["name"], call.path["version"]
            message = f"{name} has a version {version} already, whose {field} cannot be changed."
            raise ArmError(409, "UserError", f"{message} Use another version.", "Conflict")


def _kind(call: Call) -> str:
    return _NAMES[call.path["collection"].lower()]


def _asset(call: Call) -> Asset:
    return ASSETS[_kind(call)]


def _properties(call: Call) -> Body:
    body = call.document()
    if not isinstance(body.get("properties"), dict):
        raise ArmError(400, "UserError", "The request has no properties.", "BadRequest")
    return body


def _container(version: Body) -> Body:
    shared = {key: version[key] for key in ("dataType",) if key in version}
    return {"properties": {**_CONTAINER, **shared}}


def _latest_and_next(local: Local, container: str, kind: str) -> Body:
    versions = local.store.names(container, f"{kind}/versions")
    active = [name for name, is_archived in versions if not is_archived]
    numbers = [int(name) for name, _ in versions if name.isdecimal()]
    return {
        "latestVersion": active[0] if active else None,
        "nextVersion": str(max(numbers, default=0) + 1),
    }


def _complete_code(call: Call, version: str, properties: Body) -> None:
    """Know a snapshot by its content; the place that its content has is not changed."""
    old = call.local.store.get(call.arm_id)
    wanted, known = _hash(properties), _hash(old.properties) if old else None
    if old and wanted == known:
        properties["codeUri"] = old.properties["codeUri"]
    if wanted:
        call.local.store.note(f"{call.workspace.id}/codes", f"sha256 {wanted}", call.arm_id)


def _hash(properties: Body) -> str | None:
    found: str | None = (properties.get("properties") or {}).get("hash_sha256")
    return found


def _complete_data(call: Call, version: str, properties: Body) -> None:
    properties["dataUri"] = uris.long_uri(call.workspace, properties.get("dataUri") or "")


def _adopt_curated(call: Call) -> None:
    """Curated environments answer to any name: jobs run them with the daemon's interpreter."""
    name, ws = call.path.get("name", ""), call.workspace
    is_curated = name.lower().startswith("azureml-") and ws.collection == "workspaces"
    if not is_curated and (ws.collection, ws.name) != ("registries", "azureml"):
        return
    version = call.path.get("version", "1")
    container = f"{ws.id}/environments/{name}"
    if not name or call.local.store.get(f"{container}/versions/{version}"):
        return
    properties = {
        **ASSETS["environments"].defaults,
        "environmentType": "Curated",
        "image": f"mcr.microsoft.com/azureml/curated/{name}:{version}",
        "condaFile": "",
    }
    with call.local.store.transaction():
        if call.local.store.get(container) is None:
            call.local.store.put(container, "environments", _container(properties))
        body = {"properties": properties}
        call.local.store.put(f"{container}/versions/{version}", "environments/versions", body)


def _complete_environment(call: Call, version: str, properties: Body) -> None:
    if isinstance(properties.get("build"), dict):
        build = {"dockerfilePath": "Dockerfile", **properties["build"]}
        if not all(isinstance(value, str) for value in build.values() if value is not None):
            raise bad_request("The build of an environment is a contextUri and a dockerfilePath.")
        build["contextUri"] = uris.long_uri(call.workspace, build.get("contextUri") or "")
        properties["build"] = build
    conda = properties.get("condaFile") or ""
    properties["condaFile"] = conda if isinstance(conda, str) else json.dumps(conda)
    if properties["condaFile"]:
        try:
            specifications.mapping(properties["condaFile"])
        except specifications.BuildFailed as exc:
            raise bad_request(str(exc)) from exc


_CONTAINER: Body = {"description": None, "tags": {}, "properties": {}, "isArchived": False}
_UNSET = dict.fromkeys(("autoDeleteSetting", "intellectualProperty", "stage"))
_COMMON: Body = {**_CONTAINER, **_UNSET, "isAnonymous": False}
_FEATURES: Body = {"stage": None, "provisioningState": "Succeeded"}
DEFAULT_VERSION = "azureml_default"  # what clients ask for when they name no version
ASSETS = {
    "codes": Asset(
        {**_COMMON, "codeUri": None, "provisioningState": "Succeeded"},
        "Code version with name: {name} version: {version} not found.",
        _complete_code,
        frozen=("codeUri",),
    ),
    "components": Asset(
        {**_CONTAINER, "isAnonymous": False},
        "Not found component {name}.",
        components.complete,
        identify=components.identify,
    ),
    "data": Asset(
        {**_COMMON, "dataUri": None, "dataType": "uri_folder"},
        "Data asset with name: {name} version: {version} not found.",
        _complete_data,
        frozen=("dataUri", "dataType"),
    ),
    "environments": Asset(
        {
            **_COMMON,
            "environmentType": "UserCreated",
            "image": None,
            "osType": "Linux",
            "autoRebuild": "Disabled",
            "provisioningState": "Succeeded",
        },
        "No environment exists for name: {name}, version: {version}, label: ",
        _complete_environment,
        _adopt_curated,
        frozen=("image", "condaFile", "build", "osType"),
    ),
    "featuresets": Asset(
        {
            **_COMMON,
            **_FEATURES,
            "specification": None,
            "entities": [],
            "materializationSettings": None,
        },
        "Featureset with name: {name} version: {version} not found.",
        frozen=("specification", "entities"),
    ),
    "featurestoreEntities": Asset(
        {**_COMMON, **_FEATURES, "indexColumns": []},
        "Featurestore entity with name: {name} version: {version} not found.",
        frozen=("indexColumns",),
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
        frozen=("modelUri", "modelType"),
        absent="ModelNotFound",
    ),
}
_NAMES = {name.lower(): name for name in ASSETS}
