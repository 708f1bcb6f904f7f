"""Served models: ours, by itself and through an endpoint, beside `mlflow models serve` and others.

The floor is scikit-learn on a numpy array behind a bare Starlette; MLServer has a Python of its
own, since its dependencies are not ours. The load comes from outside, by wrk; without it these rows
are left out.
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

READY_SECONDS = 180.0
# Seconds of load by connections: the first requests of many come at once, and are to be less than
# the one in a hundred that p99 leaves out.
LOADS = {1: 4, 8: 4, 32: 12}
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
    deployment: str = ""


class Load(NamedTuple):
    per_second: float
    p99_ms: float


def measure() -> list[Row]:
    if shutil.which("wrk") is None:
        print("served models are left out: wrk is not installed", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as place:
        python = mlserver(Path(place))
        return [row for columns in (4, 30) for row in of_columns(columns, python)]


def of_columns(columns: int, mlserver: Path | None) -> list[Row]:
    """Rows for one model, with its servers up together and measured in turn."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        train(folder, columns)
        whats = [what for what in SERVERS if what != "mlserver" or mlserver]
        up = {what: stack.enter_context(serve(what, folder, mlserver)) for what in whats}
        up |= stack.enter_context(endpoint(folder))
        head = f"{columns} columns"
        found = readiness(head, up)
        for rows in (1, 100):
            for connections in LOADS:
                what = f"{head}, {rows} rows, {connections} connections"
                found += compared(what, rows, load_all(folder, up, (columns, rows), connections))
        return found


def readiness(head: str, up: dict[str, Served]) -> list[Row]:
    """From nothing, and what a deployment takes: the first of a daemon, and the others."""
    theirs = up["mlflow"].ready
    return [
        Row(f"{head}: {what} ready, to mlflow", "s", ours, theirs, ours / theirs, goal)
        for what, ours, goal in (
            ("process", up["ours"].ready, ""),
            ("first deployment", up["endpoint"].ready, ""),
            ("deployment", up["endpoint of 2"].ready, "<= 0.3"),
        )
    ]


def load_all(
    folder: Path, up: dict[str, Served], size: tuple[int, int], connections: int
) -> dict[str, Load]:
    return {what: load(folder, served, size, connections) for what, served in up.items()}


def compared(what: str, rows: int, loads: dict[str, Load]) -> list[Row]:
    ours = loads["ours"]

    def rate(name: str, one: Load, other: Load, goal: str) -> Row:
        ratio = one.per_second / other.per_second
        return Row(f"{what}: {name}", "/s", one.per_second, other.per_second, ratio, goal)

    def tail(other: str) -> Row:
        ratio = ours.p99_ms / loads[other].p99_ms
        return Row(f"{what}: p99 to {other}", "ms", ours.p99_ms, loads[other].p99_ms, ratio, "< 1")

    others = [other for other in ("mlflow", "floor", "mlserver") if other in loads]
    return [
        rate("to mlflow", ours, loads["mlflow"], GOALS[rows]),
        rate("to floor", ours, loads["floor"], ">= 0.7"),
        *(
            rate("to mlserver", ours, loads[other], "> 1")
            for other in others
            if other == "mlserver"
        ),
        rate("endpoint to mlflow", loads["endpoint"], loads["mlflow"], ""),
        rate("2 instances to 2 workers", loads["endpoint of 2"], loads["mlflow of 2"], ""),
        *map(tail, others),
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


def mlserver(place: Path) -> Path | None:
    """A Python with MLServer and our scikit-learn; None where it cannot be installed."""
    import sklearn

    uv, python = str(Path(sys.executable).with_name("uv")), place / "bin" / "python"
    # Its worker asks for an event loop as newer versions of uvloop do not allow.
    packages = ["mlserver", "mlserver-sklearn", "uvloop<0.22"]
    packages.append(f"scikit-learn=={sklearn.__version__}")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
    ):
        if subprocess.run(command, check=False).returncode:
            print("MLServer is left out: it cannot be installed", file=sys.stderr)
            return None
    return python


