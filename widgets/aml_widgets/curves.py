"""Histories of metrics as binary blocks, thinned so that peaks stay."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINT_BYTES = 20  # step and value float64, seconds float32
DESCRIPTION_BYTES = 75  # of a curve as JSON, without its names


class Curve(NamedTuple):
    """One metric of one run: arrays of one length, by step then time.

    ``seconds`` count from ``start``, the time of the earliest point in seconds since the epoch.
    """

    run: str
    metric: str
    step: NDArray[np.float64]
    seconds: NDArray[np.float32]
    value: NDArray[np.float64]
    start: float


def curve(run: str, metric: str, step: ArrayLike, time: ArrayLike, value: ArrayLike) -> Curve:
    """A curve from its points in any order.

    Args: time: seconds since the epoch.
    """
    steps, times = np.asarray(step, dtype="f8"), np.asarray(time, dtype="f8")
    values = np.asarray(value, dtype="f8")
    order = np.lexsort((times, steps))
    start = float(times.min()) if len(times) else 0.0
    seconds = (times[order] - start).astype("f4")
    return Curve(run, metric, steps[order], seconds, values[order], start)


def thin(whole: Curve, limit: int) -> Curve:
    """At most ``limit`` points (4 at least): of each stretch its least and its greatest value.

    The first and the last point stay.
    """
    count = len(whole.value)
    if count <= max(limit, 4):
        return whole
    edges = np.linspace(1, count - 1, (max(limit, 4) - 2) // 2 + 1).astype(int)
    kept = {0, count - 1}
    for low, high in pairwise(edges):
        part = whole.value[low:high]
        finite = np.flatnonzero(np.isfinite(part))
        if len(finite):
            kept |= {low + int(finite[pick(part[finite])]) for pick in (np.argmin, np.argmax)}
    chosen = np.array(sorted(kept))
    arrays = (whole.step[chosen], whole.seconds[chosen], whole.value[chosen])
    return Curve(whole.run, whole.metric, *arrays, whole.start)


def overview(curves: Sequence[Curve], limit_bytes: int) -> list[Curve]:
    """The curves thinned alike, the first when too many, for so many bytes of a saved notebook."""
    point = 4 * POINT_BYTES / 3  # as base64
    names = max((len(one.run) + len(one.metric) for one in curves), default=0)
    about = DESCRIPTION_BYTES + names
    shown = list(curves[: int(limit_bytes / (about + 4 * point))])
    each = int((limit_bytes / max(len(shown), 1) - about) / point)
    return [thin(whole, each) for whole in shown]


def pack(curves: Sequence[Curve]) -> tuple[list[dict[str, Any]], bytes]:
    """Curves for the view.

    Returns: a description of each, and their points: all steps, then all values (float64), then
        all seconds (float32).
    """
    series = [
        {"run": c.run, "metric": c.metric, "count": len(c.value), "start": c.start} for c in curves
    ]
    blocks = (("<f8", "step"), ("<f8", "value"), ("<f4", "seconds"))
    parts = (getattr(c, name).astype(kind) for kind, name in blocks for c in curves)
    return series, b"".join(part.tobytes() for part in parts)
