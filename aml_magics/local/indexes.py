"""Vector indexes of the generic asset service: stored, in that service's flat form."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import REGION, Call, bad_request, check_name, not_found

KIND = "indexes"
FIELDS = ("stage", "description", "tags", "properties", "storageUri")


def put(call: Call) -> Response:
    for part in ("name", "version"):
        check_name(call.path[part])
    document = call.document()
    if not isinstance(document.get("storageUri"), str):
        raise bad_request("The index has no storageUri.")
    flat = {field: document.get(field) for field in FIELDS}
    store, container = call.local.store, call.arm_id.rsplit("/", 2)[0]
    with store.transaction():
        if store.get(container) is None:
            store.put(container, KIND, {"properties": {}})
        resource, created = store.put(call.arm_id, f"{KIND}/versions", {"properties": flat})
    return JSONResponse(_shown(call, resource), 201 if created else 200)


def get(call: Call) -> Response:
    version = arm.found(call, call.arm_id, _missing(call))
    return JSONResponse(_shown(call, version))


def get_latest(call: Call) -> Response:
    return JSONResponse(_shown(call, _latest(call, call.arm_id)))


def list_versions(call: Call) -> Response:
    rows = call.local.store.children(call.arm_id.rpartition("/")[0], f"{KIND}/versions")
    return JSONResponse({"value": [_shown(call, row) for row in rows]})


def list_latest(call: Call) -> Response:
    containers = call.local.store.children(call.workspace.id, KIND)
    return JSONResponse({"value": [_shown(call, _latest(call, row.id)) for row in containers]})


def next_version(call: Call) -> Response:
    container = call.arm_id.removesuffix(":getNextVersion")
    rows = call.local.store.children(container, f"{KIND}/versions")
    numbers = [int(row.name) for row in rows if row.name.isdecimal()]
    return JSONResponse({"nextVersion": max(numbers, default=0) + 1})


def _latest(call: Call, container: str) -> Resource:
    rows = call.local.store.children(container, f"{KIND}/versions", top=1)
    if not rows:
        raise not_found(_missing(call))
    return rows[0]


def _missing(call: Call) -> str:
    return f"Index {call.path['name']} not found."


def _shown(call: Call, version: Resource) -> Body:
    name = version.parent.rpartition("/")[2]
    place = f"azureml://locations/{REGION}/workspaces/{call.workspace.guid}"
    id_ = f"{place}/indexes/{name}/versions/{version.name}"
    return {"id": id_, **version.properties, "systemData": arm.shown(version)["systemData"]}
