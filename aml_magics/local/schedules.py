"""Schedules over ARM: what is checked and added when one is put, and firing one by hand.

What fires them in time is controllers.schedule.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, bodies, submission, triggers
from aml_magics.local.controllers import schedule
from aml_magics.local.controllers.run import PROTECTED, Job
from aml_magics.local.jobs import asked_services
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import Call, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

MISSING = "Schedule {name} not found."


def trigger(call: Call) -> Response:
    """Make a schedule's job now, whether or not it is enabled.

    Raises: ArmError 404: no such schedule; 501: its action is stored only.
    """
    row = arm.found(call, call.arm_id.rpartition("/")[0], MISSING.format(**call.path))
    asked = call.document().get("scheduleTime")
    try:
        time = datetime.fromisoformat(str(asked)) if asked else datetime.now(UTC)
    except ValueError as exc:
        raise bad_request(f"The scheduleTime {asked!r} is not an ISO 8601 time.") from exc
    name = schedule.make_job(call.local, row, time if time.tzinfo else time.replace(tzinfo=UTC))
    kind = row.properties["action"]["actionType"]
    return JSONResponse({"submissionId": name, "scheduleActionType": kind})


def complete(call: Call, body: Body) -> None:
    """Fill in when a schedule begins and what its job is, and refuse what cannot fire or run."""
    properties = body["properties"]
    for field, tag in (("trigger", "triggerType"), ("action", "actionType")):
        value = properties[field]
        if not isinstance(value, dict) or not isinstance(value.get(tag), str):
            raise bad_request(f"The {field} of a schedule has a {tag}.")
    properties["trigger"] = _begun(call, {"endTime": None, **properties["trigger"]})
    action = properties["action"]
    if action["actionType"] == schedule.CREATE_JOB:
        definition = action.get("jobDefinition")
        if not isinstance(definition, dict):
            raise bad_request("The action of a schedule has a jobDefinition.")
        asked = _definition(definition)
        job = schedule.definition(call.local, call.workspace, asked)
        submission.check(call.local, Job(call.workspace, call.path["name"]), job)
        properties["action"] = {**action, "jobDefinition": bodies.job(asked)}
    if isinstance(data := action.get("dataImportDefinition"), dict):
        properties["action"] = {**action, "dataImportDefinition": bodies.import_(data)}


def changed(local: Local, old: Resource | None, new: Resource) -> None:
    """Plan a schedule that was put; in the transaction of the write."""
    schedule.plan(local, old, new)
    local.schedules.wake()


def refuse_enabled(row: Resource) -> None:
    if row.properties["isEnabled"]:
        raise bad_request(f"Cannot delete an active trigger {row.name}")


def _begun(call: Call, asked: Body) -> Body:
    """A trigger with its start: that it had before, or now, by the schedule's clock."""
    try:
        if not asked.get("startTime"):
            row = call.local.store.get(call.arm_id)
            old = row.properties["trigger"] if row else {}
            is_same = {**old, "startTime": None} == {**asked, "startTime": None}
            asked = {**asked, "startTime": old["startTime"] if is_same else _now(asked)}
        triggers.next_run(asked, datetime.now(UTC))
    except triggers.BadTrigger as exc:
        raise bad_request(str(exc)) from exc
    return asked


def _now(asked: Body) -> str:
    """The next whole second, so that a recurrence without a pattern first fires at once."""
    now = datetime.now(triggers.time_zone(asked.get("timeZone") or "UTC"))
    return f"{now + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}"


def _definition(asked: Body) -> Body:
    """The job of a schedule as it was asked for, without what it has from an earlier run."""
    facts = asked.get("properties") or {}
    properties = {key: value for key, value in facts.items() if key not in PROTECTED}
    more = {"properties": properties} if facts else {}
    return {**asked, **more, "services": asked_services(asked) or asked.get("services")}
