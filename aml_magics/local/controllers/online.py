"""Online deployments: for each one in the store, the processes that serve its model.

A thread for each deployment makes what runs like what the store asks for: it starts the instances
that are missing, switches to them when all of them serve, and lets the old ones answer what they
were asked. Where that fails, the store gets back what was served last, and that goes on. A daemon
that was killed finds living processes again.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aml_magics.local import processes
from aml_magics.local.controllers import instances, serving
from aml_magics.local.controllers.instances import Instance, Server
from aml_magics.local.controllers.serving import NotReady, Plan, folder
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

log = logging.getLogger(__name__)
KIND = "onlineEndpoints/deployments"
WORKING = "working"  # the note of what a deployment was when it served last
DRAIN_SECONDS = 180.0  # the longest request timeout a deployment can ask Azure for


class Superseded(Exception):
    """The deployment was changed or removed while it was being made."""


class Online:
    """The deployments that are kept alive, by ARM id in lower case.

    `told` is called with an id when the instances that serve it have changed.
    """

    def __init__(self, local: Local, told: Callable[[str], None]) -> None:
        self._local, self._told = local, told
        self._keepers: dict[str, Keeper] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Keep the deployments that an earlier daemon left behind."""
        for row in self._local.store.of_kind(KIND):
            if may_serve(self._local, row):
                self.deploy(row.id)
            else:
                processes.end_strays(instances.exit_file(folder(self._local, row.id)))

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
            return sum(keeper.is_live() for keeper in self._keepers.values())

    def deploy(self, id: str) -> None:  # noqa: A002 (ARM's word)
        """Serve a deployment as the store has it now; until that is ready, as before."""
        with self._lock:
            keeper = self._keepers.get(id.lower())
            if keeper is None:
                keeper = Keeper(
                    self._local, id, told=lambda: self._told(id), gone=lambda: self._gone(id)
                )
                self._keepers[id.lower()] = keeper
                keeper.thread.start()
        keeper.change()

    def expect(self, model: Path) -> None:
        """Get ready to serve a model that was registered now: a deployment is often next."""
        if serving.imports(model):
            threading.Thread(target=serving.expect, args=(self._local, model), daemon=True).start()

    def remove_below(self, id: str) -> None:  # noqa: A002
        """End the processes of a deployment, endpoint or workspace that was deleted, and wait.

        The store forgets first: what it has again by now goes on, or is started anew at the end.
        """
        keepers = [one for one in self._below(id) if not self._is_stored(one.id)]
        for keeper in keepers:
            self._let_go(keeper)
        for keeper in keepers:
            keeper.thread.join()
            self._forget(keeper)
        with self._lock:
            if not self._below(id):  # also of those that failed and have no keeper
                shutil.rmtree(_place(self._local, id), ignore_errors=True)

    def keeps(self, id: str) -> bool:  # noqa: A002
        """Claim that a deployment is served or will be, if it can."""
        keeper = self._keepers.get(id.lower())
        return keeper is not None and not keeper.is_let_go()

    def instances(self, id: str) -> list[Instance]:  # noqa: A002
        """What serves a deployment now, ready or being started again."""
        keeper = self._keepers.get(id.lower())
        return keeper.instances if keeper else []

    def _below(self, id: str) -> list[Keeper]:  # noqa: A002
        inside = f"{id}/".lower()
        return [one for name, one in [*self._keepers.items()] if f"{name}/".startswith(inside)]

    def _is_stored(self, id: str) -> bool:  # noqa: A002
        return self._local.store.get(id) is not None

    def _let_go(self, keeper: Keeper) -> None:
        keeper.let_go()
        self._told(keeper.id)

    def _forget(self, keeper: Keeper) -> None:
        """Make room for another keeper, which begins if there is a deployment for it."""
        with self._lock:
            if self._keepers.get(keeper.id.lower()) is not keeper:
                return
            del self._keepers[keeper.id.lower()]
            shutil.rmtree(folder(self._local, keeper.id), ignore_errors=True)
        if self._is_stored(keeper.id):
            self.deploy(keeper.id)

    def _gone(self, id: str) -> None:  # noqa: A002
        """A keeper, in its own thread, found that its deployment was deleted."""
        threading.Thread(target=self.remove_below, args=(id,), daemon=True).start()


