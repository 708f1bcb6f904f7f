"""Databases of MLflow filled with runs by SQL: logging as many by its clients takes hours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np

_RUN = """
INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,
    start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)
VALUES (?, ?, 'LOCAL', '', '', 'bench', 'FINISHED', ?, ?, '', 'active', '', ?)
"""
_METRIC = """
INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan) VALUES (?, ?, ?, ?, ?, 0)
"""
_LATEST = _METRIC.replace("metrics", "latest_metrics")
_ALL = "SELECT step, timestamp, value FROM metrics INDEXED BY index_metrics_run_uuid_key_step"


class Shape(NamedTuple):
    """How much was logged."""

    runs: int
    metrics: int
    steps: int

    def __str__(self) -> str:
        return f"{self.runs:,} runs x {self.metrics} metrics x {self.steps:,} steps"

    @property
    def keys(self) -> list[str]:
        return [f"m{number}" for number in range(self.metrics)]


def fill(database: Path, experiment: str, shape: Shape) -> list[str]:
    """Add runs with parameters and metrics: their names."""
    names = [uuid4().hex for _ in range(shape.runs)]
    rng = np.random.default_rng(1)
    with closing(sqlite3.connect(database, timeout=60)) as rows:
        runs = [
            (name, name[:8], 1_000_000 + n, 2_000_000, experiment) for n, name in enumerate(names)
        ]
        rows.executemany(_RUN, runs)
        params = [(f"p{n}", str(rng.uniform()), name) for name in names for n in range(10)]
        rows.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        for name in names:
            for key in shape.keys:
                points = list(_points(name, key, rng.normal(size=shape.steps)))
                rows.executemany(_METRIC, points)
                rows.execute(_LATEST, points[-1])
        rows.commit()
    return names


def _points(run: str, key: str, values: np.ndarray) -> Iterator[tuple]:
    for step, value in enumerate(values.tolist()):
        yield run, key, step, 1_000_000 + step, value


def everything(database: Path, names: list[str], keys: list[str]) -> list[np.ndarray]:
    """Every point of every curve, by SQL alone: what no reader of it all can be faster than."""
    query = f"{_ALL} WHERE run_uuid = ? AND key = ? ORDER BY step"
    with closing(sqlite3.connect(database)) as rows:
        return [
            np.array(rows.execute(query, (name, key)).fetchall()) for name in names for key in keys
        ]
