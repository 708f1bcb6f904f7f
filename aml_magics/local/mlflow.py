"""MLflow's tracking server and model registry, one database for each workspace.

MLflow's own Flask application answers; this module tells it which workspace a request is about,
gives a job's run the job's name, and keeps artifacts where blob storage finds them.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import sys
import threading
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aml_magics.local import identity, incoming, mlflow_stores, uris
from aml_magics.local.curves import Curves
from aml_magics.local.wire import ArmError, Call, Workspace, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_magics.local.app import Local

_account: ContextVar[str] = ContextVar("account")
_OF_REGISTRY = re.compile("/(?:registered-models|model-versions)/")
_FULL = (b"disk is full", b"disk I/O error", b"unable to open database file")
_RUN_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}


class Tracking:
    """MLflow in this process: imported in the background, since that takes seconds of CPU.

    Whatever else imports from it does so after `store` or `app`, which wait: of two threads that
    import its packages at the same time, one may find half of them.
    """

    def __init__(self, local: Local) -> None:
        self._local = local
        self._loaded = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._stores: dict[str, dict[str, Any]] = {}
        self._curves: dict[str, Curves] = {}
        self.adopted: dict[str, object] = {}  # state of each registry when its models were taken up
        self._registry_states: dict[str, object] = {}
        self._app: ASGIApp | None = None

    def load(self) -> None:
        """Import MLflow and mount it; runs once, in a thread of the server."""
        try:
            self._load()
        except BaseException as exc:
            self._failure = exc
            raise
        finally:
            self._loaded.set()

    def _load(self) -> None:
        os.environ.update(
            MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE="true",  # identity.py checks host and token
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
            _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
            _MLFLOW_SERVER_ARTIFACT_DESTINATION=str(self._local.home / "storage"),
        )
        from a2wsgi import WSGIMiddleware
        from mlflow import server
        from mlflow.server import handlers

        handlers._tracking_store = _OfWorkspace(self, "tracking")
        handlers._model_registry_store = _OfWorkspace(self, "registry")
        mlflow_stores.make_empty(self._local.home / "mlflow" / "empty.db")
        self._app = WSGIMiddleware(server.app)

    def app(self) -> ASGIApp:
        """MLflow's application, once it is loaded.

        Raises: ArmError 500: MLflow could not be loaded.
        """
        self._loaded.wait()
        if self._app is None:
            raise ArmError(500, "InternalServerError", f"MLflow did not load: {self._failure}")
        return self._app

    def store(self, account: str, which: str) -> Any:
        """MLflow's tracking or registry store of a workspace; its database is made when new."""
        self.app()
        with self._lock:
            if account not in self._stores:
                url = self._database(account)
                self._curves[account] = Curves(Path(url.removeprefix("sqlite:///")))
                self._stores[account] = mlflow_stores.of(url, account, self._curves[account])
            return self._stores[account][which]

    def curves(self, account: str) -> Curves:
        """The metrics of a workspace as curves to draw."""
        self.store(account, "tracking")
        return self._curves[account]

    def _database(self, account: str) -> str:
        """URL of a workspace's database; a new one is a copy, for making one takes a second."""
        path = self._local.home / "mlflow" / f"{account}.db"
        if not path.exists():
            empty = path.with_name("empty.db")
            incoming.join(self._local, [empty], lambda made: incoming.move(made, path))
        with closing(sqlite3.connect(path)) as database:  # a commit is one write, not four
            database.execute("PRAGMA journal_mode = WAL")
        return f"sqlite:///{path}"

    def registry_state(self, account: str) -> object:
        """Another object after every change of a workspace's registry."""
        return self._registry_states.setdefault(account, object())

    def registry_changed(self, account: str) -> None:
        self._registry_states[account] = object()

    def forget(self, account: str) -> None:
        """Remove a workspace's experiments, runs and registered models."""
        with self._lock:
            self.adopted.pop(account, None)
            self._curves.pop(account, None)
            for store in self._stores.pop(account, {}).values():
                store.engine.dispose()  # MLflow keeps engines by URL, with the old file open
            for path in (self._local.home / "mlflow").glob(f"{account}.db*"):
                path.unlink()

    @contextmanager
    def about(self, ws: Workspace, run: str) -> Iterator[None]:
        """Inside, MLflow answers requests of a workspace, `run` being the one that sends them."""
        account, asking = _account.set(ws.account), mlflow_stores.asking.set(run)
        try:
            yield
        finally:
            _account.reset(account)
            mlflow_stores.asking.reset(asking)

    # Runs of jobs

    def create_run(self, ws: Workspace, job: str, experiment: str, tags: dict[str, str]) -> str:
        """Make the run of a job, with the job's name for its id.

        Returns: the id of its experiment, which is made when it is new.
        """
        made: str = self.store(ws.account, "tracking").add_run(experiment, job, tags)
        return made

    def change_run(self, ws: Workspace, run: str, name: str | None, tags: dict[str, str]) -> None:
        """Rename a run, and set tags of it."""
        store = self.store(ws.account, "tracking")
        from mlflow.entities import RunStatus, RunTag

        if name:
            info = store.get_run(run).info
            status = RunStatus.from_string(info.status)
            store.update_run_info(run, status, info.end_time, name)
        for key, value in tags.items():
            store.set_tag(run, RunTag(key, value))

    def log(
        self, ws: Workspace, run: str, metrics: dict[str, float], params: dict[str, Any]
    ) -> None:
        """Log the last values of metrics, and parameters, of a run."""
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        at = get_current_time_millis()
        values = [Metric(name, value, at, 0) for name, value in metrics.items()]
        texts = [Param(name, str(value)) for name, value in params.items()]
        self.store(ws.account, "tracking").log_batch(run, values, texts, [])

    def end_run(self, ws: Workspace, job: str, status: str) -> None:
        """Give a job's run the job's end; metrics and artifacts that came so far stay."""
        self.store(ws.account, "tracking").end_run(job, _RUN_STATUS[status])

    def histories(self, ws: Workspace, runs: list[str], metric: str) -> dict[str, list[float]]:
        """All values that runs have logged of one metric, in the order of their times and steps."""
        from mlflow.store.tracking.dbmodels.models import SqlMetric
        from sqlalchemy import literal_column

        found: dict[str, list[float]] = {run: [] for run in runs}
        # The plus keeps SQLite from its primary key, which begins with the metrics' names.
        named = literal_column("+metrics.key") == metric
        with self.store(ws.account, "tracking").ManagedSessionMaker() as session:
            rows = session.query(SqlMetric.run_uuid, SqlMetric.value, SqlMetric.is_nan)
            chosen = rows.filter(SqlMetric.run_uuid.in_(runs), named)
            for run, value, is_nan in chosen.order_by(SqlMetric.timestamp, SqlMetric.step):
                # MLflow keeps what is infinite as the largest number there is.
                infinite = abs(value) >= sys.float_info.max
                found[run].append(math.nan if is_nan else value * math.inf if infinite else value)
        return found

    def metrics(self, ws: Workspace, runs: list[str]) -> list[str]:
        """Names of all metrics that any of some runs has logged."""
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric

        with self.store(ws.account, "tracking").ManagedSessionMaker() as session:
            rows = session.query(SqlLatestMetric.key).filter(SqlLatestMetric.run_uuid.in_(runs))
            return sorted({key for (key,) in rows})

    def model_folder(self, ws: Workspace, run: str, name: str) -> Path | None:
        """Where a model is that the run logged with `log_model`, which MLflow 3 keeps elsewhere."""
        store = self.store(ws.account, "tracking")
        from mlflow.exceptions import MlflowException

        try:
            experiment = store.get_run(run).info.experiment_id
        except MlflowException:
            return None
        logged = store.search_logged_models([experiment], f"source_run_id = '{run}'")
        for model in logged:
            if model.name == name.strip("/"):
                return uris.local_path(self._local, ws, model.artifact_location)
        return None


