"""Histories and searches of many runs, against MLflow's client, its page's endpoints and SQL.

MLflow's client is asked for some of the curves; the time for all of them is what those took, times
how many there are.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice, product
from pathlib import Path

import mlflow
import psutil
import requests
from filled import Shape, everything, fill
from mlflow import MlflowClient
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds
from rows import Row

from aml_magics import figures, login, runs, session
from aml_magics.local import daemon

sys.path.insert(0, str(Path(__file__).parents[1]))
import trackers  # beside the tests that use it too

SHAPES = (Shape(100, 5, 1_000), Shape(1_000, 5, 100), Shape(20, 3, 100_000))
PLAIN = (Shape(100, 1, 1_000), Shape(20, 1, 10_000))
SAMPLE = 32  # curves that are asked for, of longer ones fewer
POINTS = 200_000  # ... of so many points together, but 4 at least
THREADS = 16
PAGE = 999


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        with local(Path(folder) / "home") as (found, database):
            ours = [row for shape in SHAPES for row in of_local(found, database, shape)]
            ours += searching(found, database)
            ours.append(memory(found))
        (Path(folder) / "plain").mkdir()
        with trackers.mlflow_server(Path(folder) / "plain", workers=4) as url:
            database = Path(folder) / "plain" / "mlflow.db"
            plain = [row for shape in PLAIN for row in of_plain(url, database, shape)]
    return ours + plain


@contextmanager
def local(home: Path) -> Iterator[tuple[session.Session, Path]]:
    """A session on a local workspace of its own, and the database behind it."""
    os.environ["AML_LOCAL_HOME"] = str(home)
    try:
        login.login(local=True)
        found = session.current()
        MlflowClient().create_experiment("first")
        databases = set((home / "mlflow").glob("*.db")) - {home / "mlflow" / "empty.db"}
        yield found, databases.pop()
    finally:
        session.use(None)
        daemon.stop(home)
        os.environ.pop("AML_LOCAL_HOME")


def of_local(found: session.Session, database: Path, shape: Shape) -> list[Row]:
    names = fill(database, MlflowClient().create_experiment(str(shape)), shape)
    first = seconds(lambda: runs.history(found, names[:1], shape.keys))
    floor = best(lambda: everything(database, names, shape.keys), 2)
    mine = best(lambda: runs.history(found, names, shape.keys), 3)
    threads = by_threads(MlflowClient().get_metric_history, names, shape)
    rows = [
        Row(
            f"history, {shape}, against MlflowClient's 16 threads",
            *_pair(mine, threads),
            "<= 0.01x",
        ),
        Row("  against every row by SQL", *_pair(mine, floor), "<= 1x"),
        Row("  metrics taken in, once, against every row by SQL", *_pair(first, floor), ""),
    ]
    rows.append(Row("  memory of the client, to the answer", "MB", *memory_of(found, names, shape)))
    if shape.runs == 20:
        table = runs.history(found, names, shape.keys[:1])
        drawn = best(lambda: picture(table, shape.keys[:1], names), 2)
        rows.append(Row("  figure of 20 curves drawn", "s", drawn, 1.0, drawn, "<= 1 s"))
    return rows


def of_plain(url: str, database: Path, shape: Shape) -> list[Row]:
    """MLflow's own server, by its page's endpoint too, and one that has as little as Azure's.

    Of Azure's, MLflow's client is refused: its pages are too large. What is left to a person is to
    ask for small pages, 16 curves at a time.
    """
    client = MlflowClient(url)
    names = fill(database, client.create_experiment(str(shape)), shape)
    goal = "<= 1x"
    threads = by_threads(client.get_metric_history, names, shape)
    plain = trackers.session(url)
    mine = best(lambda: runs.history(plain, names, shape.keys), 2)
    page = best(lambda: by_page(url, names, shape), 2)
    with trackers.as_little_as_azure(url) as azure_url:
        azure = trackers.session(azure_url)
        some = names[:SAMPLE]
        single = seconds(lambda: runs.history(azure, some, shape.keys)) * len(names) / len(some)
        pages = by_threads(partial(by_small_pages, azure_url), names, shape)
    return [
        Row(f"plain server, {shape}, against 16 threads", *_pair(mine, threads), goal),
        Row("  against its page's endpoint, 100 runs at a time", *_pair(mine, page), goal),
        Row("  as little as Azure's, against 16 threads there", *_pair(single, pages), goal),
    ]


def by_page(url: str, names: list[str], shape: Shape) -> None:
    """As MLflow's page reads curves: sampled, of at most 100 runs at a time, as JSON."""
    for key, start in product(shape.keys, range(0, len(names), 100)):
        asked = {"run_ids": names[start : start + 100], "metric_key": key, "max_results": 1000}
        place = f"{url}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
        requests.get(place, params=asked, timeout=600).raise_for_status()


