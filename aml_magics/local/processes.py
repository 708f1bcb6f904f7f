"""Child processes that outlive the daemon: started in a session of their own, found again by
process id and start time."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

GRACE = 5.0  # seconds between SIGTERM and SIGKILL

# The exit code goes through a file: a restarted daemon is not the parent any more. It is read
# when the wrapper is gone: nobody sees half of it, and a wrapper that was killed leaves no number.
_WRAPPER = '"$@"; echo $? > "$AML_EXIT"'


class Handle(NamedTuple):
    """A process, so that another process that later has the same id is not taken for it."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The living process, or None when it is gone."""
        try:
            process = psutil.Process(self.pid)
            same = process.create_time() == self.started
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is gone, at most `timeout` seconds; whether it is."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while process := self.process():
            left = end - time.monotonic()
            if left <= 0:
                return False
            _wait(process, min(left, 3600.0))
        return True

    def kill(self) -> None:
        """End the whole process group: asked first, then forced."""
        _poll(self.pid)  # a dead child of ours would be of the group until it is waited for
        end = time.monotonic() + GRACE
        is_there = self._signal(signal.SIGTERM)
        while is_there and time.monotonic() < end:
            time.sleep(0.02)
            _poll(self.pid)
            is_there = self._signal(0)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> bool:
        """Signal the group, unless its id is another's by now: then nothing of ours is left."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(self.pid).create_time() != self.started:
                return False
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _wait(process: psutil.Process, seconds: float) -> None:
    """Return when a process has ended, as a zombie too, or after so many seconds at the latest."""
    try:
        ended = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or an old one
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(min(seconds, 0.25))  # a zombie that nobody reaps does not end this wait
        return
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        poller.poll(1000 * seconds)
    finally:
        os.close(ended)


def start(
    command: list[str], *, cwd: Path, env: dict[str, str], log: Path, exit_file: Path
) -> Handle:
    """Run a command in a session of its own; its output goes to `log`, its code to `exit_file`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, "sh", *command],
            cwd=cwd,
            env={**env, "AML_EXIT": str(exit_file)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=_UMASK,
        )
    _children[child.pid] = child
    return Handle(child.pid, psutil.Process(child.pid).create_time())


def find(exit_file: Path) -> Handle | None:
    """The living process that was started with this exit file."""
    leaders = (p for p in _of(exit_file) if p.pid == os.getpgid(p.pid))
    first = min(leaders, key=lambda process: process.create_time(), default=None)
    return Handle(first.pid, first.create_time()) if first else None


def end_strays(exit_file: Path, but: Collection[int] = ()) -> None:
    """End what left the process group of the command with this exit file, as a daemon does.

    Args: but: leaders of process groups that stay.
    """
    for process in _of(exit_file):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) not in but:
                process.kill()


def end_below(home: Path) -> int:
    """End what a killed daemon of this home has left behind; how many processes that were."""
    found = list(_marked(b"AML_EXIT=" + os.fsencode(home) + b"/"))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(found, timeout=GRACE)
    return len(found)


def run(command: list[str], env: dict[str, str]) -> int:
    """Run a short command that says nothing, and return its exit code."""
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode


def _of(exit_file: Path) -> Iterator[psutil.Process]:
    """Processes that this exit file was given to, and what they have started."""
    yield from _marked(b"AML_EXIT=" + os.fsencode(exit_file) + b"\0")


def _marked(mark: bytes) -> Iterator[psutil.Process]:
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if mark in _environment(pid):
                yield psutil.Process(pid)


def _environment(pid: int) -> bytes:
    if sys.platform == "linux":  # psutil takes ten times as long, and every job's end asks
        return Path(f"/proc/{pid}/environ").read_bytes()
    variables = psutil.Process(pid).environ()
    return b"".join(os.fsencode(f"{key}={value}\0") for key, value in variables.items())


def exit_code(exit_file: Path) -> int | None:
    """What the command returned, or None when it did not come to its end."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(exit_file.read_text())
    return None


def _poll(pid: int) -> None:
    child = _children.get(pid)
    if child:
        child.poll()


def reap(handle: Handle) -> None:
    """Take a dead child off the process table."""
    child = _children.pop(handle.pid, None)
    if child:
        child.wait()


def users_mask() -> int:
    """The mask for files that the user has, whose processes the jobs are."""
    return _UMASK


def keep_files_private() -> None:
    """From now on this process makes files that only its user can read; its children's stay."""
    os.umask(0o077)


_UMASK = os.umask(0o077)  # of the user, for the processes started here
os.umask(_UMASK)
_children: dict[int, subprocess.Popen[bytes]] = {}