class Keeper:
    """Keeps one deployment as the store asks for it, until it is let go.

    Args:
        told: called when the instances that serve have changed.
        gone: called when the store has no such deployment any more: it is to be let go.
    """

    def __init__(
        self,
        local: Local,
        id: str,  # noqa: A002 (ARM's word)
        *,
        told: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        self.id, self._local, self._told, self._gone = id, local, told, gone
        self._folder = folder(local, id)
        self._changed, self._released = threading.Event(), threading.Event()
        self.instances: list[Instance] = []
        self.is_working = True
        self.thread = threading.Thread(target=self._run, name=f"deployment {id}", daemon=True)

    def change(self) -> None:
        """Look at the store again."""
        self.is_working = True
        self._changed.set()

    def is_live(self) -> bool:
        return self.is_working or bool(self.instances)

    def is_let_go(self) -> bool:
        return self._released.is_set()

    def let_go(self) -> None:
        """End all processes; the thread follows."""
        self._released.set()
        self._changed.set()

    def _run(self) -> None:
        while not self._released.is_set():
            self._changed.wait()
            self._changed.clear()
            if not self._released.is_set():
                self._follow()
            self.is_working = self._changed.is_set()
        _end(self.instances)
        self.instances = []

    def _follow(self) -> None:
        """Become what the store asks for, or say why not."""
        row = self._local.store.get(self.id)
        if row is None:
            self._gone()
            return
        try:
            self._become(row)
        except Superseded:
            log.info("deployment %s: superseded", self.id)
            if self._local.store.get(self.id) is None:
                self._gone()
        except (NotReady, ArmError) as exc:
            self._failed(row, str(exc))
        except Exception:
            log.exception("deployment %s", self.id)
            self._failed(row, "The local workspace itself failed; see `aml-local logs`.")

    def _become(self, row: Resource) -> None:
        plan = serving.plan(self._local, row, self._check)
        kept, new = self._split(row, plan)
        try:
            self._await(new)
        except BaseException:
            _end(new)
            raise
        old = [one for one in self.instances if one not in kept]
        self.instances = [*kept, *new]
        self._note()
        if not self._works(row):
            _end(old)
            raise Superseded
        self._told()
        self._retire(old, plan)

    def _split(self, row: Resource, plan: Plan) -> tuple[list[Instance], list[Instance]]:
        """The instances that can stay, and new ones, started."""
        count = _count(row)
        alike = [one for one in self.instances if one.plan.key == plan.key]
        kept = [one for one in alike if _lives(one)][:count]
        probes = tuple(instances.probe(row.properties[name] or {}) for name in _PROBES)
        for one in kept:
            one.readiness, one.liveness = probes[0], probes[1]
        adopted: list[Server | None] = [*self._adopted(plan)]
        missing = count - len(kept)
        servers = [*adopted[:missing], *[None] * (missing - len(adopted))]
        if not self.instances:
            stay = [server.pid for server in servers if server]
            processes.end_strays(instances.exit_file(self._folder), stay)
        new = [
            Instance(
                self._folder,
                plan,
                (probes[0], probes[1]),
                server,
                told=self._heard,
                servers=self._local.warm,
            )
            for server in servers
        ]
        for one in new:
            one.thread.start()
        return kept, new

    def _adopted(self, plan: Plan) -> list[Server]:
        """Living processes of an earlier daemon that serve what is asked for."""
        if self.instances:
            return []
        noted = self._local.store.noted(self.id, "servers") or []
        servers = [Server(*fields) for fields in noted]
        return [one for one in servers if one.key == plan.key and one.handle.process()]

    def _await(self, new: list[Instance]) -> None:
        for one in new:
            while not one.settled.wait(0.05):
                self._check()
            if one.failure is not None:
                raise NotReady(one.failure)

    def _retire(self, old: list[Instance], plan: Plan) -> None:
        """Let instances answer what they were asked, and end them."""
        for one in old:
            one.close()
        for one in old:
            one.drain(DRAIN_SECONDS, self._released)
        _end(old)
        self._note()
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != plan.key:
                shutil.rmtree(path, ignore_errors=True)

    def _heard(self) -> None:
        """One of the instances serves, or serves no more."""
        self._note()
        self._told()

    def _note(self) -> None:
        servers = [list(server) for one in self.instances if (server := one.server)]
        if not self._released.is_set():
            self._local.store.note(self.id, "servers", servers)

    def _check(self) -> None:
        if self._changed.is_set():
            raise Superseded

    def _works(self, row: Resource) -> bool:
        """Tell that what is asked for serves; whether there is still a deployment.

        What was put back after a failed update stays failed, as that update did.
        """
        store = self._local.store
        with store.transaction():
            has_failed = row.properties["provisioningState"] == "Failed"
            is_back = has_failed and store.noted(self.id, WORKING) is not None
            stored = self._store(row, row.body, "Failed" if is_back else "Succeeded")
            if stored:
                store.note(self.id, WORKING, row.body)
        return stored is not None

    def _failed(self, row: Resource, reason: str) -> None:
        """Tell of a failure, and go back to what was served last, unless it was that."""
        store = self._local.store
        with store.transaction():
            last = store.noted(self.id, WORKING) or row.body
            is_other = _specification(last) != _specification(row.body)
            stored = self._store(row, last, "Failed")
            if stored:
                goes_on = f" It goes on serving {_served(last)}, as before." if is_other else ""
                message = f"The deployment failed.{goes_on} {reason}"
                store.note(self.id, "error", {"message": message})
                if not is_other and not self.instances:
                    store.forget(self.id, WORKING)
        if stored is None:
            self._gone()
        elif stored and is_other:
            self._changed.set()

    def _store(self, row: Resource, body: Body, state: str) -> bool | None:
        """Store how a deployment ended, unless it is to be another; None when it was deleted."""
        found = self._local.store.get(self.id)
        if found is None or found.etag != row.etag:
            return None if found is None else False
        properties = {**body["properties"], "provisioningState": state}
        self._local.store.put(self.id, KIND, {**body, "properties": properties})
        return True


def may_serve(local: Local, row: Resource) -> bool:
    """Claim that a deployment serves or will: it did not fail, or what it was before goes on."""
    has_failed = row.properties["provisioningState"] == "Failed"
    return not has_failed or local.store.noted(row.id, WORKING) is not None


def _served(body: Body) -> str:
    model = body["properties"].get("model")
    return serving.model_name(model) if model else "its script"


def _specification(body: Body) -> Body:
    return {**body, "properties": {**body["properties"], "provisioningState": None}}


def _place(local: Local, id: str) -> Path:  # noqa: A002 (ARM's word)
    """The folder of a deployment, or that of an endpoint or workspace, in which those are."""
    kind = id.lower().split("/")[-2]
    if kind == "deployments":
        return folder(local, id)
    endpoint = folder(local, f"{id}/deployments/-").parent
    return endpoint if kind == "onlineendpoints" else endpoint.parent


_PROBES = ("readinessProbe", "livenessProbe")


def _lives(instance: Instance) -> bool:
    return bool((server := instance.server) and server.handle.process())


def _count(row: Resource) -> int:
    return max(1, int((row.body.get("sku") or {}).get("capacity") or 1))


def _end(some: list[Instance]) -> None:
    for one in some:
        threading.Thread(target=one.let_go, daemon=True).start()
    for one in some:
        one.thread.join()


def logs(place: Path, container: str, lines: int) -> str:
    """The last lines of the log of a deployment's container, of its server unless told."""
    is_initializer = container.lower() == "storageinitializer"
    name = serving.INITIALIZER_LOG if is_initializer else serving.SERVER_LOG
    return serving.tail(place / name, lines)
