"""What jobs cost over the bare processes that they are: alone, in a queue, as steps, as trials."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import requests
from rows import Row, compare

from aml_magics.local import daemon

NAMES = (daemon.DEFAULT_SUBSCRIPTION, daemon.DEFAULT_RESOURCE_GROUP, "bench")
TRIVIAL = "print('done')\n"
HEAVY = """import mlflow
import pandas
from sklearn.linear_model import LinearRegression

mlflow.log_metric("loss", 0.5)
"""
PROJECT = "name: bench\nentry_points: {main: {command: python trivial.py}}\n"
MANY, STEPS, TRIALS = 100, 20, 50
FEW = 4  # of `mlflow run`, which takes long; scaled to MANY
PAIRS = 7


class Workspace(NamedTuple):
    """One on a daemon of its own: by the SDK, by plain requests, and its folder of scripts."""

    client: Any
    session: requests.Session
    url: str
    environment: dict[str, str]
    code: Path

    def submit(self, job: Any) -> str:
        """Create a job with the SDK; returns its name."""
        return self.client.jobs.create_or_update(job, experiment_name="bench").name

    def put(self, properties: dict[str, Any]) -> str:
        """Create a job with one request; returns its name."""
        name = f"job-{uuid4().hex[:8]}"
        self.ask("PUT", f"jobs/{name}", json={"properties": properties})
        return name

    def wait(self, name: str) -> None:
        """Ask until a job has ended, ever less often: to answer takes from what is measured.

        Raises: RuntimeError: it did not complete.
        """
        pause = 0.005
        while (status := self.ask("GET", f"jobs/{name}")["properties"]["status"]) != "Completed":
            if status in {"Failed", "Canceled"}:
                raise RuntimeError(f"{name} is {status}")
            time.sleep(pause)
            pause = min(0.1, 1.2 * pause)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.url}/{path}?api-version=2024-01-01"
        answer = self.session.request(method, url, **options)
        answer.raise_for_status()
        return answer.json()


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, workspace(Path(folder)) as ws:
        return [*alone(ws), *queued(ws), ready_made(ws), *pipelines(ws), sweep(ws)]


@contextmanager
def workspace(folder: Path) -> Iterator[Workspace]:
    from azure.ai.ml.entities import AmlCompute

    code = folder / "code"
    code.mkdir()
    for name, text in {"trivial.py": TRIVIAL, "heavy.py": HEAVY, "MLproject": PROJECT}.items():
        (code / name).write_text(text)
    address = daemon.ensure(folder / "home")
    try:
        door = daemon.door(address, *NAMES)
        os.environ.update(door.environment)
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {address.token}"
        url = address.url + daemon.workspace_id(*NAMES)
        ws = Workspace(client_of(door), session, url, door.environment, code)
        ws.client.compute.begin_create_or_update(AmlCompute(name="two", max_instances=2)).result()
        yield ws
    finally:
        daemon.stop(folder / "home")


def client_of(door: daemon.Connection) -> Any:
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken

    class Token:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(door.token, int(time.time()) + 3600)

    options = {"cloud": door.cloud, "cloud_metadata": door.cloud_metadata}
    return MLClient(Token(), *NAMES, show_progress=False, **options)


def job(ws: Workspace, script: str, **options: Any) -> Any:
    """A command job that runs a script of the workspace's folder, two at a time at the most."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    return command(
        command=f"python {script}",
        code=str(ws.code),
        environment=Environment(image="none.invalid/none"),
        compute="two",
        **options,
    )


def alone(ws: Workspace) -> list[Row]:
    """A trivial job from submit to Completed, and where its time goes."""
    trivial = job(ws, "trivial.py")
    known = ws.ask("GET", f"jobs/{ws.submit(trivial)}")["properties"]
    asked = {key: known[key] for key in ("jobType", "command", "codeId", "computeId")}
    columns: list[list[float]] = [[], [], [], []]
    for _ in range(PAIRS):
        submitted, name = timed(partial(ws.submit, trivial))
        ended, _ = timed(partial(ws.wait, name))
        answered, name = timed(partial(ws.put, asked))
        ws.wait(name)
        bare = seconds(lambda: process(ws, "trivial.py"))
        for column, value in zip(columns, (submitted, ended, answered, bare), strict=True):
            column.append(value)
    submitted, ended, answered, bare = map(statistics.median, columns)
    what = "trivial job, "
    return [
        Row(f"{what}{part}", "s", ours, bare, ours / bare, goal)
        for part, ours, goal in (
            ("submit to Completed", submitted + ended, "<= 0.3 s more"),
            ("of that in the client", submitted - answered, ""),
            ("of that in the server", answered, ""),
            ("of that launch to end", ended, ""),
        )
    ]


