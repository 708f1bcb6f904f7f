"""The queue of jobs: first in, first out, as many at once as there are slots."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from aml_magics.local.controllers.command import TERMINAL, Canceled, Failed, Job, Run

if TYPE_CHECKING:
    from aml_magics.local.app import Local

log = logging.getLogger(__name__)


class Jobs:
    """Holds the jobs that wait, and a thread for each that runs.

    State is in the store before and after each step: a daemon that was killed follows living
    processes on, starts what had not begun, and says of the rest why it failed.
    """

    def __init__(self, local: Local) -> None:
        self._local = local
        self._queue: deque[Job] = deque()
        self._running: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Take up the jobs that an earlier daemon left behind."""
        for row in self._local.store.of_kind("jobs"):
            if row.properties["status"] not in TERMINAL:
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
        with self._lock:
            self._queue.append(job)
        self._pump()

    def cancel(self, job: Job) -> None:
        """Ask for the end of a job, wherever on its way it is."""
        with self._lock:
            run = self._running.get(job.id)
            waiting = run is None and job in self._queue
            if waiting:
                self._queue.remove(job)
        if run:
            run.status("CancelRequested")
            run.stop(Canceled())
        elif waiting:
            Run(self._local, job).end(Canceled())

    def _pump(self) -> None:
        with self._lock:
            while self._queue and len(self._running) < self._local.slots and not self._stopped:
                job = self._queue.popleft()
                self._running[job.id] = run = Run(self._local, job)
                name = f"job {job.name}"
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
            self._pump()
