"""Served models: ours, by itself and through an endpoint, beside `mlflow models serve` and a floor.

The floor is scikit-learn on a numpy array behind a bare Starlette. The load comes from outside, by
wrk; without it these rows are left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import requests
from rows import Row

SECONDS, READY_SECONDS = 2, 180.0
CONNECTIONS = (1, 8, 32)
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
# Goals, as ratios to `mlflow models serve`, by rows of a request.
GOALS = {1: ">= 6", 100: ">= 4"}
FLOOR = """
import pickle, sys
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

model = pickle.load(open(sys.argv[1] + "/floor.pkl", "rb"))

async def score(request):
    rows = np.array((await request.json())["rows"], dtype=float)
    return JSONResponse(model.predict(rows).tolist())

async def health(request):
    return JSONResponse("ok")

app = Starlette(routes=[Route("/score", score, methods=["POST"]), Route("/", health)])
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


class Served(NamedTuple):
    """Where a model is scored, by which key of a request, and the seconds until it was ready."""

    url: str
    field: str
    ready: float
    key: str = ""


class Load(NamedTuple):
    per_second: float
    p99_ms: float


def measure() -> list[Row]:
    if shutil.which("wrk") is None:
        print("served models are left out: wrk is not installed", file=sys.stderr)
        return []
    return [row for columns in (4, 30) for row in of_columns(columns)]


def of_columns(columns: int) -> list[Row]:
    """Rows for one model, with its servers up one after the other and measured in turn."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        train(folder, columns)
        up = {what: stack.enter_context(serve(what, folder)) for what in SERVERS}
        up["endpoint"] = stack.enter_context(endpoint(folder))
        head = f"{columns} columns"
        ours, theirs = up["ours"].ready, up["mlflow"].ready
        found = [Row(f"{head}: ready, to mlflow", "s", ours, theirs, ours / theirs, "<= 0.3")]
        for rows in (1, 100):
            for connections in CONNECTIONS:
                what = f"{head}, {rows} rows, {connections} connections"
                found += compared(what, rows, load_all(folder, up, (columns, rows), connections))
        return found


def load_all(
    folder: Path, up: dict[str, Served], size: tuple[int, int], connections: int
) -> dict[str, Load]:
    return {what: load(folder, served, size, connections) for what, served in up.items()}


def compared(what: str, rows: int, loads: dict[str, Load]) -> list[Row]:
    ours, floor, theirs = loads["ours"], loads["floor"], loads["mlflow"]
    through = loads["endpoint"]

    def rate(name: str, one: Load, other: Load, goal: str) -> Row:
        ratio = one.per_second / other.per_second
        return Row(f"{what}: {name}", "/s", one.per_second, other.per_second, ratio, goal)

    p99 = ours.p99_ms / theirs.p99_ms
    return [
        rate("to mlflow", ours, theirs, GOALS[rows]),
        rate("to floor", ours, floor, ">= 0.7"),
        rate("endpoint to mlflow", through, theirs, ""),
        Row(f"{what}: p99 to mlflow", "ms", ours.p99_ms, theirs.p99_ms, p99, "< 1"),
    ]


def train(folder: Path, columns: int) -> None:
    import pickle

    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.random.default_rng(0).random((300, columns))
    frame = pd.DataFrame(values, columns=[f"x{n}" for n in range(columns)])
    target = (values[:, 0] > values[:, 1]).astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, target)
    signature = mlflow.models.infer_signature(frame, target)
    mlflow.sklearn.save_model(model, folder / "model", signature=signature)
    with (folder / "floor.pkl").open("wb") as file:
        pickle.dump(model.fit(values, target), file)


def commands(folder: Path, port: int) -> dict[str, list[str]]:
    model, python = str(folder / "model"), sys.executable
    mlflow = [python, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    return {
        "ours": [python, "-m", "aml_magics.local.scoring", "--model", model, "--port", str(port)],
        "floor": [python, "-c", FLOOR, str(folder), str(port)],
        "mlflow": [*mlflow, "--port", str(port)],
    }


# Of each server, where it is scored, by which key of a request, and where it says that it is up.
SERVERS = {
    "ours": ("score", "input_data", ""),
    "floor": ("score", "rows", ""),
    "mlflow": ("invocations", "dataframe_split", "ping"),
}


@contextmanager
def serve(what: str, folder: Path) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path, field, health = SERVERS[what]
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of MLflow's uvicorn
    environment = {**os.environ, "PATH": paths}
    process = subprocess.Popen(
        commands(folder, port)[what], start_new_session=True, env=environment, **quiet
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/{health}", process)
        yield Served(f"{url}/{path}", field, time.perf_counter() - started)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.02)
    raise RuntimeError(f"nothing answers at {url}")


@contextmanager
def endpoint(folder: Path) -> Iterator[Served]:
    """The model deployed in a workspace of its own, scored through the router."""
    from serving import workspace

    before = dict(os.environ)  # the workspace's variables are not for the other servers
    with ExitStack() as stack:
        stack.callback(os.environ.update, before)
        stack.callback(os.environ.clear)
        _, client = stack.enter_context(workspace(folder / "home"))
        from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, Model

        model = Model(name="m", version="1", path=str(folder / "model"), type="mlflow_model")
        online = ManagedOnlineEndpoint(name="bench", auth_mode="key")
        client.online_endpoints.begin_create_or_update(online).result()
        started = time.perf_counter()
        deployment: Any = ManagedOnlineDeployment(
            name="blue",
            endpoint_name="bench",
            model=model,
            instance_type="Standard_DS3_v2",
            instance_count=1,
        )
        client.online_deployments.begin_create_or_update(deployment).result()
        ready = time.perf_counter() - started
        online.traffic = {"blue": 100}
        shown = client.online_endpoints.begin_create_or_update(online).result()
        key = client.online_endpoints.get_keys("bench").primary_key
        yield Served(shown.scoring_uri, "input_data", ready, key)


def load(folder: Path, served: Served, size: tuple[int, int], connections: int) -> Load:
    """Load by wrk; an answer that is not 200 fails the benchmark."""
    columns, rows = size
    data: Any = [[0.1 * n for n in range(columns)]] * rows
    if served.field != "rows":
        data = {"columns": [f"x{n}" for n in range(columns)], "data": data}
    body = json.dumps({served.field: data})
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.headers['Authorization'] = 'Bearer {served.key}'\n"
    )
    shape = ["-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "--timeout", "30s"]
    command = ["wrk", *shape, "-s", str(script), served.url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{served.url} refuses the load:\n{text}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert p99 and rate
    return Load(float(rate[1]), float(p99[1]) * MILLISECONDS[p99[2]])
