"""The application: finds the row of ROUTES for a request and calls its function."""

from __future__ import annotations

import inspect
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from aml_magics.local import doors, files, identity, signatures
from aml_magics.local.controllers.jobs import Jobs
from aml_magics.local.controllers.online import Online
from aml_magics.local.controllers.schedule import Schedules
from aml_magics.local.incoming import Incoming
from aml_magics.local.lanes import Lanes
from aml_magics.local.mlflow import Tracking
from aml_magics.local.monitor import Monitor
from aml_magics.local.router import Table
from aml_magics.local.store import Store
from aml_magics.local.warm import Warm
from aml_magics.local.wire import PROVIDER, ArmError, Call, Workspace, read_body

if TYPE_CHECKING:
    from aml_magics.local.daemon import Address

log = logging.getLogger(__name__)
SCOPE = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    rf"/providers/{re.escape(PROVIDER)}/(?P<scope>workspaces|registries)/(?P<workspace>[^/]+)"
)
_ID = re.compile(SCOPE + r"(?:/|$)", re.IGNORECASE)


class Local:
    """The running workspace server: what handlers and controllers share."""

    def __init__(self, home: Path, address: Address) -> None:
        self.home, self.address = home, address
        self.secret = address.token.encode()
        self.strict = os.environ.get("AML_LOCAL_STRICT") == "1"
        self.slots = int(os.environ.get("AML_LOCAL_SLOTS") or os.cpu_count() or 1)
        self.store = Store(home / "workspace.db")
        self.incoming = Incoming(home)
        self.mlflow = Tracking(self)
        self.warm = Warm()
        self.jobs = Jobs(self)
        self.lanes = Lanes(self)
        self.online = Online(self, self.lanes.told)
        self.table = Table(self)
        self.monitor = Monitor()
        self.schedules = Schedules(self)

    def start(self) -> None:
        """Take up unfinished work, and load what is too heavy to load before the first answer."""
        threading.Thread(target=self._load, name="load", daemon=True).start()

    def _load(self) -> None:
        self.incoming.clean()
        self.online.start()
        self.mlflow.load()
        self.jobs.start()
        self.schedules.start()

    def stop(self) -> None:
        self.schedules.stop()
        self.warm.stop()
        self.jobs.stop()
        self.online.stop()
        self.store.close()

    def live(self) -> dict[str, int]:
        """How much is running or waiting to run, by kind."""
        return {
            "jobs": self.jobs.live(),
            "deployments": self.online.live(),
            "schedules": self.schedules.live(),
        }

    def is_busy(self) -> bool:
        return any(self.live().values())

    def is_token(self, token: str) -> bool:
        return identity.is_valid(token, self.address.token)

    def workspace_of(self, id: str) -> Workspace:  # noqa: A002 (ARM's word)
        """The workspace that the resource with this ARM id is in."""
        match = _ID.match(id)
        if match is None:
            raise ValueError(f"{id} is not in a workspace")
        return _scope_of(match.groupdict())


def workspace(
    subscription: str, group: str, name: str, collection: str = "workspaces"
) -> Workspace:
    # A registry may have the name of a workspace, and has its own storage.
    unique = name if collection == "workspaces" else f"{collection}/{name}"
    account = doors.account_name(subscription, group, unique)
    return Workspace(subscription, group, name, account, collection)


def _scope_of(path: Mapping[str, str]) -> Workspace:
    names = (path["subscription"], path["group"], path["workspace"])
    return workspace(*names, path["scope"].lower())


def create(home: Path, address: Address) -> tuple[ASGIApp, Local]:
    """Make the application that serves `home`, and what runs beside it."""
    local = Local(home, address)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await _answer(local, Request(scope, receive))
            await response(scope, receive, send)

    return identity.guard(app, address.token), local


async def _answer(local: Local, request: Request) -> ASGIApp:
    try:
        return await _routed(local, request)
    except ArmError as exc:
        return _worded(request, exc)
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as exc:
        log.exception("%s %s", request.method, request.url.path)
        return _worded(request, _failure(exc))


def _worded(request: Request, error: ArmError) -> Response:
    """An error in the words of the service that was asked: storage has its own."""
    is_storage = request.scope["path"].startswith(("/blob/", "/dfs/", "/file/"))
    if is_storage and not isinstance(error, signatures.BlobError):
        error = signatures.BlobError(error.status, error.code, str(error))
    return error.response()


def _failure(exc: BaseException | None) -> ArmError:
    """What to answer for an exception that no handler expected.

    507 if the disk is behind it; what MLflow finds wrong with a request is the client's mistake.
    """
    status = getattr(exc, "get_http_status_code", lambda: 500)()
    if status < 500:
        return ArmError(status, "UserError", str(exc), "BadRequest")
    while exc is not None:
        if reason := files.disk_failure(exc):
            message = f"The disk of the local workspace failed: {reason}. Nothing was changed."
            return ArmError(507, "InsufficientStorage", message)
        exc = exc.__cause__
    message = "The local workspace failed; see `aml-local logs`."
    return ArmError(500, "InternalServerError", message)


async def _routed(local: Local, request: Request) -> ASGIApp:
    function, path = _route(request.method, request.scope["path"])
    ws = _scope_of(path) if path.get("workspace") else None
    call = Call(request, path, b"", request.scope["aml.door"], local, ws)
    if inspect.iscoroutinefunction(function):
        if ws:
            await run_in_threadpool(_ensure_workspace, call)
        answer: ASGIApp = await function(call)
        return answer
    return await run_in_threadpool(_called, function, call._replace(body=await read_body(request)))


def _called(function: Callable[[Call], Response], call: Call) -> Response:
    """One trip to a thread for each request: they cost more than many a handler."""
    if call.ws:
        _ensure_workspace(call)
    return function(call)


@lru_cache(maxsize=1024)  # of the same endpoint again and again
def _route(method: str, path: str) -> tuple[Any, dict[str, str]]:
    path = path.removeprefix("/mferp/managementfrontend")  # the same, reached past ARM
    for pattern, functions in _table():
        match = pattern.fullmatch(path)
        if match and method in functions:
            return functions[method], match.groupdict()
    log.warning("not emulated: %s %s", method, path)
    message = f"The local workspace does not emulate {method} {path}."
    raise ArmError(501, "NotImplemented", message)


@cache
def _table() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    from aml_magics.local.routes import ROUTES

    rows: dict[str, dict[str, Any]] = {}
    for verbs, pattern, function in ROUTES:
        rows.setdefault(pattern, {}).update(dict.fromkeys(verbs.split(), function))
    return [(_compiled(pattern), functions) for pattern, functions in rows.items()]


def _compiled(pattern: str) -> re.Pattern[str]:
    """`{ws}` is the scope of a workspace, `{x}` a segment, `{x:path}` the rest."""
    text = re.sub(r"\{(\w+):path\}", r"(?P<\1>.*)", pattern)
    text = re.sub(r"\{(?!ws\})(\w+)\}", r"(?P<\1>[^/]+)", text)
    head, ws, below = text.partition("{ws}")
    flags = re.IGNORECASE | re.DOTALL  # a name may have a line break: to be refused as one
    return re.compile(f"{head}{SCOPE}(?P<below>{below})" if ws else head, flags)


def _ensure_workspace(call: Call) -> None:
    from aml_magics.local import workspaces

    workspaces.ensure(call)
