"""A measured row and its table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison; ``ratio`` is ours / baseline."""

    what: str
    unit: str
    ours: float
    baseline: float
    ratio: float
    goal: str


def compare(
    what: str,
    unit: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    *,
    pairs: int,
    goal: str,
) -> Row:
    """Measure both in turn, ``pairs`` times, after one round that only warms caches."""
    ours(), baseline()
    measured = [(ours(), baseline()) for _ in range(pairs)]
    mine, other = (statistics.median(column) for column in zip(*measured, strict=True))
    return Row(what, unit, mine, other, mine / other, goal)


def as_table(rows: Iterable[Row]) -> str:
    """Lay the rows out in columns for a terminal."""
    head = ("what", "ours", "baseline", "ratio", "goal")
    lines = [head, *(cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 0 < place < 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def cells(row: Row) -> tuple[str, str, str, str, str]:
    ours, baseline = (f"{value:.3g} {row.unit}" for value in (row.ours, row.baseline))
    return row.what, ours, baseline, f"{row.ratio:.2f}x", row.goal
