"""Online endpoints and their deployments over ARM; controllers.online runs their processes."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, identity, registry
from aml_magics.local.controllers import online
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import REGION, TENANT, ArmError, Call, bad_request, not_found

KIND = "onlineEndpoints"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
AUTH_MODES = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}
TOKEN_SECONDS = 12 * 3600
PATCHED = ("tags", "identity", "sku")


# Endpoints


def put(call: Call) -> Response:
    """Create an endpoint, or change its traffic, tags or description."""
    name, body = call.path["endpoint"], call.document()
    asked = _given(body.get("properties"))
    if not NAME.fullmatch(name):
        raise bad_request(
            f"The endpoint name {name!r} is not valid: 3 to 32 letters, digits and '-', "
            "with a letter first and no '-' last."
        )
    mode = AUTH_MODES.get(str(asked.get("authMode") or "key").lower())
    if mode is None:
        raise bad_request(f"authMode {asked['authMode']!r} is none of {[*AUTH_MODES.values()]}.")
    _check_traffic(call, asked)
    resource, _ = call.local.store.put(call.arm_id, KIND, _endpoint(call, body, asked, mode))
    if call.local.store.noted(call.arm_id, "keys") is None:
        call.local.store.note(call.arm_id, "keys", new_keys())
    return JSONResponse(_shown(call, resource), 201, _operation(call))


def get(call: Call) -> Response:
    return JSONResponse(_shown(call, _found(call)))


def list_(call: Call) -> Response:
    page = arm.page(call, call.workspace.id, KIND)
    for body in page["value"]:
        body["properties"].update(_addresses(call, body["name"]))
    return JSONResponse(page)


def patch(call: Call) -> Response:
    """Change the tags, identity or size of an endpoint or a deployment; the rest takes a PUT."""
    resource, asked = _found(call), call.document()
    body = {**resource.body, **{key: asked[key] for key in PATCHED if key in asked}}
    resource, _ = call.local.store.put(call.arm_id, resource.kind, body)
    return JSONResponse(_shown(call, resource))


def delete(call: Call) -> Response:
    """End an endpoint with all its deployments."""
    if call.local.store.get(call.arm_id) is None:
        return Response(status_code=204)
    for deployment in call.local.store.children(call.arm_id, online.KIND):
        call.local.online.remove(deployment.id)
    call.local.store.delete(call.arm_id)
    return _accepted(call)


def list_keys(call: Call) -> Response:
    keys = _keys(call, "Key")
    return JSONResponse({"primaryKey": keys["Primary"], "secondaryKey": keys["Secondary"]})


def regenerate_keys(call: Call) -> Response:
    """Make a new key; the SDK sends the old one along, any other value is taken as the new."""
    keys = renewed(_keys(call, "Key"), call.document())
    call.local.store.note(_parent(call), "keys", keys)
    return _accepted(call)


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
        "accessToken": identity.issue(_parent(call), keys["Primary"], TOKEN_SECONDS),
        "tokenType": "Bearer",
        "expiryTimeUtc": now + TOKEN_SECONDS,
        "refreshAfterTimeUtc": now + TOKEN_SECONDS // 2,
    }
    return JSONResponse(body)


# Deployments


def put_deployment(call: Call) -> Response:
    """Create a deployment or replace its model; done when its process serves."""
    body = call.document()
    asked = _given(body.get("properties"))
    endpoint = call.arm_id.rsplit("/", 2)[0]
    if call.local.store.get(endpoint) is None:
        raise _no_endpoint(call)
    if not NAME.fullmatch(call.path["deployment"]):
        raise bad_request(f"The deployment name {call.path['deployment']!r} is not valid.")
    _check_model(call, asked)
    state = "Creating" if call.local.store.get(call.arm_id) is None else "Updating"
    resource, _ = call.local.store.put(call.arm_id, online.KIND, _deployment(body, asked, state))
    call.local.online.deploy(resource.id)
    return JSONResponse(arm.shown(resource), 201, _operation(call))


def list_deployments(call: Call) -> Response:
    endpoint = _parent(call)
    if call.local.store.get(endpoint) is None:
        raise _no_endpoint(call)
    return JSONResponse(arm.page(call, endpoint, online.KIND))


def delete_deployment(call: Call) -> Response:
    """End a deployment; refused while it gets traffic."""
    if call.local.store.get(call.arm_id) is None:
        return Response(status_code=204)
    endpoint = call.local.store.get(call.arm_id.rsplit("/", 2)[0])
    name = call.path["deployment"]
    if endpoint and (endpoint.properties["traffic"] or {}).get(name):
        raise bad_request(f"Deployment {name} still gets traffic: set its traffic to 0 first.")
    call.local.online.remove(call.arm_id)
    call.local.store.delete(call.arm_id)
    return _accepted(call)


def get_logs(call: Call) -> Response:
    asked, deployment = call.document(), _parent(call)
    if call.local.store.get(deployment) is None:
        raise _no_deployment(call)
    lines = asked.get("tail") or 50
    if not isinstance(lines, int):
        raise bad_request("tail is not a number of lines.")
    return JSONResponse({"content": online.tail(online.folder(call.local, deployment), lines)})


# Bodies


def _endpoint(call: Call, body: Body, asked: Body, mode: str) -> Body:
    own = {"azureml.onlineendpointid": call.arm_id.lower()}
    identity_ = body.get("identity") or {"type": "SystemAssigned"}
    principal = {"principalId": call.workspace.guid, "tenantId": TENANT}
    defaults = {"description": None, "compute": None, "publicNetworkAccess": "Enabled"}
    return {
        "tags": body.get("tags") or {},
        "location": body.get("location") or REGION,
        "kind": "Managed",
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


_PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S"}
_DEPLOYMENT: Body = {
    "description": None,
    "appInsightsEnabled": False,
    "codeConfiguration": None,
    "environmentId": None,
    "environmentVariables": {},
    "endpointComputeType": "Managed",
    "modelMountPath": None,
    "dataCollector": None,
    "instanceType": None,
    "scaleSettings": {"scaleType": "Default"},
    "requestSettings": {
        "maxQueueWait": "PT0S",
        "requestTimeout": "PT5S",
        "maxConcurrentRequestsPerInstance": 1,
    },
    "livenessProbe": {**_PROBE, "initialDelay": "PT10S"},
    "readinessProbe": {**_PROBE, "initialDelay": "PT10S"},
    "egressPublicNetworkAccess": "Enabled",
    "properties": {},
}


def _deployment(body: Body, asked: Body, state: str) -> Body:
    _spell_collections(asked.get("dataCollector"))
    return {
        "tags": body.get("tags") or {},
        "location": body.get("location") or REGION,
        "kind": "Managed",
        "sku": {"name": "Default", "capacity": 1, **(body.get("sku") or {}), "tier": "Standard"},
        "properties": {**_DEPLOYMENT, **asked, "provisioningState": state},
    }


def _spell_collections(collector: Any) -> None:
    """The SDK writes that collections are "enabled", and reads only the service's spelling."""
    collections = collector.get("collections") if isinstance(collector, dict) else None
    for collection in collections.values() if isinstance(collections, dict) else ():
        if isinstance(collection, dict) and isinstance(collection.get("dataCollectionMode"), str):
            collection["dataCollectionMode"] = collection["dataCollectionMode"].capitalize()


