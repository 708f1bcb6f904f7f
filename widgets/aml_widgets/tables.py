"""Runs as columns: numbers in one binary block, the rest as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
PARAM = "params."  # how the keys of parameters begin
DURATION = "run duration"
LABELS = {DURATION: "duration"}
FACTS = ("display_name", "status", DURATION)  # of any run
HIDDEN = frozenset({"name", "run"})  # the id, which is not a column of its own


def pack(rows: Sequence[Row], goals: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
    """Arrange runs for the view.

    Args: rows: flat records with ``name`` (the run's id), facts, ``params.*`` and metrics.
        goals: ``min`` or ``max`` for each metric.
    Returns: a description, and the numbers: float64, one column after the other in the order of
        the columns of type ``number``; what a run lacks is NaN.
    """
    keys = dict.fromkeys(key for row in rows for key in row if key not in HIDDEN)
    columns = sorted((_column(key, rows, goals) for key in keys), key=_place)
    numbers = [column.pop("numbers") for column in columns if "numbers" in column]
    block = np.array(numbers, dtype="<f8").tobytes()
    return {"runs": [str(row["name"]) for row in rows], "columns": columns}, block


def fitting(rows: Sequence[Row], goals: Mapping[str, str], limit: int) -> int:
    """How many of the first rows take no more than ``limit`` bytes in a saved notebook."""
    if not rows:
        return 0
    each = saved_bytes(*pack(rows, goals)) / len(rows)
    return min(len(rows), int(limit / each))


def saved_bytes(described: Any, block: bytes) -> int:
    """Bytes of a description and its block as a notebook saves them: JSON and base64."""
    return len(json.dumps(described)) + 4 * len(block) // 3


def _column(key: str, rows: Sequence[Row], goals: Mapping[str, str]) -> dict[str, Any]:
    values = [row.get(key) for row in rows]
    kind = "param" if key.startswith(PARAM) else "fact" if key in FACTS else "metric"
    column = {"key": key, "label": LABELS.get(key) or key.removeprefix(PARAM), "kind": kind}
    numbers = [_number(value) for value in values]
    present = [value for value in values if not _missing(value)]
    if kind != "metric" and len(present) != sum(not math.isnan(n) for n in numbers):
        texts = ["" if _missing(value) else str(value) for value in values]
        return {**column, "type": "text", "texts": texts}
    goal = {"goal": goals.get(key, "max")} if kind == "metric" else {}
    nans = [at for at, value in enumerate(values) if isinstance(value, float) and math.isnan(value)]
    logged = {"nans": nans} if nans and kind == "metric" else {}
    return {**column, "type": "number", **goal, **logged, "numbers": numbers}


def _place(column: Mapping[str, Any]) -> int:
    """Facts first, then metrics, then parameters, and last how long it took."""
    return 3 if column["key"] == DURATION else ("fact", "metric", "param").index(column["kind"])


def _number(value: Any) -> float:
    """A value as a number, NaN where it is none."""
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
