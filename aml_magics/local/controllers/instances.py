"""An instance of a deployment: one process, probed, and started again whenever it ends."""

from __future__ import annotations

import http.client
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from aml_magics.local import processes, warm
from aml_magics.local.bodies import seconds
from aml_magics.local.controllers.serving import LOG_LIMIT_BYTES, SERVER_LOG, NotReady, Plan, tail
from aml_magics.local.store import Body

log = logging.getLogger(__name__)
# A line of a traceback that names the exception, after whatever a logger puts before it.
EXCEPTION = re.compile(r"^(?:.*? )??((?:\w+\.)*\w*(?:Error|Exception): \S.*)$", re.MULTILINE)
WRAPPER = "azureml_inference_server_http."  # its exceptions only say that there was one
LOG_LINES = 200  # the exception may be followed by what a server says at its end
LOOK = 0.05  # seconds between looks at a starting process
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a start after one that failed


class Server(NamedTuple):
    """A process that serves: which one, its socket, and what it serves (`Plan.key`)."""

    pid: int
    started: float
    socket: str
    key: str

    @property
    def handle(self) -> processes.Handle:
        return processes.Handle(self.pid, self.started)


class Probe(NamedTuple):
    """When a process that does not answer counts as broken; times in seconds."""

    delay: float
    period: float
    timeout: float
    failures: int

    @property
    def patience(self) -> float:
        """How long a starting process may take to answer."""
        return self.delay + self.failures * self.period


def probe(asked: Body) -> Probe:
    return Probe(
        seconds(asked.get("initialDelay"), 10),
        max(seconds(asked.get("period"), 10), 0.1),
        max(seconds(asked.get("timeout"), 2), 0.1),
        max(int(asked.get("failureThreshold") or 30), 1),
    )