class _OfWorkspace:
    """Stands where MLflow expects its one store; asks for that of the request's workspace."""

    def __init__(self, tracking: Tracking, which: str) -> None:
        self._tracking, self._which = tracking, which

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracking.store(_account.get(), self._which), name)


# Requests


async def serve(call: Call) -> ASGIApp:
    """Everything below the tracking URI: REST API and web pages, answered by MLflow."""
    tracking, rest = call.local.mlflow, call.path["rest"] or "/"
    app = await run_in_threadpool(tracking.app)
    token = identity.bearer(call.request.headers)
    run = identity.run_of(token, call.local.address.token)
    is_change = call.request.method != "GET" and _OF_REGISTRY.search(rest)

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        inner = {**scope, "path": rest, "raw_path": rest.encode(), "root_path": ""}
        reply = _disk_failures(send)
        reply = _azure_artifacts(reply, call) if call.door.name == "cloud" else reply
        reply = _changing(reply, call) if is_change else reply
        with tracking.about(call.workspace, run):
            await app(inner, receive, reply)

    return forward


def _disk_failures(send: Send) -> Send:
    """507 for a full disk: MLflow says 503 of its database, and clients try that for minutes."""
    head: dict[str, Any] = {}

    async def reply(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            head.update(message)
            return
        if head:
            is_full = any(words in message.get("body", b"") for words in _FULL)
            await send({**head, "status": 507 if is_full else 503})
            head.clear()
        await send(message)

    return reply


def _changing(send: Send, call: Call) -> Send:
    """Say that the registry changed, before the client knows it."""

    async def reply(message: Message) -> None:
        call.local.mlflow.registry_changed(call.workspace.account)
        await send(message)

    return reply


def _azure_artifacts(send: Send, call: Call) -> Send:
    """Name artifact roots as azureml-mlflow reads them: through the run history service."""
    head: dict[str, Any] = {}
    body = bytearray()
    scope = f"{call.door.mlflow(call.workspace.id)}/experiments/any/runs/"

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        pattern = rb"mlflow-artifacts:/aml\w+/azureml/ExperimentRun/dcid\.([\w.-]+)"
        text = re.sub(pattern, scope.encode() + rb"\1/artifacts", bytes(body))
        kept = [(k, v) for k, v in head["headers"] if k.lower() != b"content-length"]
        length = (b"content-length", str(len(text)).encode())
        await send({**head, "headers": [*kept, length]})
        await send({"type": "http.response.body", "body": text})

    return collect


def list_artifacts(call: Call) -> Response:
    """Files and folders directly in a folder of artifacts, as the proxied artifact API lists."""
    folder = _artifact(call, call.query.get("path", ""))
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [
        {"path": entry.name, "is_dir": entry.is_dir()}
        | ({} if entry.is_dir() else {"file_size": entry.stat().st_size})
        for entry in entries
    ]
    return JSONResponse({"files": files})


async def get_artifact(call: Call) -> Response:
    path = _artifact(call, call.path["rest"])
    if not path.is_file():
        return _no_artifact(call)
    # Shown by the browser, a page that a job has logged would have the user's cookie.
    return FileResponse(path, filename=path.name, headers={"X-Content-Type-Options": "nosniff"})


async def put_artifact(call: Call) -> Response:
    path = _artifact(call, call.path["rest"])
    stream = call.request.stream()
    await incoming.receive(call.local, stream, lambda temporary: incoming.move(temporary, path))
    return JSONResponse({})


def delete_artifact(call: Call) -> Response:
    path = _artifact(call, call.path["rest"])
    if not path.is_file():
        return _no_artifact(call)
    path.unlink()
    return JSONResponse({})


def _artifact(call: Call, path: str) -> Path:
    account, _, rest = path.partition("/")
    if account != call.workspace.account:
        raise bad_request(f"The artifact {path!r} is not of this workspace.")
    return uris.below(call.local.home / "storage" / account, rest)


def _no_artifact(call: Call) -> Response:
    message = f"No artifact at {call.path['rest']}."
    return Response(
        json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": message}),
        404,
        media_type="application/json",
    )