def by_small_pages(url: str, run: str, key: str) -> list[object]:
    """All of a curve, by MLflow's client for REST and pages that Azure gives."""
    store = RestStore(lambda: MlflowHostCreds(url))
    found: list[object] = []
    token = None
    while True:
        page = store.get_metric_history(run, key, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def searching(found: session.Session, database: Path) -> list[Row]:
    """`runs` on the 1,000 runs that are there, and on ten times as many."""
    few = str(SHAPES[1])
    many = Shape(10_000, 5, 1)
    fill(database, MlflowClient().create_experiment(str(many)), many)
    theirs = lambda: mlflow.search_runs(experiment_names=[few])  # noqa: E731
    mine = best(lambda: runs.runs(found, experiment=few, limit=1_000), 2)
    ten = seconds(lambda: runs.runs(found, experiment=str(many), limit=10_000))
    return [
        Row("runs() of 1,000, against search_runs", *_pair(mine, best(theirs, 2)), "<= 1.5x"),
        Row("runs() of 10,000, against ten times that", *_pair(ten, 10 * mine), "<= 1x"),
    ]


def memory(found: session.Session) -> Row:
    """What the daemon has used at most, against now."""
    home = Path(os.environ["AML_LOCAL_HOME"])
    process = psutil.Process(daemon.ensure(home).pid)
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) / 1024
    now = process.memory_info().rss / 2**20
    return Row("the daemon's memory at most, against after", "MB", peak, now, peak / now, "")


def memory_of(
    found: session.Session, names: list[str], shape: Shape
) -> tuple[float, float, float, str]:
    """What a process needs at most to read all curves, and what the table itself takes."""
    table = runs.history(found, names, shape.keys)
    size = float(table.memory_usage(deep=True).sum()) / 2**20
    reader, writer = os.pipe()
    if not os.fork():
        found.cache.pop("http", None)  # connections are the parent's
        before = peak_mb()
        runs.history(found, names, shape.keys)
        os.write(writer, b"%.1f" % (peak_mb() - before))
        os._exit(0)
    os.wait()
    peak = float(os.read(reader, 32))
    return peak, size, peak / size, ""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def by_threads(read: Callable[[str, str], object], names: list[str], shape: Shape) -> float:
    curves = list(product(names, shape.keys))
    count = max(4, min(SAMPLE, POINTS // shape.steps))
    sample = list(islice(curves, 0, None, max(1, len(curves) // count)))[:count]
    with ThreadPoolExecutor(THREADS) as pool:
        took = seconds(lambda: list(pool.map(lambda curve: read(*curve), sample)))
    return took * len(curves) / len(sample)


def picture(table: object, keys: list[str], names: list[str]) -> bytes:
    look = figures.Look({name: name[:8] for name in names}, {keys[0]: names[0]})
    return figures.png(figures.curves(table, keys, look))


def best(work: Callable[[], object], times: int) -> float:
    return min(seconds(work) for _ in range(times))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _pair(ours: float, baseline: float) -> tuple[str, float, float, float]:
    return "s", ours, baseline, ours / baseline