class Instance:
    """Keeps one process alive until it is let go.

    Args:
        place: the deployment's folder.
        adopted: a living process of an earlier daemon.
        told: called when `server` has changed.
        servers: have imported already what many a process begins with.
    """

    def __init__(
        self,
        place: Path,
        plan: Plan,
        probes: tuple[Probe, Probe],
        adopted: Server | None,
        *,
        told: Callable[[], None],
        servers: warm.Warm,
    ) -> None:
        self.plan, self.server, self.busy = plan, adopted, 0
        self.readiness, self.liveness = probes
        self.failure: str | None = None
        self.settled = threading.Event()  # it serves, or has failed to at the first try
        self._place, self._told, self._servers = place, told, servers
        self._released, self._closing = threading.Event(), False
        self._handle: processes.Handle | None = None
        self._doubted: Server | None = None
        self._begun = 0  # bytes of the log before this start
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name=f"instance of {place}", daemon=True)

    # Requests

    def acquire(self, most: int) -> bool:
        """Take one of its `most` places for a request, if it serves and one is free."""
        with self._lock:
            full = self.busy >= most
            if self.server is None or self.server == self._doubted or self._closing or full:
                return False
            self.busy += 1
            return True

    def release(self) -> None:
        with self._lock:
            self.busy -= 1

    def doubt(self) -> None:
        """A request got no answer: send no others until it is known whether the process lives.

        A process that is killed takes connections for a moment longer.
        """
        with self._lock:
            server = self.server
            if server is None or server == self._doubted:
                return
            self._doubted = server
        threading.Thread(target=self._verify, args=(server,), daemon=True).start()

    def _verify(self, server: Server) -> None:
        while self.server == server and not answers(server.socket, self.liveness.timeout):
            time.sleep(LOOK)
        with self._lock:
            if self._doubted == server:
                self._doubted = None
        self._told()

    # Life

    def close(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._closing = True

    def drain(self, limit: float, deleted: threading.Event) -> None:
        """Answer what is under way, at most `limit` seconds long and until deleted, and end."""
        self.close()
        end = time.monotonic() + limit
        ended = (self._released, deleted)
        while self.busy and not any(one.is_set() for one in ended) and time.monotonic() < end:
            time.sleep(LOOK)
        self.let_go()

    def let_go(self) -> None:
        """End the process; the thread follows."""
        with self._lock:
            self._released.set()
            handle = self._handle
        if handle:
            handle.kill()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        server = self.server
        while not self._released.is_set():
            try:
                self._serve(server or self._launched())
                pause = FIRST_PAUSE
            except NotReady as exc:
                if not self.settled.is_set():
                    self.failure = str(exc)
                    self.settled.set()
                    return
                self._released.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            server = None

    def _serve(self, server: Server) -> None:
        with self._lock:
            self._handle, self.server = server.handle, server
        self.settled.set()
        self._told()
        self._watch(server)
        with self._lock:
            self.server = None
        self._end(server.handle, server.socket)
        if not self._released.is_set():
            log.warning("%s: its process %s died and is started again", self._place, server.pid)
            self._told()

    def _watch(self, server: Server) -> None:
        """Return when the process has ended, or has not answered for too long."""
        failed = 0
        while failed < self.liveness.failures:
            if server.handle.wait(self.liveness.period) or self._released.is_set():
                server.handle.wait(processes.GRACE)
                return
            failed = 0 if answers(server.socket, self.liveness.timeout) else failed + 1
            _shorten(self._place / SERVER_LOG)

    def _launched(self) -> Server:
        path = _socket_path(self._place)
        _shorten(self._place / SERVER_LOG)
        self._begun = _size(self._place / SERVER_LOG)
        command, plan = [*self.plan.command, str(path)], self.plan
        ready = self._servers.ready_module(command, plan.imports, plan.cwd, plan.env)
        log, exit_ = self._place / SERVER_LOG, exit_file(self._place)
        with self._lock:
            if self._released.is_set():
                raise NotReady("The deployment is not wanted any more.")
            begun = warm.begin(
                ready, command, Path("sh"), cwd=plan.cwd, env=plan.env, log=log, exit_file=exit_
            )
            self._handle = handle = begun.handle
        begun.go()
        try:
            self._await(handle, path)
        except NotReady:
            self._end(handle, str(path))
            raise
        return Server(*handle, str(path), self.plan.key)

    def _await(self, handle: processes.Handle, path: Path) -> None:
        end = time.monotonic() + self.readiness.patience
        while time.monotonic() < end:
            if handle.wait(LOOK) or self._released.is_set():
                raise NotReady(self._told_by_log("Its process ended"))
            if path.exists() and answers(str(path), self.readiness.timeout):
                return
        waited = f"It was not ready within {self.readiness.patience:.0f} s"
        raise NotReady(self._told_by_log(waited))

    def _told_by_log(self, what: str) -> str:
        """What happened, with the last exception and the end of the log of this start."""
        text = tail(self._place / SERVER_LOG, LOG_LINES, self._begun)
        found = [one for one in EXCEPTION.findall(text) if not one.startswith(WRAPPER)]
        reason = f": {found[-1]}" if found else "."
        return "\n".join([what + reason, *text.splitlines()[-20:]])

    def _end(self, handle: processes.Handle, path: str) -> None:
        handle.kill()
        processes.reap(handle)
        Path(path).unlink(missing_ok=True)


def exit_file(place: Path) -> Path:
    """By it the processes of a deployment are found."""
    return place / "exit"


def answers(path: str, timeout: float) -> bool:
    """Claim that the server at a socket says that it is healthy."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(timeout)
        connection.sock.connect(path)
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _socket_path(place: Path) -> Path:
    """A short name, since the system allows no more than 104 bytes, in a folder of the user's."""
    folder = Path(tempfile.gettempdir()) / f"aml-local-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NotReady(f"{folder} is another user's.")
    folder.chmod(0o700)
    return folder / f"{sha256(str(place).encode()).hexdigest()[:12]}-{secrets.token_hex(4)}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _shorten(path: Path) -> None:
    """Put a log that is too long aside; the processes that add to it go on in the same file."""
    if _size(path) > LOG_LIMIT_BYTES:
        shutil.copyfile(path, path.with_suffix(".1.txt"))
        os.truncate(path, 0)