def queued(ws: Workspace) -> list[Row]:
    """Many trivial jobs, two at a time, against bare processes and against `mlflow run`."""
    known = ws.ask("GET", f"jobs/{ws.submit(job(ws, 'trivial.py'))}")["properties"]
    asked = {key: known[key] for key in ("jobType", "command", "codeId", "computeId")}

    def jobs() -> None:
        for name in [ws.put(asked) for _ in range(MANY)]:
            ws.wait(name)

    ours = seconds(jobs)
    bare = seconds(lambda: two_at_a_time(MANY, lambda: process(ws, "trivial.py")))
    project = seconds(lambda: two_at_a_time(FEW, lambda: mlflow_run(ws))) * MANY / FEW
    return [
        Row(f"{MANY} trivial jobs, two at a time", "s", ours, bare, ours / bare, "<= 1.5x"),
        Row(
            f"the same, against mlflow run ({FEW}, scaled)",
            "s",
            ours,
            project,
            ours / project,
            "<= 0.1x",
        ),
    ]


def ready_made(ws: Workspace) -> Row:
    """A job whose imports have been done ahead; the first one, which does them, is not counted."""
    heavy = job(ws, "heavy.py")
    names: list[str] = []

    def ours() -> float:
        return seconds(lambda: (names.append(ws.submit(heavy)), ws.wait(names[-1])))

    def cold() -> float:
        return seconds(lambda: process(ws, "heavy.py", MLFLOW_RUN_ID=names[-1]))

    return compare(
        "job that imports mlflow, pandas, sklearn", "s", ours, cold, pairs=PAIRS, goal="<= 0.2x"
    )


def pipelines(ws: Workspace) -> list[Row]:
    chain = seconds(lambda: ws.wait(ws.submit(pipeline(ws, in_a_chain=True))))
    side_by_side = seconds(lambda: ws.wait(ws.submit(pipeline(ws, in_a_chain=False))))
    one_by_one = seconds(lambda: [process(ws, "trivial.py") for _ in range(STEPS)])
    at_once = seconds(lambda: two_at_a_time(STEPS, lambda: process(ws, "trivial.py")))
    return [
        Row(f"pipeline, {STEPS} steps in a chain", "s", chain, one_by_one, chain / one_by_one, ""),
        Row(
            f"pipeline, {STEPS} steps side by side",
            "s",
            side_by_side,
            at_once,
            side_by_side / at_once,
            "",
        ),
    ]


def pipeline(ws: Workspace, *, in_a_chain: bool) -> Any:
    from azure.ai.ml import Input, Output, dsl

    made = {"made": Output(type="uri_folder")}
    before = {"before": Input(type="uri_folder")}
    first = job(ws, "trivial.py", outputs=made).component
    later = job(ws, "trivial.py", outputs=made, inputs=before).component

    @dsl.pipeline(compute="two")
    def steps() -> None:
        last = first()
        for _ in range(STEPS - 1):
            last = later(before=last.outputs.made) if in_a_chain else first()

    built = steps()
    built.settings.force_rerun = True
    return built


def sweep(ws: Workspace) -> Row:
    """Trials that do nothing: what is measured is the controller."""
    from azure.ai.ml import sweep as dimensions

    trial = job(ws, "trivial.py", inputs={"x": 0.5})(x=dimensions.Uniform(0, 1))
    made = trial.sweep(
        sampling_algorithm="random", primary_metric="loss", goal="Minimize", compute="two"
    )
    made.set_limits(max_total_trials=TRIALS, max_concurrent_trials=2)
    ours = seconds(lambda: ws.wait(ws.submit(made)))
    bare = seconds(lambda: two_at_a_time(TRIALS, lambda: process(ws, "trivial.py")))
    return Row(f"sweep of {TRIALS} trials, two at a time", "s", ours, bare, ours / bare, "")


def process(ws: Workspace, script: str, **more: str) -> None:
    """Run a script as a bare process, to its end."""
    environment = {**os.environ, **more}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, script], cwd=ws.code, env=environment, check=True, **quiet)


def mlflow_run(ws: Workspace) -> None:
    """Run the trivial script as an MLflow project that logs to a database of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PATH": path}
        command = [sys.executable, "-m", "mlflow", "run", "--env-manager", "local", str(ws.code)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=folder, env={**os.environ, **tracking}, check=True, **quiet)


def two_at_a_time(count: int, run: Callable[[], None]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run) for _ in range(count)]:
            done.result()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    returned = call()
    return time.perf_counter() - start, returned


def seconds(call: Callable[[], Any]) -> float:
    return timed(call)[0]
