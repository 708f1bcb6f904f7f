"""Schedules: at each time that an enabled one names, a job is made from what it holds.

When a schedule fires next is in the store, and the job of that time has a name that follows from
it. So a daemon that was killed makes up for it once, and never twice. Times that passed while no
daemon ran, or the machine slept, are made up for by one job.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from aml_magics.local import submission, triggers
from aml_magics.local.controllers import transfer
from aml_magics.local.controllers.run import PROTECTED, SCHEDULE, Job
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import ArmError, Workspace, bad_request, not_found

if TYPE_CHECKING:
    from aml_magics.local.app import Local

log = logging.getLogger(__name__)
KIND = "schedules"
CREATE_JOB, IMPORT_DATA = "CreateJob", "ImportData"
NEXT = "next"  # the note that holds when a schedule fires
PATIENCE = 20.0  # seconds: a clock that was put forward, or a machine that slept, is noticed then


class Schedules:
    """One thread that waits for the next time of any schedule."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self.wake()
        if self._thread.ident:
            self._thread.join()

    def wake(self) -> None:
        """A schedule has changed."""
        self._wake.set()

    def live(self) -> int:
        """How many schedules will fire."""
        return len(self._planned())

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            self._wake.wait(self._fire_due())

    def _fire_due(self) -> float:
        """Make the jobs whose time has come; returns the seconds until the next, or less."""
        now = datetime.now(UTC)
        for row, due in self._planned():
            if due <= now:
                self._fire(row, due, now)
        waits = [(due - datetime.now(UTC)).total_seconds() for _, due in self._planned()]
        return max(0.0, min([*waits, PATIENCE]))

    def _planned(self) -> list[tuple[Resource, datetime]]:
        """Schedules that will fire, and when."""
        store = self._local.store
        rows = ((row, store.noted(row.id, NEXT)) for row in store.of_kind(KIND))
        return [(row, datetime.fromisoformat(due)) for row, due in rows if due]

    def _fire(self, row: Resource, due: datetime, now: datetime) -> None:
        seed = f"{row.id} {row.sequence} {due.isoformat()}".lower()
        try:
            make_job(self._local, row, due, str(uuid5(NAMESPACE_URL, seed)))
        except ArmError as exc:
            log.warning("schedule %s made no job for %s: %s", row.id, due.isoformat(), exc)
        except Exception:
            log.exception("schedule %s made no job for %s", row.id, due.isoformat())
        with self._local.store.transaction():
            current = self._local.store.get(row.id)
            if current and self._local.store.noted(row.id, NEXT) == due.isoformat():
                _note_next(self._local, current, now)


def make_job(local: Local, schedule: Resource, time: datetime, name: str = "") -> str:
    """Make the job that a schedule holds, for a time at which it fires.

    Args: name: of the job; one that is there already is left alone.
    Returns: the job's name.
    Raises: ArmError: it cannot be run, or the schedule does something else (501).
    """
    action = schedule.properties["action"]
    if action["actionType"] not in (CREATE_JOB, IMPORT_DATA):
        what = f"schedules with the action {action['actionType']}: {schedule.name} is stored only"
        raise ArmError(501, "NotImplemented", f"The local workspace does not run {what}.")
    job = Job(local.workspace_of(schedule.id), name or str(uuid4()))
    if local.store.get(job.id) is None:
        data = action.get("dataImportDefinition")
        given = transfer.pipeline_of(data) if data else action["jobDefinition"]
        asked = definition(local, job.ws, given)
        submission.create(local, job, _asked(asked, schedule.name, job.name, time))
    return job.name


def definition(local: Local, ws: Workspace, given: Body) -> Body:
    """The job that a schedule holds, whole: what is given, on top of the job it refers to.

    Raises: ArmError 400: that is no pipeline. 404: it is not there.
    """
    given = {key: value for key, value in given.items() if value not in (None, "", {})}
    name = str(given.get("sourceJobId") or "").rpartition("/")[2]
    if not name or {"jobs", "componentId", "command"} & given.keys():
        return given
    source = local.store.get(f"{ws.id}/jobs/{name}")
    if source is None:
        raise not_found(f"Job {name} not found.")
    if source.properties["jobType"] != "Pipeline":  # the SDK could not change such a schedule again
        kind = source.properties["jobType"]
        message = f"Job {name} is a {kind} job; a schedule takes pipeline jobs."
        raise bad_request(f"{message} Make it a step of a pipeline.")
    return _on_top(source.properties, given)


def _on_top(source: Body, given: Body) -> Body:
    left_out = ("displayName", "isArchived", "services", "status")
    whole = {**{key: value for key, value in source.items() if key not in left_out}, **given}
    for key in ("inputs", "outputs", "properties", "settings", "tags"):
        whole[key] = {**(source.get(key) or {}), **(given.get(key) or {})}
    facts = whole["properties"].items()
    return {**whole, "properties": {key: value for key, value in facts if key not in PROTECTED}}


def plan(local: Local, old: Resource | None, new: Resource) -> None:
    """Note when a schedule that was put fires next; what was due already stays due.

    To be called in the transaction of the write.
    """
    plans = [_plan(row.properties) for row in (old, new) if row]
    if len(plans) < 2 or plans[0] != plans[1]:
        _note_next(local, new, datetime.now(UTC))


def _plan(schedule: Body) -> tuple[Any, ...]:
    return schedule["isEnabled"], schedule["trigger"], schedule["action"]["actionType"]


def _note_next(local: Local, schedule: Resource, after: datetime) -> None:
    properties = schedule.properties
    kind = properties["action"]["actionType"]
    fires = properties["isEnabled"] and kind in (CREATE_JOB, IMPORT_DATA)
    due = triggers.next_run(properties["trigger"], after) if fires else None
    local.store.note(schedule.id, NEXT, due.isoformat() if due else None)


def _asked(given: Body, schedule: str, name: str, time: datetime) -> Body:
    """The job of a schedule with what it gets from the schedule."""
    text = f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    values = {"${{name}}": name, "${{creation_context.trigger_time}}": text}
    filled = {key: _filled(given.get(key) or {}, values) for key in ("inputs", "outputs")}
    return {
        **given,
        **filled,
        "displayName": f"{schedule}-{text.translate(_COMPACT)}",
        "properties": {**(given.get("properties") or {}), SCHEDULE: schedule},
    }


_COMPACT = str.maketrans("", "", "-:")


def _filled(given: Any, values: dict[str, str]) -> Any:
    if isinstance(given, dict):
        return {key: _filled(value, values) for key, value in given.items()}
    if isinstance(given, str):
        for mark, value in values.items():
            given = given.replace(mark, value)
    return given
