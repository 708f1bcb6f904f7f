"""Run a parallel job: cut its input into mini-batches and let worker processes score them.

A worker that dies, hangs or raises fails the try of its mini-batch and nothing else: the mini-batch
is tried again, and a dead worker is replaced. What `run` returned is appended to one file, in the
order of the mini-batches. Logs lie below `logs/` as on Azure.

Usage: parallel.py OPTIONS -- ARGUMENTS-OF-THE-SCRIPT
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import minibatches  # type: ignore[import-not-found]  # it lies beside this script

WORKER = Path(__file__).with_name("minibatch_worker.py")
LOGS = Path("logs")
TOLD_EVERY = 2.0  # seconds between lines of progress


class Abort(Exception):
    """The job cannot go on, or must not; the text says why."""


class Task(NamedTuple):
    batch: Any
    tries: int = 1


class Worker:
    """A process of the entry script: the mini-batch it has, and when it must have answered."""

    def __init__(self, number: int, options: argparse.Namespace, arguments: list[str]) -> None:
        name = f"{number // options.concurrency}/process{number % options.concurrency:03}"
        self.number, self.is_ready = number, False
        self.task: Task | None = None
        self.deadline = time.monotonic() + options.task_overhead_timeout
        self.connection, theirs = Pipe()
        settings = {
            "descriptor": theirs.fileno(),
            "script": str(Path(options.entry_script).resolve()),
            "arguments": arguments,
            "log": str((LOGS / "user" / "entry_script_log" / f"{name}.log.txt").resolve()),
            "level": options.logging_level.upper(),
        }
        with _log("stdout", name) as out, _log("stderr", name) as err:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps(settings)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        theirs.close()

    def give(self, task: Task, seconds: float) -> None:
        batch = task.batch
        self.task, self.deadline = task, time.monotonic() + seconds
        self.connection.send((batch.number, batch.data, batch.keys))

    def kill(self) -> int:
        self.process.kill()
        self.connection.close()
        return self.process.wait()


def _log(kind: str, name: str) -> TextIO:
    path = LOGS / "user" / kind / f"{name}.{kind}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


class Results:
    """The file that results are appended to, in order, whole or not there at all."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._next = path, 0
        self._early: dict[int, str] = {}
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = path.with_name(f".{path.name}.partial")
            self._file = self._partial.open("w", encoding="utf-8")

    def add(self, index: int, text: str, header: str = "") -> None:
        if not self._path:
            return
        self._early[index] = text
        while self._next in self._early:
            part = self._early.pop(self._next)
            self._file.write(header + part if part and not self._file.tell() else part)
            self._next += 1

    def finish(self, keep: bool) -> None:
        if self._path:
            self._file.close()
            if keep:
                self._partial.replace(self._path)
            else:
                self._partial.unlink()


