"""Histories of metrics as one tidy DataFrame, by the best means the tracking server has.

A server that samples (the local workspace) is asked once for everything. MLflow's own server is
asked by the two endpoints of its web page. One that has neither, Azure's, is asked for every curve,
many at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics import rest
from aml_magics.errors import BadInput
from aml_magics.local import sampling
from aml_magics.session import Session

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from aml_magics.local.sampling import Points

MAX_POINTS = 1000
PAGE = 999  # Azure refuses pages of 1,000 and more
GROUP = 20  # runs in one question to MLflow's bulk endpoint
BULK_LIMIT = 25_000  # rows after which that endpoint leaves out the rest and does not say so
INTERVAL_LIMIT = 2_500  # points of a curve that MLflow's sampling endpoint gives at most
RUNS_AT_ONCE = 1_000
FIRST_SECONDS = 900.0  # millions of metrics from before curves were kept are read once
AXES = ("step", "time", "relative")

SAMPLE = "metrics/sample-histories"
BULK = "metrics/get-history-bulk"
INTERVAL = "metrics/get-history-bulk-interval"


class Curve(NamedTuple):
    """Some points of a curve; `mark` changes when more are logged."""

    run: str
    metric: str
    points: Points
    mark: Any


class _Marks(dict[tuple[str, str], Any]):
    """Marks of curves by run and metric; pandas copies what belongs to a table at every step."""

    def __deepcopy__(self, memo: Any) -> _Marks:
        return self


def history(
    session: Session,
    runs: Sequence[str],
    metrics: Sequence[str],
    *,
    max_points: int = MAX_POINTS,
    x: str = "step",
    since: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What runs have logged of some metrics over time, as few points as a picture needs.

    Args: max_points: of each curve; every point was logged so, and where the server can tell, the
        least and the greatest are among them. x: what each curve is ordered by. since: an earlier
        result for the same question; curves that have not grown are taken from it.
    Returns: a row for each point, by run, metric and `x`: run, metric (categories), step, time
        (UTC), relative (seconds since the run's first point here), value.
    Raises: BadInput: `max_points` is less than 4, or there is no axis `x`.
    """
    if max_points < 4 or x not in AXES:
        raise BadInput(
            f"history(max_points={max_points}, x={x!r})", f"4 or more; one of {', '.join(AXES)}"
        )
    runs, metrics = list(dict.fromkeys(runs)), list(dict.fromkeys(metrics))
    before = {} if since is None else _before(since)
    read = READERS[service(session)]
    found = {
        (curve.run, curve.metric): curve
        for curve in read(
            session, runs, metrics, max_points, {k: c.mark for k, c in before.items()}
        )
    }
    curves = (found.get(key) or before.get(key) for key in product(runs, metrics))
    return _table([curve for curve in curves if curve and len(curve.points)], runs, metrics, x)


def service(session: Session) -> str:
    """What the tracking server can do, asked once: ``sample``, ``bulk`` or ``single``."""
    if "histories" not in session.cache:
        session.cache["histories"] = _probe(session)
    return str(session.cache["histories"])


def _probe(session: Session) -> str:
    nothing: dict[str, Any] = {"run_ids": [], "metric_keys": []}
    sampled = rest.mlflow_page(session, "POST", SAMPLE, nothing)
    if sampled.status_code == 200:
        return "sample"
    if sampled.status_code >= 500 and sampled.status_code != 501:  # for now: not to be remembered
        raise rest.refusal(sampled.status_code, rest.message(sampled))
    refused = rest.mlflow_page(session, "GET", INTERVAL, {})  # for naming no metric
    return "bulk" if "INVALID_PARAMETER_VALUE" in refused.text else "single"


# Readers: the curves that have grown past their marks


Marks = dict[tuple[str, str], Any]
Found = Iterable[Curve]


