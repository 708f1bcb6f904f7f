"""Online endpoints over ARM: names, traffic, keys and tokens."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, identity
from aml_magics.local.controllers import online
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import REGION, TENANT, ArmError, Call, bad_request, not_found

KIND = "onlineEndpoints"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
AUTH_MODES = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}
TOKEN_SECONDS = 12 * 3600
PATCHED = ("tags", "identity")
MOST_MIRRORED = 50  # percent, as on Azure


# Endpoints


def put(call: Call) -> Response:
    """Create an endpoint, or change its traffic, tags or description."""
    name, body = call.path["endpoint"], call.document()
    asked = given(body.get("properties"))
    if not NAME.fullmatch(name):
        raise bad_request(
            f"The endpoint name {name!r} is not valid: 3 to 32 letters, digits and '-', "
            "with a letter first and no '-' last."
        )
    mode = AUTH_MODES.get(str(asked.get("authMode") or "key").lower())
    if mode is None:
        raise bad_request(f"authMode {asked['authMode']!r} is none of {[*AUTH_MODES.values()]}.")
    _check_traffic(call, asked)
    with call.local.store.transaction():
        resource, _ = call.local.store.put(call.arm_id, KIND, _endpoint(call, body, asked, mode))
        if call.local.store.noted(call.arm_id, "keys") is None:
            call.local.store.note(call.arm_id, "keys", new_keys())
    return JSONResponse(_shown(call, resource), 201, operation(call))


def get(call: Call) -> Response:
    return JSONResponse(_shown(call, _found(call)))


def list_(call: Call) -> Response:
    page = arm.page(call, call.workspace.id, KIND)
    for body in page["value"]:
        body["properties"].update(_addresses(call, body["name"]))
    return JSONResponse(page)


def patch(call: Call) -> Response:
    """Change the tags or the identity of an endpoint; the rest takes a PUT."""
    resource, asked = _found(call), call.document()
    body = {**resource.body, **{key: asked[key] for key in PATCHED if key in asked}}
    resource, _ = call.local.store.put(call.arm_id, resource.kind, body)
    return JSONResponse(_shown(call, resource))


def delete(call: Call) -> Response:
    """End an endpoint with all its deployments."""
    if not call.local.store.delete(call.arm_id):  # first, so that nothing is made meanwhile
        return Response(status_code=204)
    call.local.online.remove_below(call.arm_id)
    call.local.monitor.forget(call.arm_id)
    return accepted(call)


def list_keys(call: Call) -> Response:
    keys = _keys(call, "Key")
    return JSONResponse({"primaryKey": keys["Primary"], "secondaryKey": keys["Secondary"]})


def regenerate_keys(call: Call) -> Response:
    """Make a new key; the SDK sends the old one along, any other value is taken as the new."""
    keys = renewed(_keys(call, "Key"), call.document())
    call.local.store.note(parent(call), "keys", keys)
    return accepted(call)


def renewed(keys: dict[str, str], asked: Body) -> dict[str, str]:
    """The keys of an endpoint with the one replaced that a client asks to have replaced."""
    kind, given = str(asked.get("keyType")).capitalize(), asked.get("keyValue")
    if kind not in keys:
        raise bad_request(f"keyType is none of {[*keys]}.")
    if given is not None and not isinstance(given, str):
        raise bad_request("keyValue is not text.")
    return {**keys, kind: given if given and given != keys[kind] else _new_key()}


def new_keys() -> dict[str, str]:
    return {"Primary": _new_key(), "Secondary": _new_key()}


def token(call: Call) -> Response:
    """Give a token for scoring: signed with the primary key, so a new key ends it."""
    keys = _keys(call, "AMLToken")
    now = int(time.time())
    body = {
        "accessToken": identity.issue(parent(call), keys["Primary"], TOKEN_SECONDS),
        "tokenType": "Bearer",
        "expiryTimeUtc": now + TOKEN_SECONDS,
        "refreshAfterTimeUtc": now + TOKEN_SECONDS // 2,
    }
    return JSONResponse(body)


# Bodies


def _endpoint(call: Call, body: Body, asked: Body, mode: str) -> Body:
    own = {"azureml.onlineendpointid": call.arm_id.lower()}
    identity_ = body.get("identity") or {"type": "SystemAssigned"}
    principal = {"principalId": call.workspace.guid, "tenantId": TENANT}
    defaults = {"description": None, "compute": None, "publicNetworkAccess": "Enabled"}
    return {
        "tags": body.get("tags") or {},
        "location": body.get("location") or REGION,
        "kind": "K8S" if asked.get("compute") else "Managed",
        "identity": {**principal, **identity_},
        "properties": {
            **defaults,
            "traffic": {},
            "mirrorTraffic": {},
            **asked,
            "authMode": mode,
            "properties": {**(asked.get("properties") or {}), **own},
            "provisioningState": "Succeeded",
        },
    }


def _shown(call: Call, resource: Resource) -> Body:
    body = arm.shown(resource)
    if resource.kind == KIND:
        body["properties"].update(_addresses(call, resource.name))
    return body


def _addresses(call: Call, name: str) -> Body:
    uri = call.door.scoring(call.workspace.account, name)
    return {"scoringUri": uri, "swaggerUri": uri.removesuffix("score") + "swagger.json"}


def given(properties: Any) -> Body:
    if not isinstance(properties, dict):
        raise bad_request("The request has no properties.")
    return {key: value for key, value in properties.items() if value is not None}


# Checks and errors


def _check_traffic(call: Call, asked: Body) -> None:
    traffic, mirror = _shares(call, asked, "traffic"), _shares(call, asked, "mirrorTraffic")
    if sum(traffic.values()) not in (0, 100):
        raise bad_request(f"Traffic adds up to {sum(traffic.values())} %: it must be 0 or 100 %.")
    if len(mirror) > 1:
        raise bad_request("Traffic is mirrored to one deployment only.")
    for name, share in mirror.items():
        if share > MOST_MIRRORED:
            raise bad_request(f"At most {MOST_MIRRORED} % of the traffic is mirrored.")
        if share_of(traffic, name):
            raise bad_request(f"Deployment {name} has traffic of its own: mirror it to another.")


def share_of(shares: dict[str, int], deployment: str) -> int:
    """The percent of a deployment, whose name may be written in any case."""
    return sum(share for name, share in shares.items() if name.lower() == deployment.lower())


def _shares(call: Call, asked: Body, field: str) -> dict[str, int]:
    """The shares of the deployments that get some, each of which is there and not broken.

    One that broke when it had its share already keeps it: other changes are not refused.
    """
    endpoint, shares = call.local.store.get(call.arm_id), asked.get(field) or {}
    before = (endpoint.properties[field] or {}) if endpoint else {}
    if not all(type(share) is int and 0 <= share <= 100 for share in shares.values()):
        raise bad_request("Traffic is given in whole percents from 0 to 100.")
    given = {name: share for name, share in shares.items() if share}
    for name in given:
        deployment = call.local.store.get(f"{call.arm_id}/deployments/{name}")
        if deployment is None:
            raise bad_request(f"Traffic names the deployment {name}, which does not exist.")
        if not online.may_serve(call.local, deployment) and not share_of(before, name):
            raise bad_request(f"Deployment {name} has failed: update it before it gets traffic.")
    return given


def _keys(call: Call, mode: str) -> dict[str, str]:
    endpoint = call.local.store.get(parent(call))
    if endpoint is None:
        raise no_endpoint(call)
    if endpoint.properties["authMode"] != mode:
        actual = endpoint.properties["authMode"]
        raise bad_request(f"Endpoint {endpoint.name} authenticates by {actual}, not {mode}.")
    keys: dict[str, str] = call.local.store.noted(endpoint.id, "keys")
    return keys


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def parent(call: Call) -> str:
    """The resource that the operation at the end of the URL is about."""
    return call.arm_id.rpartition("/")[0]


def _found(call: Call) -> Resource:
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        raise no_endpoint(call)
    return resource


def no_endpoint(call: Call) -> ArmError:
    return not_found(f"Online endpoint {call.path['endpoint']} not found.")


def operation(call: Call) -> dict[str, str]:
    return arm.lro_headers(call, call.arm_id)


def accepted(call: Call) -> Response:
    return Response(b"null", 202, operation(call), "application/json")
