"""Resources that are kept as they are put: one row of `KINDS` describes a kind.

Nothing here runs. What a row's requests would start is answered 501 by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, schedules
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import (
    REGION,
    AccountError,
    ArmError,
    Call,
    bad_request,
    check_name,
    not_found,
)

if TYPE_CHECKING:
    from aml_magics.local.app import Local

_NOTHING: Body = {}


class Kind(NamedTuple):
    """A kind of resource.

    `defaults`: properties the service adds; `missing`: how it says 404; `dialect`: whose operations
    a client follows after a write (a key of `arm.DIALECTS`, or "" when the answer is the end);
    `envelope`: what it adds beside the properties; `required`: properties a client must give;
    `complete`: edits a body before it is kept; `changed`: is told what was there and what is now,
    in the transaction of a write; `show`: edits a body before it is shown; `refuse`: raises when a
    resource must not be deleted; `secret`: the property kept apart from the body; `absent`: makes
    the 404, with the message for it.
    """

    defaults: Body
    missing: str
    dialect: str = ""
    envelope: Body = _NOTHING
    required: tuple[str, ...] = ()
    complete: Callable[[Call, Body], None] | None = None
    changed: Callable[[Local, Resource | None, Resource], None] | None = None
    show: Callable[[Call, Body], None] | None = None
    refuse: Callable[[Resource], None] | None = None
    secret: str = ""
    absent: Callable[[str], ArmError] = not_found


def list_(call: Call) -> Response:
    kind, name = _kind(call)
    parent = call.arm_id.rpartition("/")[0]
    _check_parent(call, name, parent)
    body = arm.page(call, parent, name, _keep(call))
    for item in body["value"]:
        _decorate(call, kind, item)
    return JSONResponse(body)


def get(call: Call) -> Response:
    kind, _ = _kind(call)
    return JSONResponse(_shown(call, kind, _found(call, kind, call.arm_id)))


def put(call: Call) -> Response:
    """Create or replace a resource; it is there when the request is answered."""
    kind, name = _kind(call)
    check_name(call.path["name"])
    body, secret = _asked(call, kind)
    with call.local.store.transaction():
        arm.check_match(call, call.arm_id)
        _check_parent(call, name, call.arm_id.rsplit("/", 2)[0])
        if kind.complete:
            kind.complete(call, body)
        old = call.local.store.get(call.arm_id)
        resource, _ = call.local.store.put(call.arm_id, name, body)
        if kind.changed:
            kind.changed(call.local, old, resource)
        if secret is not None:
            call.local.store.note(call.arm_id, "secret", secret)
    headers = arm.lro_headers(call, call.arm_id, kind.dialect) if kind.dialect else {}
    if headers:
        headers["Location"] = call.door.arm + str(call.request.url.path)
    status = 201 if kind.dialect == "mfe" else 200
    return JSONResponse(_shown(call, kind, resource), status, headers)


def patch(call: Call) -> Response:
    """Change some of a resource: tags and properties are merged, a null removes."""
    kind, name = _kind(call)
    asked = call.document()
    with call.local.store.transaction():
        arm.check_match(call, call.arm_id)
        old = _found(call, kind, call.arm_id)
        body = _merged(old.body, asked)
        if not isinstance(body.get("properties"), dict):
            raise bad_request("The properties of a resource are a mapping.")
        secret = body["properties"].pop(kind.secret, None)
        if kind.complete:
            kind.complete(call, body)
        resource, _ = call.local.store.put(call.arm_id, name, body)
        if kind.changed:
            kind.changed(call.local, old, resource)
        if secret is not None:
            call.local.store.note(call.arm_id, "secret", secret)
    return JSONResponse(_shown(call, kind, resource))


def delete(call: Call) -> Response:
    kind, _ = _kind(call)
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        return Response(status_code=204)
    if kind.refuse:
        kind.refuse(resource)
    call.local.store.delete(call.arm_id)
    if not kind.dialect:
        return Response(status_code=200)
    headers = arm.lro_headers(call, call.arm_id, kind.dialect)
    return Response(b"null", 202, headers, "application/json")


def list_secrets(call: Call) -> Response:
    """A connection with its credentials."""
    connection = found(call, "connections")
    body = _shown(call, KINDS["connections"], connection)
    body["properties"]["credentials"] = call.local.store.noted(connection.id, "secret")
    return JSONResponse(body)


def found(call: Call, name: str) -> Resource:
    """The resource that the operation at the end of the URL is about, of the kind of that name."""
    return _found(call, KINDS[name], call.arm_id.rpartition("/")[0])


def cannot_run(call: Call) -> Response:
    """Refuse what a stored resource would have to do.

    Raises: ArmError 501: always.
    """
    what = f"{call.request.method} {call.request.url.path}"
    message = f"The local workspace only stores this kind of resource; it does not emulate {what}."
    raise ArmError(501, "NotImplemented", message)


def _kind(call: Call) -> tuple[Kind, str]:
    name = "/".join(filter(None, (call.path["collection"], call.path.get("nested"))))
    canonical = _NAMES[name.lower()]
    return KINDS[canonical], canonical


def _asked(call: Call, kind: Kind) -> tuple[Body, Any]:
    document = call.document()
    asked: Any = document.get("properties")
    if not isinstance(asked, dict):
        raise bad_request("The request has no properties.")
    given = {key: value for key, value in asked.items() if value is not None}
    absent = [field for field in kind.required if field not in given]
    if absent:
        raise bad_request(f"The request has no {' and no '.join(absent)}.")
    secret = given.pop(kind.secret, None)
    beside = {k: v for k, v in document.items() if k in kind.envelope and v is not None}
    state = {"provisioningState": "Succeeded"} if kind.dialect == "mfe" else {}
    properties = {**kind.defaults, **given, **state}
    return {**kind.envelope, **beside, "properties": properties}, secret


def _merged(before: Any, changes: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(changes, dict):
        return changes
    merged = {**before, **{key: _merged(before.get(key), changes[key]) for key in changes}}
    return {key: value for key, value in merged.items() if changes.get(key, value) is not None}


def _found(call: Call, kind: Kind, id_: str) -> Resource:
    resource = call.local.store.get(id_)
    if resource is None:
        raise kind.absent(kind.missing.format(**call.path))
    return resource


def _check_parent(call: Call, name: str, parent: str) -> None:
    if "/" in name and call.local.store.get(parent) is None:
        kind = KINDS[name.rpartition("/")[0]]
        raise kind.absent(kind.missing.format(name=call.path["parent"]))


def _shown(call: Call, kind: Kind, resource: Resource) -> Body:
    body = arm.shown(resource)
    _decorate(call, kind, body)
    return body


def _decorate(call: Call, kind: Kind, body: Body) -> None:
    if kind.secret:
        body["properties"][kind.secret] = None
    if kind.show:
        kind.show(call, body)


def _keep(call: Call) -> Callable[[Resource], bool]:
    """The filters a listing may name: a connection's category, whether a schedule is enabled."""
    category, view = call.query.get("category", "").lower(), call.query.get("listviewtype", "")
    enabled = {"enabledonly": True, "disabledonly": False}.get(view.lower())
    return lambda row: (
        (category in ("", str(row.properties.get("category")).lower()))
        and (enabled in (None, row.properties.get("isEnabled")))
    )


