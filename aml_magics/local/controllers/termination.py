"""Early termination policies of sweeps: which running trial is not worth going on.

All are functions of the values that trials have reported of the primary metric. An interval is
one report; a policy looks at every multiple of its evaluation interval that is not below its delay.

Source: Azure's guide to tuning hyperparameters, early termination.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from aml_magics.local.wire import bad_request

Curve = Sequence[float]  # values of the primary metric in the order of the reports


class Policy(NamedTuple):
    """An early termination policy; which of the last three count depends on its kind."""

    kind: str
    interval: int
    delay: int
    slack_factor: float
    slack_amount: float
    percentage: float


def policy(asked: Any) -> Policy | None:
    """The policy that a sweep asks for, None for none.

    Raises: ArmError 400: it is none of Azure's.
    """
    if not asked:
        return None
    kind = str(asked.get("policyType"))
    if kind not in POLICIES:
        known = ", ".join(POLICIES)
        raise bad_request(f"The early termination policy {kind} is none of {known}.")
    names = ("slackFactor", "slackAmount", "truncationPercentage")
    interval, delay, *numbers = (
        _number(asked, name) for name in ("evaluationInterval", "delayEvaluation", *names)
    )
    if kind == "TruncationSelection" and not 1 <= numbers[-1] <= 99:
        raise bad_request("The truncation percentage of a policy is between 1 and 99.")
    return Policy(kind, max(int(interval), 1), int(delay), *numbers)


def _number(asked: Any, name: str) -> float:
    try:
        number = float(asked.get(name) or 0)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < math.inf:
        raise bad_request(f"The {name} of an early termination policy is a number from 0.")
    return number


def best(values: Iterable[float], maximizes: bool) -> float | None:
    """The best of the values that are numbers; None if none is."""
    numbers = [value for value in values if math.isfinite(value)]
    return (max if maximizes else min)(numbers, default=None)


def due(policy: Policy, reports: int) -> int:
    """The interval at which a trial with so many reports is to be looked at; 0 for none."""
    at = reports - reports % policy.interval
    return at if at >= policy.delay else 0


def verdict(
    policy: Policy, maximizes: bool, mine: Curve, others: Iterable[Curve], at: int
) -> str | None:
    """Why a trial is to be ended at an interval; None if it is to go on.

    Args: others: what the other trials have reported; those that have not come that far, or that
        ended before, have no say.
    """
    sign = 1 if maximizes else -1
    reached = [mine, *(curve for curve in others if len(curve) >= at)]
    curves = [[_rank(sign * value) for value in curve[:at]] for curve in reached]
    bound, words = POLICIES[policy.kind](policy, curves)
    own = curves[0][-1] if policy.kind == "TruncationSelection" else max(curves[0])
    if own >= bound:
        return None
    return f"{sign * own:.6g} at interval {at} is worse than {sign * bound:.6g}, {words}"


def _rank(value: float) -> float:
    """What is no finite number is worse than any."""
    return value if math.isfinite(value) else -math.inf


# What a trial must reach, where more is better, and what that is.


def _bandit(policy: Policy, curves: list[list[float]]) -> tuple[float, str]:
    top = max(max(curve) for curve in curves)
    if policy.slack_factor:
        ratio = 1 + policy.slack_factor
        return (top / ratio if top > 0 else top * ratio), f"a slack of {policy.slack_factor:g}"
    return top - policy.slack_amount, f"the best within {policy.slack_amount:g}"


def _median(policy: Policy, curves: list[list[float]]) -> tuple[float, str]:
    return median(map(fmean, curves)), "the median of the running averages"


def _truncation(policy: Policy, curves: list[list[float]]) -> tuple[float, str]:
    values = sorted(curve[-1] for curve in curves)
    count = int(len(values) * policy.percentage / 100)
    words = f"what all but the lowest {policy.percentage:g} % of {len(values)} trials reach"
    return values[count], words


POLICIES: dict[str, Callable[[Policy, list[list[float]]], tuple[float, str]]] = {
    "Bandit": _bandit,
    "MedianStopping": _median,
    "TruncationSelection": _truncation,
}
