"""Curves of metrics, ready to draw: few points of each, kept while metrics are logged.

MLflow's table of metrics is read once, in the order of its rows; what drawing needs of it stands
in a database beside it, which is made again when it is gone.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from aml_magics.local import sampling
from aml_magics.local.wire import Call, bad_request

if TYPE_CHECKING:
    from aml_magics.local.sampling import Curve, Points

log = logging.getLogger(__name__)

BATCH = 5_000  # metrics logged before they are taken in without being asked for
CHUNK = 200_000  # rows in memory at once
MOST = 100_000  # points of a curve that may be asked for

_TABLES = """
CREATE TABLE IF NOT EXISTS curves (
    run TEXT, key TEXT, logged INTEGER, stride INTEGER, in_order INTEGER, kept BLOB, tail BLOB,
    PRIMARY KEY (run, key)
);
CREATE TABLE IF NOT EXISTS taken (last_row INTEGER);
INSERT INTO taken SELECT 0 WHERE NOT EXISTS (SELECT * FROM taken);
"""
_NEW = """
SELECT rowid, run_uuid, key, step, timestamp, value, is_nan FROM metrics
WHERE rowid > ? ORDER BY rowid LIMIT ?
"""
# Without statistics SQLite takes the primary key, which begins with the metrics' names.
_ALL = """
SELECT step, timestamp, value, is_nan FROM metrics
INDEXED BY index_metrics_run_uuid_key_step WHERE run_uuid = ? AND key = ?
"""


class Curves:
    """The curves of one workspace; `database` is MLflow's."""

    def __init__(self, database: Path) -> None:
        self._metrics = database
        self._path = database.with_name(f"{database.name}.curves")
        self._lock = threading.Lock()
        self._waiting = 0

    def logged(self, count: int) -> None:
        """Take in what was logged, once there is enough of it to be worth it."""
        self._waiting += count
        if self._waiting < BATCH:
            return
        try:
            self.take_in()
        except sqlite3.Error as exc:  # the metrics are safe, and are read when asked for
            log.warning("curves of %s: %s", self._metrics.name, exc)

    def take_in(self) -> None:
        """Read the metrics that are new since the last time."""
        with self._lock, self._open() as curves, closing(sqlite3.connect(self._metrics)) as rows:
            self._waiting = 0
            (last,) = curves.execute("SELECT last_row FROM taken").fetchone()
            if last > (rows.execute("SELECT max(rowid) FROM metrics").fetchone()[0] or 0):
                last = _reset(curves)  # rows were removed, and their numbers may come again
            while new := rows.execute(_NEW, (last, CHUNK)).fetchall():
                last = new[-1][0]
                _grow(curves, new)
                curves.execute("UPDATE taken SET last_row = ?", (last,))
                curves.commit()

    def reset(self) -> None:
        """Forget everything, for metrics were removed from MLflow's table."""
        with self._lock, self._open() as curves:
            _reset(curves)

    def of(self, runs: list[str], keys: list[str], known: dict[str, dict[str, int]]) -> _Found:
        """The curves of these runs and metrics that have grown past what is `known`.

        Args: known: how many points had been logged, by run and metric.
        """
        self.take_in()
        with self._open() as curves:
            for run in runs:
                for key, curve in _curves(curves, run, keys):
                    if known.get(run, {}).get(key) != curve.logged:
                        yield run, key, curve

    def all_points(self, run: str, key: str) -> Points:
        """Every point of a curve, by step."""
        with closing(sqlite3.connect(self._metrics)) as rows:
            found = rows.execute(_ALL, (run, key)).fetchall()
        return sampling.by_step(sampling.of_columns(list(zip(*found, strict=True))))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=60)) as curves:
            curves.execute("PRAGMA journal_mode = WAL")
            curves.execute("PRAGMA synchronous = OFF")  # what is lost is read again
            curves.executescript(_TABLES)
            yield curves
            curves.commit()


_Found = Iterator[tuple[str, str, "Curve"]]


def _reset(curves: sqlite3.Connection) -> int:
    curves.execute("DELETE FROM curves")
    curves.execute("UPDATE taken SET last_row = 0")
    return 0