class Coordinator:
    """Hands mini-batches to workers until none is left, or too many have failed."""

    def __init__(
        self, options: argparse.Namespace, arguments: list[str], batches: Iterator[Any]
    ) -> None:
        self._options, self._arguments, self._batches = options, arguments, batches
        self._most = max(1, options.concurrency * options.instances)
        self._waiting: deque[Task] = deque()
        self._workers: dict[int, Worker] = {}
        self._results = Results(_append_file(options))
        self._lost_starts = 0  # workers in a row that died before they were ready
        self.done = self.failed = self.items = self.failed_items = 0
        self._told = time.monotonic()

    def __call__(self) -> None:
        kept = False
        try:
            while self._hand_out():
                self._listen()
            if not self.done:
                raise Abort("Its input is empty.")
            self._check_percentage()
            self._stop()
            kept = True
        finally:
            for worker in self._workers.values():
                worker.kill()
            self._results.finish(kept)

    def _hand_out(self) -> bool:
        """Give mini-batches to who is free, start workers for the rest.

        Returns: whether any is under way.
        """
        while len(self._waiting) < self._most and (batch := next(self._batches, None)):
            self._waiting.append(Task(batch))
        for worker in self._workers.values():
            if worker.is_ready and worker.task is None and self._waiting:
                self._give(worker, self._waiting.popleft())
        self._start()
        return bool(self._waiting) or any(w.task for w in self._workers.values())

    def _give(self, worker: Worker, task: Task) -> None:
        try:
            worker.give(task, self._options.timeout)
        except OSError:  # it is dead, which the next look at it finds out
            worker.task = task

    def _start(self) -> None:
        starting = sum(not worker.is_ready for worker in self._workers.values())
        for number in range(self._most):
            if starting < len(self._waiting) and number not in self._workers:
                self._workers[number] = Worker(number, self._options, self._arguments)
                starting += 1

    def _listen(self) -> None:
        """Wait for an answer, a death or the end of somebody's time."""
        now = time.monotonic()
        busy = [w.deadline for w in self._workers.values() if w.task or not w.is_ready]
        timeout = max(0.0, min([*busy, now + 1.0]) - now)
        answered = wait([worker.connection for worker in self._workers.values()], timeout)
        heard = [worker for worker in self._workers.values() if worker.connection in answered]
        for worker in heard:
            self._hear(worker)
        now = time.monotonic()
        for worker in [w for w in self._workers.values() if w not in heard]:
            if worker.process.poll() is not None:
                self._lose(worker, "")
            elif now > worker.deadline and (worker.task or not worker.is_ready):
                self._lose(worker, self._overdue(worker))
        self._tell()

    def _overdue(self, worker: Worker) -> str:
        if worker.is_ready:
            return f"run() took more than {self._options.timeout:g} seconds"
        return f"init() took more than {self._options.task_overhead_timeout:g} seconds"

    def _hear(self, worker: Worker) -> None:
        try:
            word, what = worker.connection.recv()
        except (EOFError, OSError):
            self._lose(worker, "")
            return
        task, worker.task = worker.task, None
        if word == "broken":
            raise Abort(f"The entry script failed before its first mini-batch.\n{what}")
        if word == "ready":
            worker.is_ready, self._lost_starts = True, 0
        elif task and word == "done":
            self._finish(task, *what)
        elif task:
            self._fail(task, what)

    def _lose(self, worker: Worker, reason: str) -> None:
        """Be rid of a worker that died or hangs; its mini-batch's try has failed."""
        code = worker.kill()
        del self._workers[worker.number]
        if not worker.is_ready:
            self._lost_starts += 1
            if self._lost_starts > self._options.max_retries:
                raise Abort(f"Workers end before init() does: {reason or _death(code)}.")
        elif worker.task:
            self._fail(worker.task, reason or _death(code))

    def _fail(self, task: Task, reason: str) -> None:
        index, again = task.batch.number, task.tries <= self._options.max_retries
        what = "it is tried again" if again else "it has failed"
        say(f"Mini-batch {index}, try {task.tries}: {what}. {reason.strip().splitlines()[-1]}")
        with _error_log() as log:
            log.write(f"Mini-batch {index}, try {task.tries}:\n{reason}\n")
        if again:
            self._waiting.append(Task(task.batch, task.tries + 1))
            return
        self._results.add(index, "")
        self._count(1, task.batch.items)

    def _finish(self, task: Task, count: int, text: str, header: str) -> None:
        missing = max(0, task.batch.items - count)
        with_header = self._options.append_row_dataframe_header
        self._results.add(task.batch.number, text, header if with_header else "")
        self.items += task.batch.items - missing
        if missing:
            what = f"{missing} of {task.batch.items} items have no result"
            say(f"Mini-batch {task.batch.number}: {what}.")
        self._count(int(missing > 0), missing)

    def _count(self, batches: int, items: int) -> None:
        self.done += 1
        self.failed += batches
        self.failed_items += items
        _check("items", self.failed_items, self._options.error_threshold, "error_threshold")
        limit = self._options.mini_batch_error_threshold
        _check("mini-batches", self.failed, limit, "mini_batch_error_threshold")

    def _check_percentage(self) -> None:
        percent = 100 * self.failed / max(self.done, 1)
        if percent > self._options.allowed_failed_percent:
            message = f"{percent:.0f} % of the mini-batches failed"
            allowed = f"allowed_failed_percent is {self._options.allowed_failed_percent:g}"
            raise Abort(f"{message}; {allowed}.")

    def _tell(self) -> None:
        if time.monotonic() > self._told + TOLD_EVERY:
            self._told = time.monotonic()
            say(f"{self.done} mini-batches processed, {self.failed} of them failed.")

    def _stop(self) -> None:
        """Let the workers shut down by themselves."""
        for worker in self._workers.values():
            if worker.is_ready:
                worker.connection.send(None)
        deadline = time.monotonic() + self._options.task_overhead_timeout
        for worker in self._workers.values():
            if worker.is_ready:
                try:
                    worker.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    say("A worker did not come to the end of its shutdown() and was ended.")


