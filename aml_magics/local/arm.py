"""How ARM shows resources: single ones, pages of them, and operations that take time."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from aml_magics.local.bodies import USER
from aml_magics.local.controllers.run import TERMINAL
from aml_magics.local.store import Body, Resource, now
from aml_magics.local.wire import (
    PROVIDER,
    REGION,
    ArmError,
    Call,
    bad_request,
    error_body,
    not_found,
)

PAGE = 100
MOST_ROWS = 1000  # a page is at most as long, and no more is in memory at once
MOST = 2**61  # two of them are a number that SQLite knows


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
    _, is_in_registry, below = resource.id.partition(f"/providers/{PROVIDER}/registries/")
    id_ = f"azureml://registries/{below}" if is_in_registry else resource.id
    head = {"id": id_, "name": resource.name, "type": kind}
    return {**head, **resource.body, "etag": resource.etag, "systemData": system}


def answer(resource: Resource, created: bool, call: Call, **headers: str) -> Response:
    """201 with its Location for what is new, 200 for what was there."""
    location = {"Location": call.door.arm + str(call.request.url.path)} if created else {}
    headers = {"ETag": resource.etag, **location, **headers}
    return JSONResponse(shown(resource), 201 if created else 200, headers)


def check_match(call: Call, id: str) -> None:  # noqa: A002
    """Refuse a write whose If-Match or If-None-Match does not fit what is there.

    Raises: ArmError 412. To be called in the transaction of the write.
    """
    resource = call.local.store.get(id)
    etag = resource.etag if resource else None
    wanted, unwanted = (call.request.headers.get(key) for key in ("if-match", "if-none-match"))
    is_met = wanted is None or (etag is not None and wanted in ("*", etag))
    if not is_met or (etag is not None and unwanted in ("*", etag)):
        message = "The condition given in the request header(s) was not satisfied."
        raise ArmError(412, "PreconditionFailed", message)


def found(call: Call, id: str, message: str, detail: str = "") -> Resource:  # noqa: A002
    resource = call.local.store.get(id)
    if resource is None:
        raise not_found(message, detail)
    return resource


def page(
    call: Call, parent: str, kind: str, keep: Callable[[Resource], bool] | None = None
) -> Body:
    """A page of a listing, newest first, with the absolute URL of the next one."""
    query = call.query
    top = min(_whole_number(query, "$top", PAGE) or PAGE, MOST_ROWS)
    skip = _whole_number(query, "$skip", 0)
    before = _whole_number(query, "$skiptoken", MOST)
    view = query.get("listviewtype", "ActiveOnly")
    piece = min(skip + top, MOST_ROWS) + 1
    rows = call.local.store.walk(parent, kind, view=view, before=before, piece=piece)
    chosen = list(islice(filter(keep, rows) if keep else rows, skip, skip + top + 1))
    body: Body = {"value": [shown(row) for row in chosen[:top]]}
    if len(chosen) > top:
        asked = call.request.query_params.items()
        rest = {key: value for key, value in asked if key.lower() not in ("$skip", "$skiptoken")}
        rest["$skipToken"] = str(chosen[top - 1].sequence)
        body["nextLink"] = f"{call.door.arm}{call.request.url.path}?{urlencode(rest)}"
    return body


def _whole_number(query: Any, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 19 or int(text) > MOST:
        raise bad_request(f"{name} is not a whole number from 0: {text}")
    return int(text)


# Long-running operations: the operation's id names the resource, whose state is the answer.

BUSY = {"Creating", "Updating", "Deleting", "Accepted"}


# Service that does the work → what its operations' URLs are called: status, result.
DIALECTS = {
    "mfe": ("{base}/mfeOperationsStatus", "{base}/mfeOperationResults"),
    "compute": ("{base}/computeOperationsStatus",) * 2,
    "workspace": ("{base}/workspaceOperationsStatus",) * 2,
    "registry": ("{base}/registryOperationsStatus",) * 2,
    "assetstore": ("{api}/assetstore/v1.0/operations",) * 2,
    "environment": ("{api}/environment/v1.0/operations",) * 2,
}


def lro_headers(call: Call, id: str, dialect: str = "mfe") -> dict[str, str]:  # noqa: A002
    """The headers by which a client follows what happens to a resource.

    Args: dialect: a key of `DIALECTS`.
    """
    token = urlsafe_b64encode(id.encode()).decode().rstrip("=")
    base = f"{call.door.arm}/subscriptions/{call.path['subscription']}/providers/{PROVIDER}"
    status, result = (
        f"{name.format(base=f'{base}/locations/{REGION}', api=call.door.api)}/{token}?api-version=1"
        for name in DIALECTS[dialect]
    )
    return {
        "Azure-AsyncOperation": f"{status}&type=async",
        "Location": f"{result}&type=location",
        "x-ms-async-operation-timeout": "PT30M",
        "x-ms-retry-after-ms": "100",  # Retry-After is in whole seconds
    }


def operation(call: Call) -> tuple[str, Resource | None]:
    """The id that an operation is about, and its resource unless that is gone."""
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
    id_, resource = operation(call)
    state = resource.properties.get("provisioningState", "Succeeded") if resource else "Succeeded"
    body: Body = {"id": str(call.request.url.path), "name": call.path["operation"]}
    body["startTime"] = resource.modified_at if resource else now()
    if state == "Failed":
        error = call.local.store.noted(id_, "error") or {"message": "The operation failed."}
        body.update(error_body("UserError", error["message"]))
    done = state not in BUSY
    body.update(status=state, percentComplete=100.0 if done else 0.0)
    return JSONResponse(body, headers={} if done else {"x-ms-retry-after-ms": "100"})


def operation_result(call: Call) -> Response:
    _, resource = operation(call)
    if resource and _is_busy(resource):
        here = call.door.arm + str(call.request.url.path)
        return JSONResponse({}, 202, {"Location": here, "x-ms-retry-after-ms": "100"})
    return Response(status_code=200)
