"""Deployments of online endpoints over ARM; controllers.online runs their processes."""

from __future__ import annotations

import re
from typing import Any

import isodate
from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, computes, registry, uris
from aml_magics.local.bodies import seconds
from aml_magics.local.controllers import online, serving
from aml_magics.local.endpoints import (
    NAME,
    accepted,
    given,
    no_endpoint,
    operation,
    parent,
    share_of,
)
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import REGION, ArmError, Call, bad_request, not_found

MOST_INSTANCES = 50
# As Azure names sizes: Standard_DS3_v2, Standard_NC24ads_A100_v4, Standard_E4-2ds_v4.
SIZE = re.compile(r"(?:Standard|Basic)_[A-Z]+\d+[\w-]*", re.IGNORECASE)
_PROBE = {
    "failureThreshold": 30,
    "successThreshold": 1,
    "timeout": "PT2S",
    "period": "PT10S",
    "initialDelay": "PT10S",
}
REQUEST_SETTINGS = {
    "maxQueueWait": "PT0S",
    "requestTimeout": "PT5S",
    "maxConcurrentRequestsPerInstance": 1,
}
# Settings with settings in them, each of which has a default.
_NESTED: dict[str, Body] = {
    "requestSettings": REQUEST_SETTINGS,
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
}
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
    "model": None,
    "scaleSettings": {"scaleType": "Default"},
    "egressPublicNetworkAccess": "Enabled",
    "properties": {},
}
# What a container on Kubernetes gets where nothing was asked for; clients read it unasked.
_RESOURCES = {
    "containerResourceRequests": {"cpu": "0.1", "memory": "0.5Gi", "gpu": None},
    "containerResourceLimits": {"cpu": "2", "memory": "2Gi", "gpu": None},
}
_DURATIONS = ("maxQueueWait", "requestTimeout", "timeout", "period", "initialDelay")
_COUNTS = ("maxConcurrentRequestsPerInstance", "failureThreshold", "successThreshold")


def put(call: Call) -> Response:
    """Create a deployment or change what it serves; done when its instances serve."""
    body = call.document()
    asked = given(body.get("properties"))
    endpoint = call.local.store.get(call.arm_id.rsplit("/", 2)[0])
    if endpoint is None:
        raise no_endpoint(call)
    if not NAME.fullmatch(call.path["deployment"]):
        raise bad_request(
            f"The deployment name {call.path['deployment']!r} is not valid: 3 to 32 letters, "
            "digits and '-', with a letter first and no '-' last."
        )
    _check(call, body, asked)
    state = "Creating" if call.local.store.get(call.arm_id) is None else "Updating"
    wanted = _deployment(call, body, asked, state)
    wanted["kind"] = endpoint.body["kind"]
    resource = _stored(call, wanted)
    call.local.online.deploy(resource.id)
    return JSONResponse(arm.shown(resource), 201, operation(call))


def _stored(call: Call, wanted: Body) -> Resource:
    """Write a deployment, unless its endpoint was deleted in the meantime."""
    with call.local.store.transaction():
        if call.local.store.get(call.arm_id.rsplit("/", 2)[0]) is None:
            raise no_endpoint(call)
        return call.local.store.put(call.arm_id, online.KIND, wanted)[0]


def get(call: Call) -> Response:
    return JSONResponse(arm.shown(_found(call, call.arm_id)))


def patch(call: Call) -> Response:
    """Change the tags or the number of instances; the rest takes a PUT."""
    resource, asked = _found(call, call.arm_id), call.document()
    _check_count(asked)
    body = {**resource.body, "tags": asked.get("tags", resource.body["tags"])}
    body["sku"] = {**body["sku"], **(asked.get("sku") or {})}
    if body["sku"] != resource.body["sku"]:
        body["properties"] = {**resource.properties, "provisioningState": "Updating"}
    resource, _ = call.local.store.put(call.arm_id, online.KIND, body)
    call.local.online.deploy(resource.id)
    return JSONResponse(arm.shown(resource), 200, operation(call))


def list_(call: Call) -> Response:
    endpoint = parent(call)
    if call.local.store.get(endpoint) is None:
        raise no_endpoint(call)
    return JSONResponse(arm.page(call, endpoint, online.KIND))


def delete(call: Call) -> Response:
    """End a deployment; refused while it gets traffic, live or mirrored."""
    endpoint, name = call.arm_id.rsplit("/", 2)[0], call.path["deployment"]
    with call.local.store.transaction():
        _check_idle(call.local.store.get(endpoint), name)
        if not call.local.store.delete(call.arm_id):
            return Response(status_code=204)
    call.local.online.remove_below(call.arm_id)
    call.local.monitor.forget(endpoint, name)
    return accepted(call)


def get_logs(call: Call) -> Response:
    asked, deployment = call.document(), parent(call)
    _found(call, deployment)
    lines = asked.get("tail") or 50
    if not isinstance(lines, int):
        raise bad_request("tail is not a number of lines.")
    container = str(asked.get("containerType") or "")
    place = serving.folder(call.local, deployment)
    return JSONResponse({"content": online.logs(place, container, lines)})


