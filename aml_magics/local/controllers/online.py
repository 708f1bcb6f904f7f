"""Online deployments: for each one in the store, a process that serves its model.

A thread for each deployment starts the process, says when it is ready, and starts it again when
it dies. A daemon that was killed finds living processes again.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local import daemon, processes, registry
from aml_magics.local.scoring import SECRET_VARIABLE
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

log = logging.getLogger(__name__)
SCORING = (sys.executable, "-P", "-m", "aml_magics.local.scoring")
KIND = "onlineEndpoints/deployments"
READY_SECONDS = 300.0
LOG_TAIL_BYTES = 1 << 20


class Server(NamedTuple):
    """A process that serves a deployment: where it listens, and the secret it asks for."""

    pid: int
    started: float
    port: int
    secret: str

    @property
    def handle(self) -> processes.Handle:
        return processes.Handle(self.pid, self.started)


class NotReady(Exception):
    """The process ended, or took too long, before it served; its log says why."""


class Online:
    """The deployments that are kept alive, by ARM id in lower case."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._keepers: dict[str, Keeper] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Keep the deployments that an earlier daemon left behind."""
        for row in self._local.store.of_kind(KIND):
            if row.properties["provisioningState"] != "Failed":
                self.deploy(row.id)

    def stop(self) -> None:
        """End the processes; the deployments come back with the next daemon."""
        with self._lock:
            keepers = list(self._keepers.values())
            self._keepers.clear()
        for keeper in keepers:
            keeper.let_go()
        for keeper in keepers:
            keeper.thread.join()

    def live(self) -> int:
        """How many deployments are being served or about to be."""
        with self._lock:
            return sum(keeper.is_alive() for keeper in self._keepers.values())

    def deploy(self, id: str) -> None:  # noqa: A002 (ARM's word)
        """Serve a deployment as the store has it now; what served it before ends when this does."""
        with self._lock:
            keeper = Keeper(self._local, id, self._keepers.get(id.lower()))
            self._keepers[id.lower()] = keeper
        keeper.thread.start()

    def remove(self, id: str) -> None:  # noqa: A002
        """End the process of a deployment and wait for that."""
        with self._lock:
            keeper = self._keepers.pop(id.lower(), None)
        if keeper:
            keeper.let_go()
            keeper.thread.join()
            shutil.rmtree(folder(self._local, id), ignore_errors=True)

    def server(self, id: str) -> Server | None:  # noqa: A002
        """What serves a deployment now, if it is ready."""
        with self._lock:
            keeper = self._keepers.get(id.lower())
        return keeper.ready() if keeper else None


class Keeper:
    """Keeps one process of one deployment alive until it is let go."""

    def __init__(self, local: Local, id: str, previous: Keeper | None) -> None:  # noqa: A002
        self._local, self._id, self._previous = local, id, previous
        self._folder = folder(local, id)
        self._released = threading.Event()
        self._handle: processes.Handle | None = None
        self._server: Server | None = None
        self.thread = threading.Thread(target=self._run, name=f"deployment {id}", daemon=True)

    def ready(self) -> Server | None:
        """Its process when that serves, else the one it is about to replace."""
        return self._server or (self._previous.ready() if self._previous else None)

    def is_alive(self) -> bool:
        return self.thread.is_alive() or bool(self._previous and self._previous.is_alive())

    def let_go(self) -> None:
        """End the process and the one before it; the threads follow."""
        self._released.set()
        if self._previous:
            self._previous.let_go()
        if self._handle:
            self._handle.kill()

    def _run(self) -> None:
        try:
            server = self._adopted() or self._launched()
            while not self._released.is_set():
                self._serve(server)
                server = self._launched()
        except (NotReady, ArmError) as exc:
            self._failed(str(exc))
        except Exception:
            log.exception("deployment %s", self._id)
            self._failed("The local workspace itself failed; see `aml-local logs`.")

    def _serve(self, server: Server) -> None:
        """Announce the process, end the one before it, and wait for its own end."""
        self._local.store.note(self._id, "server", list(server))
        self._handle, self._server = server.handle, server
        self._state("Succeeded")
        if self._previous:
            self._previous.let_go()
            self._previous = None
        server.handle.wait(None)
        self._server = None
        self._end(server.handle)
        if not self._released.is_set():
            log.warning("deployment %s: its process died and is started again", self._id)

    def _adopted(self) -> Server | None:
        noted = None if self._previous else self._local.store.noted(self._id, "server")
        server = Server(*noted) if noted else None
        return server if server and server.handle.process() else None

    def _launched(self) -> Server:
        row = self._local.store.get(self._id)
        if row is None or self._released.is_set():
            raise NotReady("The deployment is not wanted any more.")
        ws = self._local.workspace_of(self._id)
        model = registry.model_folder(self._local, ws, row.properties["model"])
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret, ready = secrets.token_urlsafe(16), self._folder / f"ready-{secrets.token_hex(4)}"
        self._handle = processes.start(
            [*SCORING, "--model", str(model), "--ready-file", str(ready)],
            cwd=self._folder,
            env=_environment(row.properties, model, secret),
            log=self._folder / "log.txt",
            exit_file=self._folder / "exit",
        )
        try:
            return Server(*self._handle, self._port(self._handle, ready), secret)
        except NotReady:
            self._end(self._handle)
            raise
        finally:
            ready.unlink(missing_ok=True)

    def _port(self, handle: processes.Handle, ready: Path) -> int:
        for _ in range(int(READY_SECONDS / 0.05)):
            if handle.wait(0.05) or self._released.is_set():
                raise NotReady(f"Its process ended.\n{tail(self._folder, 20)}")
            if ready.exists():
                return int(ready.read_text())
        raise NotReady(f"It was not ready within {READY_SECONDS:.0f} s.\n{tail(self._folder, 20)}")

    def _end(self, handle: processes.Handle) -> None:
        handle.kill()
        processes.reap(handle)

    def _state(self, state: str) -> None:
        def change(properties: Body) -> None:
            properties["provisioningState"] = state

        self._local.store.update(self._id, change)

    def _failed(self, reason: str) -> None:
        if not self._released.is_set():
            message = f"The deployment failed. {reason}"
            self._local.store.note(self._id, "error", {"message": message})
            self._state("Failed")


def folder(local: Local, id: str) -> Path:  # noqa: A002
    """Where a deployment has its log."""
    *_, endpoint, _, deployment = id.lower().split("/")
    return local.home / "online" / local.workspace_of(id).account / endpoint / deployment


def tail(place: Path, lines: int) -> str:
    """The last lines of a deployment's log."""
    path = place / "log.txt"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _environment(deployment: Body, model: Path, secret: str) -> dict[str, str]:
    asked = deployment.get("environmentVariables") or {}
    return {
        **daemon.child_environment(),
        "PYTHONUNBUFFERED": "1",
        "AZUREML_MODEL_DIR": str(model.parent),
        **{key: str(value) for key, value in asked.items()},
        SECRET_VARIABLE: secret,
    }