def _sampled(
    session: Session, runs: list[str], metrics: list[str], max_points: int, marks: Marks
) -> Iterator[Curve]:
    """All curves in one binary answer for each thousand runs."""
    import numpy as np

    known: dict[str, dict[str, int]] = defaultdict(dict)
    for (run, metric), logged in marks.items():
        known[run][metric] = logged
    for start in range(0, len(runs), RUNS_AT_ONCE):
        some = runs[start : start + RUNS_AT_ONCE]
        asked = {"run_ids": some, "metric_keys": metrics, "max_points": max_points, "known": known}
        answer = rest.mlflow_page(session, "POST", SAMPLE, asked, timeout=FIRST_SECONDS)
        line, _, numbers = rest.checked(answer).content.partition(b"\n")
        head = json.loads(line)
        points = np.frombuffer(numbers, "<f8").reshape(3, -1).T
        ends = np.cumsum(head["lengths"], dtype=int).tolist()
        places = zip(
            *(head[name] for name in ("runs", "metrics", "lengths", "logged")), ends, strict=True
        )
        for run, metric, length, logged, end in places:
            yield Curve(some[run], metrics[metric], points[end - length : end], logged)


def _bulk(
    session: Session, runs: list[str], metrics: list[str], max_points: int, marks: Marks
) -> Iterator[Curve]:
    """A question for each metric and some runs, sampled by the server where curves are long."""
    wanted = _grown(session, runs, metrics, marks)
    by_metric = {metric: [run for run in runs if (run, metric) in wanted] for metric in metrics}
    groups = [
        (metric, some[start : start + GROUP])
        for metric, some in by_metric.items()
        for start in range(0, len(some), GROUP)
    ]

    def is_long(metric: str) -> bool:
        first = by_metric[metric][:1]
        return bool(first) and _whole(session, metric, first, max_points) is None

    def read(group: tuple[str, list[str]]) -> list[Curve]:
        metric, some = group
        return _group(session, metric, some, max_points, is_long=long[metric])

    with ThreadPoolExecutor(rest.THREADS) as pool:
        long = dict(zip(by_metric, pool.map(is_long, by_metric), strict=True))
        for curves in pool.map(read, groups):
            yield from curves


def _whole(
    session: Session, metric: str, runs: list[str], max_points: int
) -> list[dict[str, Any]] | None:
    """All that was logged; None where there is more than the answer has room for."""
    limit = min(max_points * len(runs) + 1, BULK_LIMIT)
    query = {"run_id": runs, "metric_key": metric, "max_results": limit}
    found = _rows(rest.checked(rest.mlflow_page(session, "GET", BULK, query)).json())
    return found if len(found) < limit else None  # of which runs something is missing is not said


def _group(
    session: Session, metric: str, runs: list[str], max_points: int, *, is_long: bool
) -> list[Curve]:
    """The curves of some runs. Args: is_long: as far as known; then it is sampled at once."""
    found = None if is_long else _whole(session, metric, runs, max_points)
    if found is None:
        limit = min(max_points, INTERVAL_LIMIT)
        query = {"run_ids": runs, "metric_key": metric, "max_results": limit}
        found = _rows(rest.checked(rest.mlflow_page(session, "GET", INTERVAL, query)).json())
    by_run: dict[str, list[Any]] = defaultdict(list)
    for row in found:
        by_run[row["run_id"]].append(row)
    return [_curve(run, metric, rows, max_points) for run, rows in by_run.items()]


def _single(
    session: Session, runs: list[str], metrics: list[str], max_points: int, marks: Marks
) -> Iterator[Curve]:
    """A question for each curve, and for each page of a long one."""
    wanted = _grown(session, runs, metrics, marks)

    def read(key: tuple[str, str]) -> Curve:
        query: dict[str, Any] = {"run_id": key[0], "metric_key": key[1], "max_results": PAGE}
        rows: list[Any] = []
        while True:
            answer = rest.mlflow(session, "GET", "metrics/get-history", query)
            rows += _rows(answer)
            if not answer.get("next_page_token"):
                return _curve(*key, rows, max_points)
            query["page_token"] = answer["next_page_token"]

    with ThreadPoolExecutor(rest.THREADS) as pool:
        yield from pool.map(read, wanted)