def commands(folder: Path, port: int, mlserver: Path | None) -> dict[str, list[str]]:
    model, python = str(folder / "model"), sys.executable
    mlflow = [python, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    mlflow += ["--port", str(port)]
    return {
        "ours": [python, "-m", "aml_magics.local.scoring", "--model", model, "--port", str(port)],
        "floor": [python, "-c", FLOOR, str(folder), str(port)],
        "mlflow": mlflow,
        "mlflow of 2": [*mlflow, "--workers", "2"],
        "mlserver": [str(mlserver and mlserver.with_name("mlserver")), "start", str(folder)],
    }


# Of each server, where it is scored, by which key of a request, and where it says that it is up.
SERVERS = {
    "ours": ("score", "input_data", ""),
    "floor": ("score", "rows", ""),
    "mlflow": ("invocations", "dataframe_split", "ping"),
    "mlflow of 2": ("invocations", "dataframe_split", "ping"),
    "mlserver": ("v2/models/m/infer", "inputs", "v2/models/m/ready"),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def settle(folder: Path, port: int) -> None:
    """MLServer's settings: its own defaults, but for the places."""
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports}))
    parameters = {"uri": str(folder / "floor.pkl")}
    model = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel"}
    (folder / "model-settings.json").write_text(json.dumps({**model, "parameters": parameters}))


@contextmanager
def serve(what: str, folder: Path, mlserver: Path | None = None) -> Iterator[Served]:
    port = free_port()
    settle(folder, port)
    path, field, health = SERVERS[what]
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of MLflow's uvicorn
    environment = {**os.environ, "PATH": paths}
    process = subprocess.Popen(
        commands(folder, port, mlserver)[what],
        start_new_session=True,
        env=environment,
        cwd=folder,
        **quiet,
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
def endpoint(folder: Path) -> Iterator[dict[str, Served]]:
    """The model deployed in a workspace of its own, once with one instance and once with two."""
    from serving import workspace

    before = dict(os.environ)  # the workspace's variables are not for the other servers
    with ExitStack() as stack:
        stack.callback(os.environ.update, before)
        stack.callback(os.environ.clear)
        _, client = stack.enter_context(workspace(folder / "home"))
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        online = ManagedOnlineEndpoint(name="bench", auth_mode="key")
        uri = client.online_endpoints.begin_create_or_update(online).result().scoring_uri
        key = client.online_endpoints.get_keys("bench").primary_key
        yield {
            what: Served(uri, "input_data", deploy(client, folder, name, count), key, name)
            for what, name, count in (("endpoint", "blue", 1), ("endpoint of 2", "green", 2))
        }


def deploy(client: Any, folder: Path, name: str, count: int) -> float:
    """Deploy the model; returns the seconds until the SDK says that it is done."""
    from azure.ai.ml.entities import ManagedOnlineDeployment, Model

    deployment: Any = ManagedOnlineDeployment(
        name=name,
        endpoint_name="bench",
        model=Model(name="m", version="1", path=str(folder / "model"), type="mlflow_model"),
        instance_type="Standard_DS3_v2",
        instance_count=count,
    )
    started = time.perf_counter()
    client.online_deployments.begin_create_or_update(deployment).result()
    return time.perf_counter() - started


def request(field: str, columns: int, rows: int) -> str:
    """The same numbers in the form that a server takes."""
    data = [[0.1 * n for n in range(columns)]] * rows
    if field == "rows":
        return json.dumps({field: data})
    if field == "inputs":
        values = [value for row in data for value in row]
        tensor = {"name": "x", "shape": [rows, columns], "datatype": "FP64", "data": values}
        return json.dumps({field: [tensor]})
    return json.dumps({field: {"columns": [f"x{n}" for n in range(columns)], "data": data}})


def load(folder: Path, served: Served, size: tuple[int, int], connections: int) -> Load:
    """Load by wrk; an answer that is not 200 fails the benchmark."""
    body = request(served.field, *size)
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.headers['Authorization'] = 'Bearer {served.key}'\n"
        f"wrk.headers['azureml-model-deployment'] = '{served.deployment}'\n"
    )
    shape = ["-t1", f"-c{connections}", f"-d{LOADS[connections]}s", "--latency", "--timeout", "30s"]
    command = ["wrk", *shape, "-s", str(script), served.url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{served.url} refuses the load:\n{text}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert p99 and rate
    return Load(float(rate[1]), float(p99[1]) * MILLISECONDS[p99[2]])