def _check(what: str, failed: int, threshold: int, name: str) -> None:
    if 0 <= threshold < failed:
        raise Abort(f"{failed} {what} failed; {name} is {threshold}.")


def _death(code: int) -> str:
    return (
        f"its process was killed by signal {-code}" if code < 0 else f"its process exited: {code}"
    )


def _error_log() -> TextIO:
    path = LOGS / "user" / "error.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


def _append_file(options: argparse.Namespace) -> Path | None:
    if not options.append_row_to:
        return None
    path = Path(options.append_row_to)
    return path / options.append_row_file_name if path.is_dir() else path


def say(line: str) -> None:
    """Add a line to the job's log and to the overview of its progress."""
    stamped = f"[{time.strftime('%H:%M:%S')}] {line}"
    print(stamped, flush=True)
    with (LOGS / "job_progress_overview.txt").open("a", encoding="utf-8") as log:
        log.write(stamped + "\n")


def options_of(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of this program, and the arguments of the script, which may set some of them."""
    at = arguments.index("--")
    own, script = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser("parallel.py", allow_abbrev=False)
    parser.add_argument("--entry-script", required=True)
    parser.add_argument("--input-data", required=True)
    parser.add_argument("--table", action="store_true", help="the input is an MLTable")
    parser.add_argument("--mini-batch-size", default="")
    parser.add_argument("--partition-keys", type=json.loads, default=[])
    parser.add_argument("--concurrency", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--max-retries", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of one run()")
    parser.add_argument("--mini-batch-error-threshold", type=int, default=-1)
    parser.add_argument("--error-threshold", "--error_threshold", type=int, default=-1)
    parser.add_argument("--logging-level", default="INFO")
    parser.add_argument("--append-row-to", default="")
    parser.add_argument("--output-folder", default="")
    # What Azure reads from the script's arguments
    parser.add_argument("--append_row_file_name", default="parallel_run_step.txt")
    parser.add_argument("--append_row_dataframe_header", type=_truth, default=False)
    parser.add_argument("--allowed_failed_percent", type=float, default=100.0)
    parser.add_argument("--task_overhead_timeout", type=float, default=600.0)
    return parser.parse_known_args([*own, *script])[0], script


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


def main(argv: list[str]) -> int:
    """Run the job: 0 when it is done, 1 when it failed."""
    LOGS.mkdir(exist_ok=True)
    options, arguments = options_of(argv)
    folder = options.output_folder or os.path.dirname(options.append_row_to)  # noqa: PTH120
    os.environ["AZUREML_BI_OUTPUT_PATH"] = folder or "."
    say(f"Parallel job: {options.entry_script} {shlex.join(arguments)}")
    size, keys = options.mini_batch_size, options.partition_keys
    batches = minibatches.split(options.input_data, size, keys, options.table)
    coordinator = Coordinator(options, arguments, batches)
    try:
        coordinator()
        problem = ""
    except (Abort, minibatches.BadData) as exc:
        problem = f"The parallel job failed. {exc}"
    c = coordinator
    say(
        f"{c.done} mini-batches processed, {c.failed} of them failed; {c.items} items succeeded, "
        f"{c.failed_items} failed."
    )
    if problem:
        say(problem)
    (LOGS / "job_result.txt").write_text((problem or "The parallel job succeeded.") + "\n", "utf-8")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