def _grow(curves: sqlite3.Connection, new: list[tuple[Any, ...]]) -> None:
    """Add rows of MLflow's table to their curves."""
    groups: dict[str, dict[str, Points]] = {}
    for (run, key), points in _grouped(new):
        groups.setdefault(run, {})[key] = points
    for run, of_run in groups.items():
        before = dict(_curves(curves, run, list(of_run)))
        for key, points in of_run.items():
            curve = before.get(key) or sampling.begin()
            grown = sampling.grow(curve, points)
            row = (run, key, *grown[:3], grown.kept.tobytes(), grown.tail.tobytes())
            curves.execute("INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _grouped(new: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, str], Points]]:
    """The points of each run and metric, in the order of their rows."""
    import numpy as np

    _, runs, keys, *numbers = zip(*new, strict=True)
    places: dict[tuple[str, str], int] = {}
    of_rows = [places.setdefault(name, len(places)) for name in zip(runs, keys, strict=True)]
    order = np.argsort(of_rows, kind="stable")
    points = sampling.of_columns(numbers)[order]
    ends = np.cumsum(np.bincount(of_rows))[:-1]
    return zip(places, np.split(points, ends), strict=True)


def _curves(curves: sqlite3.Connection, run: str, keys: list[str]) -> Iterator[tuple[str, Curve]]:
    for key in keys:
        row = curves.execute(
            "SELECT logged, stride, in_order, kept, tail FROM curves WHERE run = ? AND key = ?",
            (run, key),
        ).fetchone()
        if row:
            yield key, _curve(*row)


def _curve(logged: int, stride: int, in_order: int, kept: bytes, tail: bytes) -> Curve:
    import numpy as np

    points = (np.frombuffer(blob).reshape(-1, 3) for blob in (kept, tail))
    return sampling.Curve(logged, stride, bool(in_order), *points)


# Requests


def answer(call: Call) -> Response:
    """Sampled histories of metrics.

    The body of the request is JSON: `run_ids`, `metric_keys`, `max_points` of a curve (1,000), and
    `known`, points logged by run and metric, for curves that are only wanted if there are more.
    The answer is one line of JSON, then float64 arrays, little-endian, of all points: steps, times
    (milliseconds since the epoch), values. The line has, for each curve: `runs` and `metrics`, its
    place in what was asked for, `lengths`, its points here, and `logged`, those there are.
    """
    asked = call.document()
    runs, keys = _names(asked, "run_ids"), _names(asked, "metric_keys")
    max_points = asked.get("max_points", 1000)
    if not isinstance(max_points, int) or not 4 <= max_points <= MOST:
        raise bad_request(f"max_points must be a number from 4 to {MOST}.")
    curves = call.local.mlflow.curves(call.workspace.account)
    found = curves.of(runs, keys, _known(asked))
    sampled = (
        (run, key, curve.logged, _sampled(curves, run, key, curve, max_points))
        for run, key, curve in found
    )
    return Response(_packed(runs, keys, sampled), media_type="application/octet-stream")


def _names(asked: dict[str, Any], field: str) -> list[str]:
    names = asked.get(field)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request(f"{field} must be a list of names.")
    return list(dict.fromkeys(names))


def _known(asked: dict[str, Any]) -> dict[str, dict[str, int]]:
    known = asked.get("known") or {}
    if not isinstance(known, dict) or not all(isinstance(one, dict) for one in known.values()):
        raise bad_request("known must be points logged by run and metric.")
    return known


def _sampled(curves: Curves, run: str, key: str, curve: Curve, max_points: int) -> Points:
    kept = curve.stands_for(max_points)
    return sampling.sample(curve.points() if kept else curves.all_points(run, key), max_points)


def _packed(
    runs: list[str], keys: list[str], sampled: Iterable[tuple[str, str, int, Points]]
) -> bytes:
    import numpy as np

    found = list(sampled)
    places = [{name: place for place, name in enumerate(names)} for names in (runs, keys)]
    head = {
        "runs": [places[0][run] for run, *_ in found],
        "metrics": [places[1][key] for _, key, *_ in found],
        "lengths": [len(points) for *_, points in found],
        "logged": [logged for _, _, logged, _ in found],
    }
    table = np.concatenate([np.empty((0, 3)), *(points for *_, points in found)])
    return json.dumps(head).encode() + b"\n" + np.ascontiguousarray(table.T, "<f8").tobytes()
