"""Jobs over ARM: create, show, list, change, cancel. What runs them is controllers.jobs."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, submission
from aml_magics.local.controllers import services
from aml_magics.local.controllers.run import PROTECTED, SCHEDULE, TERMINAL, Job
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import ArmError, Call, bad_request, not_found

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
EDITABLE = ("description", "displayName", "isArchived", "properties", "tags")


def put(call: Call) -> Response:
    """Create a job and queue it, or change what may change of one that is there."""
    body = call.document()
    asked = body.get("properties")
    if not isinstance(asked, dict):
        raise bad_request("The job has no properties.")
    if call.local.store.get(call.arm_id) is not None:
        return _change(call, asked)
    if not NAME.fullmatch(call.path["name"]):
        raise bad_request(f"The job name {call.path['name']!r} is not valid.")
    asked = afresh(asked)
    job = Job(call.workspace, call.path["name"])
    resource = submission.create(call.local, job, asked)
    return arm.answer(_shown(call, resource), True, call)


def afresh(asked: Body) -> Body:
    """A job as it was asked for, without what a client has copied from the run of another one.

    Raises: ArmError 400: its services are none.
    """
    facts, tags, outputs = (asked.get(key) or {} for key in ("properties", "tags", "outputs"))
    return {
        **asked,
        "properties": {key: value for key, value in facts.items() if key not in PROTECTED},
        "tags": {key: value for key, value in tags.items() if not key.startswith("_aml_system_")},
        "outputs": {name: _output_afresh(name, output) for name, output in outputs.items()},
        "services": asked_services(asked),
    }


def _output_afresh(name: str, output: Any) -> Any:
    """An output that is put where its own job's outputs are, not those of the job it is from."""
    other = re.compile(rf"azureml://datastores/\w+/paths/azureml/[\w.-]+/{re.escape(name)}/.*")
    is_copied = isinstance(output, dict) and other.fullmatch(str(output.get("uri")))
    return {**output, "uri": None} if is_copied else output


def asked_services(asked: Body) -> Body:
    """The services that a job is to offer, without those that every job has.

    Raises: ArmError 400: they are none.
    """
    given = asked.get("services") or {}
    if not isinstance(given, dict) or not all(isinstance(s, dict) for s in given.values()):
        raise bad_request("The services of a job are a mapping of mappings.")
    return {name: s for name, s in given.items() if s.get("jobServiceType") not in services.OWN}


def _shown(call: Call, resource: Resource) -> Resource:
    """A job with its addresses, as the client's door has them."""
    offered = resource.properties.get("services") or {}
    shown = {**_services(call, resource.name), **offered}
    properties = {**resource.properties, "services": shown}
    return resource._replace(body={**resource.body, "properties": properties})


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


def _change(call: Call, asked: Body) -> Response:
    def change(properties: Body) -> None:
        own = {k: v for k, v in properties["properties"].items() if k in PROTECTED}
        properties.update({key: asked[key] for key in EDITABLE if key in asked})
        properties["properties"] = {**(properties["properties"] or {}), **own}

    resource = call.local.store.update(call.arm_id, change)
    if resource is None:
        raise _missing(call)
    return arm.answer(_shown(call, resource), False, call)


def get(call: Call) -> Response:
    """A job; of a step of a pipeline no properties, as on Azure: run history has them."""
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        raise _missing(call)
    body = arm.shown(_shown(call, resource))
    if call.local.store.noted(resource.id, "node"):
        del body["properties"]
    return JSONResponse(body)


def list_(call: Call) -> Response:
    """Jobs, newest first; `tag`, `jobType`, `scheduled`, `scheduleId` narrow them as on Azure."""
    tag, kind = call.query.get("tag"), call.query.get("jobtype")
    scheduled, of = call.query.get("scheduled"), call.query.get("scheduleid")
    key, has_value, value = (tag or "").partition("=")

    def keep(job: Any) -> bool:
        tags = job.properties.get("tags") or {}
        tagged = not tag or (key in tags and (not has_value or tags[key] == value))
        made_by = (job.properties.get("properties") or {}).get(SCHEDULE)
        made = scheduled in (None, str(made_by is not None).lower()) and of in (None, made_by)
        return tagged and made and kind in (None, job.properties["jobType"])

    body = arm.page(call, call.workspace.id, "jobs", keep)
    for item in body["value"]:
        own = item["properties"].get("services") or {}
        item["properties"]["services"] = {**_services(call, item["name"]), **own}
    return JSONResponse(body)


def cancel(call: Call) -> Response:
    id_ = call.arm_id.rpartition("/")[0]
    resource = call.local.store.get(id_)
    if resource is None:
        raise _missing(call)
    if resource.properties["status"] in TERMINAL:
        status = resource.properties["status"]
        raise bad_request(f"The job {resource.name} has ended ({status}): it can't be canceled.")
    call.local.jobs.cancel(Job(call.workspace, resource.name))
    now = call.local.store.get(id_)
    if resource.properties["status"] == "Queued" and now and now.properties["status"] in TERMINAL:
        return Response(status_code=200)
    headers = arm.lro_headers(call, id_)
    headers.pop("Azure-AsyncOperation")  # the end is told by its Location
    headers["x-ms-async-operation-timeout"] = "PT1H"
    return Response(b"null", 202, headers, "application/json")


def delete(call: Call) -> Response:
    """Remove a job that has ended, and its run; its artifacts stay in storage."""
    resource = call.local.store.get(call.arm_id)
    if resource is None:
        return Response(status_code=204)
    if resource.properties["status"] not in TERMINAL:
        raise bad_request(f"The job {resource.name} has not ended: cancel it first.")
    _delete(call, resource)
    headers = arm.lro_headers(call, call.arm_id)
    return Response(b"null", 202, headers, "application/json")


def _delete(call: Call, job: Resource) -> None:
    for child in call.local.store.children(job.id, "jobs"):
        _delete(call, child)
    call.local.mlflow.store(call.workspace.account, "tracking").delete_run(job.name)
    call.local.store.delete(job.id)


def _missing(call: Call) -> ArmError:
    return not_found(f"Job {call.path['name']} not found.")