# What the rows do beyond storing


def _complete_batch_endpoint(call: Call, body: Body) -> None:
    properties = body["properties"]
    properties["authMode"] = "AADToken"
    name = (properties.get("defaults") or {}).get("deploymentName")
    if name and call.local.store.get(f"{call.arm_id}/deployments/{name}") is None:
        raise bad_request(f"The default deployment {name} does not exist.")


def _show_batch_endpoint(call: Call, body: Body) -> None:
    uri = call.door.scoring(call.workspace.account, body["name"])
    body["properties"].update(scoringUri=uri.removesuffix("score") + "jobs", swaggerUri=None)


def _no_endpoint(message: str) -> ArmError:
    return ArmError(404, "NotFound", message, detail="NoSuchEndpoint")


def _no_connection(message: str) -> ArmError:
    return AccountError(404, "UserError", message, "NotFoundError")


def _show_serverless(call: Call, body: Body) -> None:
    # Nothing serves: an honest state, and no address to call.
    body["properties"].update(endpointState="Offline", inferenceEndpoint=None)


_PLAN = dict.fromkeys(("publisherId", "offerId", "planId"))
_TAGGED: Body = {"tags": {}, "location": REGION}
KINDS: dict[str, Kind] = {
    "schedules": Kind(
        {
            "description": None,
            "tags": {},
            "properties": {},
            "displayName": None,
            "isEnabled": True,
        },
        schedules.MISSING,
        "mfe",
        required=("trigger", "action"),
        complete=schedules.complete,
        changed=schedules.changed,
        refuse=schedules.refuse_enabled,
    ),
    "batchEndpoints": Kind(
        {"description": None, "properties": {}, "defaults": {"deploymentName": None}},
        "There is no endpoint with name: {name}",
        "mfe",
        {**_TAGGED, "identity": None, "kind": None, "sku": None},
        complete=_complete_batch_endpoint,
        show=_show_batch_endpoint,
        absent=_no_endpoint,
    ),
    "batchEndpoints/deployments": Kind(
        {
            "description": None,
            "properties": {},
            "codeConfiguration": None,
            "environmentId": None,
            "environmentVariables": {},
            "compute": None,
            "errorThreshold": -1,
            "retrySettings": {"maxRetries": 3, "timeout": "PT30S"},
            "miniBatchSize": 10,
            "loggingLevel": "Info",
            "model": None,
            "maxConcurrencyPerInstance": 1,
            "outputAction": "AppendRow",
            "outputFileName": "predictions.csv",
            "resources": {"instanceCount": 1, "instanceType": None, "properties": None},
        },
        "Deployment {name} of batch endpoint {parent} not found.",
        "mfe",
        {**_TAGGED, "identity": None, "kind": None, "sku": None},
    ),
    "connections": Kind(
        {"category": None, "expiryTime": None, "metadata": {}},
        "Connection {name} can't be found in this workspace",
        envelope={"tags": None, "location": None},
        required=("authType", "category"),
        secret="credentials",  # noqa: S106 (the name of a field)
        absent=_no_connection,
    ),
    "outboundRules": Kind(
        {"status": "Inactive", "category": "UserDefined"},
        "Outbound rule {name} not found.",
        "workspace",
        {"tags": None, "location": None},
        required=("type",),
    ),
    "serverlessEndpoints": Kind(
        {"authMode": "Key", "contentSafety": None},
        "Serverless endpoint {name} not found.",
        "mfe",
        {**_TAGGED, "sku": {"name": "Consumption"}},
        show=_show_serverless,
    ),
    "capabilityHosts": Kind(
        {"capabilityHostKind": "Agents", "description": None},
        "Capability host {name} not found.",
        "mfe",
    ),
    "marketplaceSubscriptions": Kind(
        {"marketplaceSubscriptionStatus": "Unsubscribed", "marketplacePlan": _PLAN},
        "Marketplace subscription {name} not found.",
        "mfe",
        required=("modelId",),
    ),
}
_NAMES = {name.lower(): name for name in KINDS}
