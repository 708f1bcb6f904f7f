"""Few points of a long curve: its first and last point, and the extremes of all between.

A point is a row (step, time in milliseconds, value) of float64. Every point kept was logged so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Points = NDArray[np.float64]

KEPT = 2048  # points kept of a curve, beside its first and its newest; a multiple of 4
STEP, TIME, VALUE = 0, 1, 2


class Curve(NamedTuple):
    """What is kept of a curve: its first point, then two extremes of each `stride` points.

    `tail` are the newest points, at least one, too few for another stretch. While the stride is 1
    every point is kept.
    """

    logged: int
    stride: int
    in_order: bool  # no step was less than one before it, since points are left out
    kept: Points
    tail: Points

    def points(self) -> Points:
        """All that is kept, by step."""
        import numpy as np

        return by_step(np.concatenate([self.kept, self.tail]))

    def stands_for(self, max_points: int) -> bool:
        """Whether what is kept makes as good a picture of so many points as all would."""
        return self.stride == 1 or (self.in_order and max_points <= KEPT // 2)


def begin() -> Curve:
    import numpy as np

    nothing = np.empty((0, 3))
    return Curve(0, 1, True, nothing, nothing)


def grow(curve: Curve, points: Points) -> Curve:
    """A curve after more points. What that costs follows the number of the new ones."""
    import numpy as np

    logged, stride, in_order, kept, tail = curve
    tail = by_step(np.concatenate([tail, points]))
    in_order = in_order and (stride == 1 or bool(kept[-1, STEP] <= tail[0, STEP]))
    while len(tail) > stride:
        room = KEPT + 1 - len(kept)
        if not room:
            kept, in_order = _all_in_order(kept, tail) if stride == 1 else (kept, in_order)
            kept = np.concatenate([kept[:1], extremes(kept[1:], 4)])
            stride = 4 if stride == 1 else 2 * stride
            continue
        stretches = min(room if stride == 1 else room // 2, (len(tail) - 1) // stride)
        taken = stretches * stride
        kept = np.concatenate([kept, extremes(tail[:taken], stride)])
        tail = tail[taken:]
    return Curve(logged + len(points), stride, in_order, kept, tail)


def _all_in_order(kept: Points, tail: Points) -> tuple[Points, bool]:
    ordered = by_step(kept)
    return ordered, bool(ordered[-1, STEP] <= tail[0, STEP])


def extremes(points: Points, stride: int) -> Points:
    """The first least and the last greatest of each `stride` points, in the order they came.

    A value that is not a number is only taken where there are no others.
    """
    import numpy as np

    if stride == 1:
        return points
    stretches = points.reshape(-1, stride, 3)
    values = stretches[:, :, VALUE]
    least = np.where(np.isnan(values), np.inf, values).argmin(axis=1)
    backwards = np.where(np.isnan(values), -np.inf, values)[:, ::-1]
    greatest = stride - 1 - backwards.argmax(axis=1)
    chosen = np.sort(np.stack([least, greatest], axis=1), axis=1)
    found: Points = stretches[np.arange(len(stretches))[:, None], chosen].reshape(-1, 3)
    return found


def sample(points: Points, max_points: int) -> Points:
    """At most `max_points` of a curve, 4 or more: the first, the last, and extremes between."""
    import numpy as np

    if len(points) <= max_points:
        return points
    between = points[1:-1]
    stride = -(-len(between) // (max_points // 2 - 1))
    padding = np.repeat(between[-1:], -len(between) % stride, axis=0)
    chosen = extremes(np.concatenate([between, padding]), stride)
    chosen = np.concatenate([points[:1], chosen, points[-1:]])
    is_new = (chosen[1:].view(np.int64) != chosen[:-1].view(np.int64)).any(axis=1)
    found: Points = chosen[np.concatenate([[True], is_new])]
    return found


def by_step(points: Points) -> Points:
    """Points by step, those of one step by time."""
    import numpy as np

    steps = points[:, STEP]
    if (steps[1:] > steps[:-1]).all():
        return points
    return points[np.lexsort((points[:, TIME], steps))]


def of_columns(columns: Sequence[Sequence[float]]) -> Points:
    """Points of columns of MLflow's table: steps, times, values, whether these are no numbers."""
    import numpy as np

    *numbers, is_nan = (np.array(column, dtype=np.float64) for column in columns)
    points = np.column_stack(numbers)
    points[is_nan != 0, VALUE] = np.nan
    return with_infinity(points)


def with_infinity(points: Points) -> Points:
    """Points with what MLflow keeps as the largest number there is as what it was, infinite."""
    import numpy as np

    points[np.abs(points[:, VALUE]) >= sys.float_info.max, VALUE] *= np.inf
    return points