READERS: dict[str, Callable[[Session, list[str], list[str], int, Marks], Found]] = {
    "sample": _sampled,
    "bulk": _bulk,
    "single": _single,
}


def _grown(
    session: Session, runs: list[str], metrics: list[str], marks: Marks
) -> dict[tuple[str, str], None]:
    """The curves to ask for: all, or those whose last value is not the one that is known."""
    if not marks:
        return dict.fromkeys(product(runs, metrics))
    with ThreadPoolExecutor(rest.THREADS) as pool:
        found = pool.map(lambda run: rest.mlflow(session, "GET", "runs/get", {"run_id": run}), runs)
        last = {
            (run, row["key"]): (float(row.get("step", 0)), float(row.get("timestamp", 0)))
            for run, answer in zip(runs, found, strict=True)
            for row in answer["run"].get("data", {}).get("metrics", [])
        }
    asked = product(runs, metrics)
    return dict.fromkeys(key for key in asked if key in last and marks.get(key) != last[key])


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answer.get("metrics", []))


def _curve(run: str, metric: str, rows: list[dict[str, Any]], max_points: int) -> Curve:
    """A curve of MLflow's records; numbers and infinity come as text in some of its answers."""
    import numpy as np

    points = np.array(
        [
            (float(row.get("step", 0)), float(row.get("timestamp", 0)), float(row["value"]))
            for row in rows
        ]
    ).reshape(-1, 3)
    points = sampling.by_step(sampling.with_infinity(points))
    mark = (points[-1, 0], points[-1, 1]) if len(points) else None
    return Curve(run, metric, sampling.sample(points, max_points), mark)


# The table


def _table(curves: list[Curve], runs: list[str], metrics: list[str], x: str) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    points = np.concatenate([np.empty((0, 3)), *(curve.points for curve in curves)])
    lengths = np.array([len(curve.points) for curve in curves], dtype=np.int64)
    places = [{name: index for index, name in enumerate(names)} for names in (runs, metrics)]
    table = pd.DataFrame(
        {
            "run": _named([places[0][c.run] for c in curves], lengths, runs),
            "metric": _named([places[1][c.metric] for c in curves], lengths, metrics),
            "step": points[:, 0].astype(np.int64),
            "time": pd.to_datetime(points[:, 1].astype(np.int64), unit="ms", utc=True),
            "relative": points[:, 1] / 1000,
            "value": points[:, 2],
        }
    )
    begun = table.groupby("run", observed=True)["relative"].transform("min")
    table["relative"] -= begun
    if x != "step":
        table = table.sort_values(["run", "metric", x], kind="stable", ignore_index=True)
    table.attrs["marks"] = _Marks({(curve.run, curve.metric): curve.mark for curve in curves})
    return table


def _named(places: list[int], lengths: NDArray[np.int64], names: list[str]) -> Any:
    import numpy as np
    import pandas as pd

    codes = np.repeat(np.array(places, dtype=np.int64), lengths)
    return pd.Categorical.from_codes(codes, pd.Index(names))


def _before(table: pd.DataFrame) -> dict[tuple[str, str], Curve]:
    """The curves of an earlier table."""
    import numpy as np

    marks = table.attrs.get("marks", {})
    found = {}
    for (run, metric), rows in table.groupby(["run", "metric"], observed=True, sort=False):
        times = rows["time"].dt.as_unit("ms").astype("int64")
        points = np.column_stack([rows["step"], times, rows["value"]]).astype(float)
        key = (str(run), str(metric))
        found[key] = Curve(*key, sampling.by_step(points), marks.get(key))
    return found
