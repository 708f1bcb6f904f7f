"""The queue of jobs: by priority, then first in, first out, while there is room."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local.controllers.command import CommandRun
from aml_magics.local.controllers.kinds import AS_COMMAND
from aml_magics.local.controllers.pipeline import PipelineRun
from aml_magics.local.controllers.run import TERMINAL, Canceled, Failed, Job, Parent, Run
from aml_magics.local.controllers.search import AutoMLRun
from aml_magics.local.controllers.sweep import SweepRun
from aml_magics.local.store import Body
from aml_magics.local.wire import Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

MEDIUM = 2
CLEAR_SECONDS = 30.0  # to end what runs in a workspace
log = logging.getLogger(__name__)

# What sees jobs of each type through.
RUNS: dict[str, type[Run]] = {
    **dict.fromkeys(AS_COMMAND, CommandRun),
    "AutoML": AutoMLRun,
    "Pipeline": PipelineRun,
    "Sweep": SweepRun,
}


class _Waiting(NamedTuple):
    run: Run
    compute: str
    priority: int


class Jobs:
    """Holds the jobs that wait, and a thread for each that runs.

    State is in the store before and after each step: a daemon that was killed follows living
    processes on, starts what had not begun, and says of the rest why it failed.
    """

    def __init__(self, local: Local) -> None:
        self._local = local
        self._queue: list[_Waiting] = []
        self._running: dict[str, Run] = {}
        self._busy: dict[str, str] = {}  # job that has a slot → compute that it is on
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Take up the jobs that an earlier daemon left behind, those that run already first."""
        rows = [
            row
            for row in self._local.store.of_kind("jobs")
            if row.properties["status"] not in TERMINAL
        ]
        for row in sorted(rows, key=lambda row: not self._local.store.noted(row.id, "process")):
            self.submit(Job(self._local.workspace_of(row.id), row.name))

    def stop(self) -> None:
        """End what runs: without the daemon its jobs would have nowhere to log."""
        with self._lock:
            self._stopped = True
            runs, threads = list(self._running.values()), threading.enumerate()
        for run in runs:
            run.stop(Failed("The local workspace was stopped while the job ran."))
        for thread in threads:
            if thread.name.startswith("job "):
                thread.join()

    def live(self) -> int:
        """How many jobs run or wait."""
        with self._lock:
            return len(self._queue) + len(self._running)

    def submit(self, job: Job) -> None:
        """Begin a job, or let it wait until there is room for it."""
        row = self._local.store.get(job.id)
        if row is None or row.properties["status"] in TERMINAL:
            return
        run = RUNS[row.properties["jobType"]](self._local, job)
        with self._lock:
            if run.takes_slot:
                compute = row.properties.get("computeId") or ""
                self._queue.append(_Waiting(run, compute, _priority(row.properties)))
                self._queue.sort(key=lambda waiting: -waiting.priority)
            else:
                self._begin(run)
        self._pump()

    def cancel(self, job: Job) -> None:
        """Ask for the end of a job, wherever on its way it is."""
        with self._lock:
            run = self._running.get(job.id)
            self._queue = [w for w in self._queue if w.run.job != job]
        row = self._local.store.get(job.id)
        if run:
            run.status("CancelRequested")
            run.stop(Canceled())
        elif row and row.properties["status"] not in TERMINAL:
            RUNS[row.properties["jobType"]](self._local, job).end(Canceled())

    def clear(self, ws: Workspace) -> None:
        """Cancel all jobs of a workspace, those of pipelines too, and wait for their end."""
        limit = time.monotonic() + CLEAR_SECONDS
        while (jobs := self._of(ws)) and time.monotonic() < limit:
            for job in jobs:
                self.cancel(job)
            time.sleep(0.05)

    def _of(self, ws: Workspace) -> list[Job]:
        with self._lock:
            jobs = [run.job for run in self._running.values()]
            jobs += [waiting.run.job for waiting in self._queue]
        return [job for job in jobs if job.ws.id.lower() == ws.id.lower()]

    def wake(self, id: str) -> None:  # noqa: A002 (ARM's word)
        """Tell the parent with this id, if it is a job that runs, that a child has ended."""
        with self._lock:
            run = self._running.get(id)
        if isinstance(run, Parent):
            run.wake()

    def _pump(self) -> None:
        with self._lock:
            for waiting in list(self._queue):
                if len(self._busy) >= self._local.slots or self._stopped:
                    return
                if self._has_room(waiting.compute):
                    self._queue.remove(waiting)
                    self._busy[waiting.run.job.id] = waiting.compute
                    self._begin(waiting.run)

    def _has_room(self, compute: str) -> bool:
        """Whether a compute has an instance that no job has."""
        row = self._local.store.get(compute) if compute else None
        used = sum(other == compute for other in self._busy.values())
        return row is None or used < _instances(row.properties)

    def _begin(self, run: Run) -> None:
        self._running[run.job.id] = run
        name = f"job {run.job.name}"
        threading.Thread(target=self._thread, args=(run,), name=name, daemon=True).start()

    def _thread(self, run: Run) -> None:
        try:
            run()
        except Exception:
            log.exception("job %s", run.job.name)
            run.end(Failed("The local workspace itself failed; see `aml-local logs`."))
        finally:
            with self._lock:
                del self._running[run.job.id]
                self._busy.pop(run.job.id, None)
            self._pump()


def _priority(job: Body) -> int:
    """1 to 3, as the SDK writes low, medium and high."""
    return int((job.get("queueSettings") or {}).get("priority") or MEDIUM)


def _instances(compute: Body) -> int:
    """How many jobs a compute takes at once: nodes of a cluster, one of an instance."""
    if compute.get("computeType") == "ComputeInstance":
        return 1
    scale = (compute.get("properties") or {}).get("scaleSettings") or {}
    return int(scale.get("maxNodeCount") or 1_000_000)
