"""A job under way, whatever its kind: which it is, what it is in, how it is stopped and ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local import environments, uris
from aml_magics.local.store import Body, Resource, now
from aml_magics.local.wire import ArmError, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

TERMINAL = ("Completed", "Failed", "Canceled")
SCHEDULE = "azureml.scheduleName"  # the property of a job that a schedule has made
# Properties of a job that are the service's own.
PROTECTED = (
    *("StartTimeUtc", "EndTimeUtc", "ExitCode", SCHEDULE),
    *("best_child_run_id", "best_data_container_id", "best_metric_status", "score"),
)
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
PATIENCE = 5.0  # seconds until a parent looks at its children unasked


class Ended(Exception):
    """A job's way out; `status` is what it ends in."""

    status = "Completed"


class Failed(Ended):
    """Why a job failed, in the words its user reads."""

    status = "Failed"


class Canceled(Ended):
    """The job was cancelled."""

    status = "Canceled"


class Job(NamedTuple):
    """Which job."""

    ws: Workspace
    name: str

    @property
    def id(self) -> str:
        return f"{self.ws.id}/jobs/{self.name}"


class Run:
    """A job under way; call it to see it through, in a thread of its own.

    `takes_slot`: whether it works itself, or has child jobs work.
    """

    takes_slot = True

    def __init__(self, local: Local, job: Job) -> None:
        self.local, self.job = local, job
        self.artifacts = uris.artifacts(local, job.ws, job.name)
        self._reason: Ended | None = None

    def __call__(self) -> None:
        try:
            self.work()
        except Ended as way:
            self.end(way)
        except environments.BuildFailed as exc:
            self.say(BUILD_LOG, str(exc))
            self.end(Failed(f"The environment could not be built. {exc}\n{self.tail(BUILD_LOG)}"))
        except ArmError as exc:
            self.end(Failed(str(exc)))

    def work(self) -> None:
        """See the job through.

        Raises: Ended: always; how it did.
        """
        raise NotImplementedError(type(self))

    def stop(self, reason: Ended) -> None:
        """End the job with `reason`, whatever step it is at."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Leave when the job was told to stop."""
        if self._reason:
            raise self._reason

    def row(self) -> Resource:
        """The job as it is now.

        Raises: Canceled: it was deleted.
        """
        row = self.local.store.get(self.job.id)
        if row is None:
            raise Canceled
        return row

    def status(self, status: str, **properties: str) -> None:
        def change(job: Body) -> None:
            if job["status"] in TERMINAL:
                return
            job["status"] = status
            job["properties"] = {**(job.get("properties") or {}), **properties}

        self.local.store.update(self.job.id, change)

    def end(self, way: Ended) -> None:
        """Write down how the job ended: its run first, so that who sees the end sees it whole."""
        if way.status == "Failed":
            error = {"code": "UserError", "message": str(way)}
            self.local.store.note(self.job.id, "error", error)
        self.local.mlflow.end_run(self.job.ws, self.job.name, way.status)
        self.status(way.status, EndTimeUtc=now())
        row = self.local.store.get(self.job.id)
        if row:
            self.local.jobs.wake(row.parent)

    def say(self, log: str, line: str) -> None:
        """Add a line to one of the job's logs."""
        path = self.artifacts / log
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def tail(self, log: str, lines: int = 10) -> str:
        """The last lines of one of the job's logs."""
        path = self.artifacts / log
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


class Parent(Run):
    """A job whose work is done by child jobs. Its state is theirs: a new daemon goes on."""

    takes_slot = False

    def __init__(self, local: Local, job: Job) -> None:
        super().__init__(local, job)
        self._wake = threading.Event()

    def wake(self) -> None:
        """A child has ended."""
        self._wake.set()

    def stop(self, reason: Ended) -> None:
        super().stop(reason)
        self.wake()

    def work(self) -> None:
        if "StartTimeUtc" not in self.row().properties["properties"]:
            self.status("Running", StartTimeUtc=now())
        try:
            while True:
                self._wake.clear()
                self.check()
                self._wake.wait(self.advance())
        except BaseException:
            self.cancel_children()
            raise

    def advance(self) -> float:
        """Begin what can begin.

        Returns: seconds after which to look again if no child ends before.
        Raises: Ended: nothing is left to do.
        """
        raise NotImplementedError(type(self))

    def children(self) -> list[Resource]:
        """Child jobs, newest first."""
        return self.local.store.children(self.job.id, "jobs")

    def cancel_children(self) -> None:
        """End every child job and wait for that."""
        while alive := [c for c in self.children() if c.properties["status"] not in TERMINAL]:
            self._wake.clear()
            for child in alive:
                self.local.jobs.cancel(Job(self.job.ws, child.name))
            self._wake.wait(PATIENCE)