# Bodies


def _deployment(call: Call, body: Body, asked: Body, state: str) -> Body:
    _spell_collections(asked.get("dataCollector"))
    nested = {
        name: {**default, **given(asked.get(name) or {})} for name, default in _NESTED.items()
    }
    properties = {**_DEPLOYMENT, **asked, **nested, "provisioningState": state}
    if properties["endpointComputeType"] == "Kubernetes":
        given_ones = given(asked.get("containerResourceRequirements") or {})
        properties["containerResourceRequirements"] = {**_RESOURCES, **given_ones}
    if properties["codeConfiguration"]:
        properties["environmentVariables"] = {
            **properties["environmentVariables"],
            **serving.variables(call.local, call.arm_id, properties),
        }
    return {
        "tags": body.get("tags") or {},
        "location": body.get("location") or REGION,
        "kind": "Managed",
        "sku": {"name": "Default", "capacity": 1, **(body.get("sku") or {}), "tier": "Standard"},
        "properties": properties,
    }


def _spell_collections(collector: Any) -> None:
    """The SDK writes that collections are "enabled", and reads only the service's spelling."""
    collections = collector.get("collections") if isinstance(collector, dict) else None
    for collection in collections.values() if isinstance(collections, dict) else ():
        if isinstance(collection, dict) and isinstance(collection.get("dataCollectionMode"), str):
            collection["dataCollectionMode"] = collection["dataCollectionMode"].capitalize()


# Checks and errors


def _check(call: Call, body: Body, asked: Body) -> None:
    """Refuse what could never serve, before anything is made.

    Raises: ArmError.
    """
    _check_count(body)
    _check_size(asked)
    _check_settings(asked)
    model = asked.get("model")
    if model is not None and not isinstance(model, str):
        raise bad_request("The model is not text: an id, or azureml:NAME:VERSION.")
    folder = registry.model_folder(call.local, call.workspace, model) if model else None
    if asked.get("codeConfiguration"):
        _check_code(call, asked["codeConfiguration"])
    elif folder is None:
        _check_container(asked)
        raise bad_request("The deployment has no model.")
    elif not (folder / "MLmodel").is_file():
        _check_container(asked)
        raise bad_request("Without a scoring script the model must be an MLflow model.")


def _check_idle(endpoint: Resource | None, name: str) -> None:
    for field in ("traffic", "mirrorTraffic"):
        if endpoint and share_of(endpoint.properties[field] or {}, name):
            raise bad_request(f"Deployment {name} still gets traffic: set its traffic to 0 first.")


def _check_count(body: Body) -> None:
    count = (body.get("sku") or {}).get("capacity")
    if count is not None and (type(count) is not int or not 1 <= count <= MOST_INSTANCES):
        raise bad_request(f"The instance count is a whole number from 1 to {MOST_INSTANCES}.")


def _check_size(asked: Body) -> None:
    """Refuse what Azure has no machines of; a cluster of Kubernetes has names of its own."""
    size, kind = asked.get("instanceType"), asked.get("endpointComputeType")
    if size is None or kind == "Kubernetes":
        return
    if not isinstance(size, str) or not (SIZE.fullmatch(size) or size == computes.SIZE):
        raise bad_request(f"The instance type {size!r} is no VM size, such as Standard_DS3_v2.")


def _check_settings(asked: Body) -> None:
    for name in _NESTED:
        settings = asked.get(name) or {}
        if not isinstance(settings, dict):
            raise bad_request(f"{name} is not a mapping.")
        for key in _DURATIONS:
            try:
                seconds(settings.get(key), 0)
            except (TypeError, ValueError, isodate.ISO8601Error) as exc:
                raise bad_request(f"{key} of {name} is no ISO 8601 duration.") from exc
        for key in _COUNTS:
            count = settings.get(key)
            if count is not None and (type(count) is not int or count < 1):
                raise bad_request(f"{key} of {name} is no whole number from 1.")


def _check_code(call: Call, code: Any) -> None:
    script = code.get("scoringScript") if isinstance(code, dict) else None
    if not isinstance(script, str) or not isinstance(code.get("codeId"), str):
        raise bad_request("A codeConfiguration has a codeId and a scoringScript.")
    folder = uris.local_path(call.local, call.workspace, code["codeId"])
    if not uris.below(folder, script).is_file():
        raise bad_request(f"The code has no file {script}, which is to be the scoring script.")


def _check_container(asked: Body) -> None:
    if asked.get("environmentId"):  # whose image brings a server of its own
        message = "The local workspace serves MLflow models and scoring scripts, not containers."
        raise ArmError(501, "NotImplemented", message)


def _found(call: Call, id: str) -> Resource:  # noqa: A002 (ARM's word)
    resource = call.local.store.get(id)
    if resource is None:
        name, endpoint = call.path["deployment"], call.path["endpoint"]
        raise not_found(f"Deployment {name} of online endpoint {endpoint} not found.")
    return resource
