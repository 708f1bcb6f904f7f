"""Samplers of sweeps: which hyperparameters the next trial gets.

Each is a function of the space, of a trial's number and of the trials before it, all of which are
stored: a new daemon goes on with the same sweep, and the same seed gives the same trials.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from aml_magics.local.controllers.spaces import Draw, Sample, Space, parameters, sizes

STARTUP = 5  # trials that a Bayesian sampler draws at random before it believes what it sees


class Past(NamedTuple):
    """An earlier trial: what was drawn for it, whether it goes on, and its score, if it has one."""

    drawn: Mapping[str, float]
    is_over: bool
    score: float | None


class Sampling(NamedTuple):
    """How a sweep samples; `seed` is a text that every random number follows from."""

    kind: str
    seed: str
    base: float = math.e
    maximizes: bool = False


def sample(space: Space, how: Sampling, number: int, past: Sequence[Past]) -> Sample | None:
    """The hyperparameters of the trial with this number; None where a grid has no more.

    Args: past: earlier trials, of which only a Bayesian sampler takes notice.
    """
    draw = SAMPLERS[how.kind](space, how, number, past)
    return parameters(space, draw, how.base) if draw else None


def grid_size(space: Space, limit: int) -> int:
    """How many points a grid has, counted up to a limit."""
    return sum(1 for _, _ in zip(range(limit), _grid_points(space), strict=False))


def _random(space: Space, how: Sampling, number: int, past: Sequence[Past]) -> Draw:
    random = Random(f"{how.seed}/{number}")  # noqa: S311 (samples, no secrets)
    return lambda _, alternatives: (
        random.randrange(alternatives) if alternatives else random.random()
    )


def _sobol(space: Space, how: Sampling, number: int, past: Sequence[Past]) -> Draw:
    from scipy.stats.qmc import Sobol

    names = [name for name, _ in sizes(space)]
    points = Sobol(len(names), scramble=True, seed=zlib.crc32(how.seed.encode()))
    if number:
        points.fast_forward(number)
    point = dict(zip(names, points.random(1)[0].tolist(), strict=True))
    return lambda name, alternatives: _spread(point[name], alternatives)


def _spread(share: float, alternatives: int) -> float:
    return min(int(share * alternatives), alternatives - 1) if alternatives else share


def _grid(space: Space, how: Sampling, number: int, past: Sequence[Past]) -> Draw | None:
    for at, point in enumerate(_grid_points(space)):
        if at == number:
            return lambda name, _: point[name]
    return None


def _grid_points(space: Space) -> Iterator[dict[str, float]]:
    """Every point of a space of choices, the last parameter changing first."""
    path: list[int] = []
    while True:
        point, trail = _walked(space, path)
        yield point
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return
        path = [at for at, _ in trail]
        path[-1] += 1


def _walked(space: Space, path: Sequence[int]) -> tuple[dict[str, float], list[tuple[int, int]]]:
    """Choose along a path, then the first of everything: the point, and the path with its forks."""
    trail: list[tuple[int, int]] = []

    def draw(_: str, alternatives: int) -> float:
        trail.append((path[len(trail)] if len(trail) < len(path) else 0, alternatives))
        return trail[-1][0]

    return parameters(space, draw).drawn, trail


def _bayesian(space: Space, how: Sampling, number: int, past: Sequence[Past]) -> Draw:
    """A tree-structured Parzen estimator that has been told all earlier trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=zlib.crc32(f"{how.seed}/{number}".encode()),
        n_startup_trials=STARTUP,
        constant_liar=True,  # trials that still run count as bad, so that their place is left
    )
    directions = optuna.study.StudyDirection
    direction = directions.MAXIMIZE if how.maximizes else directions.MINIMIZE
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials([_told(one, dict(sizes(space))) for one in past])
    trial = study.ask()

    def draw(name: str, alternatives: int) -> float:
        if alternatives:
            return int(trial.suggest_categorical(name, range(alternatives)))
        return float(trial.suggest_float(name, 0.0, 1.0))

    return draw


def _told(past: Past, alternatives: Mapping[str, int]) -> Any:
    """An earlier trial as optuna has it: failed where it has no score."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState, create_trial

    ended = TrialState.FAIL if past.score is None else TrialState.COMPLETE
    return create_trial(
        state=ended if past.is_over else TrialState.RUNNING,
        value=past.score if past.is_over else None,
        params=dict(past.drawn),
        distributions={
            name: CategoricalDistribution(range(alternatives[name]))
            if alternatives[name]
            else FloatDistribution(0.0, 1.0)
            for name in past.drawn
        },
    )


SAMPLERS: dict[str, Callable[[Space, Sampling, int, Sequence[Past]], Draw | None]] = {
    "random": _random,
    "sobol": _sobol,
    "grid": _grid,
    "bayesian": _bayesian,
}