def _shown(call: Call, resource: Resource) -> Body:
    body = arm.shown(resource)
    if resource.kind == KIND:
        body["properties"].update(_addresses(call, resource.name))
    return body


def _addresses(call: Call, name: str) -> Body:
    uri = call.door.scoring(call.workspace.account, name)
    return {"scoringUri": uri, "swaggerUri": uri.removesuffix("score") + "swagger.json"}


def _given(properties: Any) -> Body:
    if not isinstance(properties, dict):
        raise bad_request("The request has no properties.")
    return {key: value for key, value in properties.items() if value is not None}


# Checks and errors


def _check_traffic(call: Call, asked: Body) -> None:
    traffic = asked.get("traffic") or {}
    if not all(isinstance(share, int) and 0 <= share <= 100 for share in traffic.values()):
        raise bad_request("Traffic is given in whole percents from 0 to 100.")
    if sum(traffic.values()) not in (0, 100):
        raise bad_request(f"Traffic adds up to {sum(traffic.values())} %: it must be 0 or 100 %.")
    for name, share in traffic.items():
        if share and call.local.store.get(f"{call.arm_id}/deployments/{name}") is None:
            raise bad_request(f"Traffic names the deployment {name}, which does not exist.")


def _check_model(call: Call, asked: Body) -> None:
    if asked.get("codeConfiguration"):
        message = "The local workspace serves MLflow models, not scoring scripts yet."
        raise ArmError(501, "NotImplemented", message)
    if not isinstance(asked.get("model"), str):
        _check_container(asked)
        raise bad_request("The deployment has no model.")
    folder = registry.model_folder(call.local, call.workspace, asked["model"])
    if not (folder / "MLmodel").is_file():
        _check_container(asked)
        raise bad_request("Without a scoring script the model must be an MLflow model.")


def _check_container(asked: Body) -> None:
    if asked.get("environmentId"):  # whose image brings a server of its own
        message = "The local workspace serves MLflow models, not custom containers."
        raise ArmError(501, "NotImplemented", message)


def _keys(call: Call, mode: str) -> dict[str, str]:
    endpoint = call.local.store.get(_parent(call))
    if endpoint is None:
        raise _no_endpoint(call)
    if endpoint.properties["authMode"] != mode:
        actual = endpoint.properties["authMode"]
        raise bad_request(f"Endpoint {endpoint.name} authenticates by {actual}, not {mode}.")
    keys: dict[str, str] = call.local.store.noted(endpoint.id, "keys")
    return keys


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def _parent(call: Call) -> str:
    """The resource that the operation at the end of the URL is about."""
    return call.arm_id.rpartition("/")[0]


def _found(call: Call) -> Resource:
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        raise _no_deployment(call) if "deployment" in call.path else _no_endpoint(call)
    return resource


def _no_endpoint(call: Call) -> ArmError:
    return not_found(f"Online endpoint {call.path['endpoint']} not found.")


def _no_deployment(call: Call) -> ArmError:
    name, endpoint = call.path["deployment"], call.path["endpoint"]
    return not_found(f"Deployment {name} of online endpoint {endpoint} not found.")


def _operation(call: Call) -> dict[str, str]:
    return arm.lro_headers(call, call.arm_id)


def _accepted(call: Call) -> Response:
    return Response(b"null", 202, _operation(call), "application/json")
