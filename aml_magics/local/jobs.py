"""Jobs over ARM: create, show, list, change, cancel. What runs them is controllers.jobs."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm
from aml_magics.local.controllers.command import TERMINAL, Job
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Call, bad_request, not_found

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
EDITABLE = ("description", "displayName", "isArchived", "properties", "tags")
PROTECTED = ("StartTimeUtc", "EndTimeUtc", "ExitCode")  # the service's own


def put(call: Call) -> Response:
    """Create a job and queue it, or change what may change of one that is there."""
    body = call.document()
    asked = body.get("properties")
    if not isinstance(asked, dict):
        raise bad_request("The job has no properties.")
    if call.local.store.get(call.arm_id) is not None:
        return _change(call, asked)
    _check(call, asked)
    job = Job(call.workspace, call.path["name"])
    properties = _completed(call, job, asked)
    tags = _run_tags(properties)
    run = call.local.mlflow.create_run(job.ws, job.name, properties["experimentName"], tags)
    resource, _ = call.local.store.put(call.arm_id, "jobs", {"properties": properties})
    call.local.store.note(job.id, "experiment", run)
    call.local.jobs.submit(job)
    return arm.answer(resource, True, call)


def _check(call: Call, asked: Body) -> None:
    kind = asked.get("jobType")
    if kind != "Command":
        message = f"The local workspace does not run jobs of type {kind} yet, only Command."
        raise ArmError(501, "NotImplemented", message)
    if not NAME.fullmatch(call.path["name"]):
        raise bad_request(f"The job name {call.path['name']!r} is not valid.")
    if not isinstance(asked.get("command"), str) or not asked["command"].strip():
        raise bad_request("The job has no command.")
    for field in ("inputs", "outputs", "environmentVariables", "tags", "properties"):
        if not isinstance(asked.get(field) or {}, dict):
            raise bad_request(f"The {field} of a job are a mapping.")


def _completed(call: Call, job: Job, asked: Body) -> Body:
    """What was asked for, with what the service adds."""
    given = {key: value for key, value in asked.items() if value is not None}
    outputs = {name: _output(job, name, o or {}) for name, o in given.pop("outputs", {}).items()}
    artifacts = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{job.name}"
    own = {"description": None, "uri": artifacts, "mode": "ReadWriteMount"}
    return {
        "description": None,
        "tags": {},
        "properties": {},
        "displayName": job.name,
        "experimentName": "Default",
        "computeId": None,
        "isArchived": False,
        "identity": None,
        "componentId": None,
        "codeId": None,
        "environmentId": None,
        "environmentVariables": {},
        "inputs": {},
        "distribution": None,
        "limits": None,
        "parameters": {},
        "queueSettings": None,
        "resources": {"instanceCount": 1, "instanceType": None, "properties": {}},
        **given,
        "status": "Queued",
        "outputs": {**outputs, "default": {**own, "jobOutputType": "uri_folder"}},
        "services": _services(call, job.name),
    }


def _output(job: Job, name: str, asked: Body) -> Body:
    base = "azureml://datastores/workspaceblobstore/paths/azureml"
    defaults = {"description": None, "mode": "ReadWriteMount", "jobOutputType": "uri_folder"}
    given = {key: value for key, value in asked.items() if value is not None}
    return {**defaults, "uri": f"{base}/{job.name}/{name}/", **given}


def _services(call: Call, name: str) -> Body:
    places = {
        "Tracking": call.door.mlflow(call.workspace.id),
        "Studio": call.door.studio(name, call.workspace.id),
    }
    empty = dict.fromkeys(("port", "status", "errorMessage", "properties", "nodes"))
    return {
        kind: {"jobServiceType": kind, "endpoint": endpoint, **empty}
        for kind, endpoint in places.items()
    }


def _run_tags(properties: Body) -> dict[str, str]:
    tags: dict[str, Any] = {
        **(properties.get("tags") or {}),
        "mlflow.runName": properties["displayName"],
        "mlflow.user": arm.USER,
        "mlflow.source.type": "JOB",
    }
    if properties.get("description"):
        tags["mlflow.note.content"] = properties["description"]
    return {key: str(value) for key, value in tags.items()}


def _change(call: Call, asked: Body) -> Response:
    def change(properties: Body) -> None:
        own = {k: v for k, v in properties["properties"].items() if k in PROTECTED}
        properties.update({key: asked[key] for key in EDITABLE if key in asked})
        properties["properties"] = {**(properties["properties"] or {}), **own}

    resource = call.local.store.update(call.arm_id, change)
    if resource is None:
        raise _missing(call)
    return arm.answer(resource, False, call)


def get(call: Call) -> Response:
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        raise _missing(call)
    return JSONResponse(arm.shown(resource))


def list_(call: Call) -> Response:
    """Jobs, newest first; `tag`, `jobType` and `properties` narrow them as on Azure."""
    tag, kind = call.query.get("tag"), call.query.get("jobtype")
    key, has_value, value = (tag or "").partition("=")

    def keep(job: Any) -> bool:
        tags = job.properties.get("tags") or {}
        tagged = not tag or (key in tags and (not has_value or tags[key] == value))
        return tagged and kind in (None, job.properties["jobType"])

    return JSONResponse(arm.page(call, call.workspace.id, "jobs", keep))


def cancel(call: Call) -> Response:
    id_ = call.arm_id.rpartition("/")[0]
    resource = call.local.store.get(id_)
    if resource is None:
        raise _missing(call)
    if resource.properties["status"] in TERMINAL:
        status = resource.properties["status"]
        raise bad_request(f"The job {resource.name} has ended ({status}): it can't be canceled.")
    call.local.jobs.cancel(Job(call.workspace, resource.name))
    location = arm.lro_headers(call, id_)["Location"]
    return Response(
        b"null", 202, {"Location": location, "x-ms-retry-after-ms": "100"}, "application/json"
    )


def delete(call: Call) -> Response:
    """Remove a job that has ended, and its run; its artifacts stay in storage."""
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        return Response(status_code=204)
    if resource.properties["status"] not in TERMINAL:
        raise bad_request(f"The job {resource.name} has not ended: cancel it first.")
    call.local.mlflow.store(call.workspace.account, "tracking").delete_run(resource.name)
    call.local.store.delete(call.arm_id)
    headers = arm.lro_headers(call, call.arm_id)
    return Response(b"null", 202, headers, "application/json")


def _missing(call: Call) -> ArmError:
    return not_found(f"Job {call.path['name']} not found.")
