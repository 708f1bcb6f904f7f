"""Search spaces of sweeps: their distributions, and the value that a draw from one stands for.

A sampler only draws: an alternative of a choice, or a share of a distribution's probability. All
samplers go through a space in the same way, and a space in a space (a choice among mappings that
have distributions in them) is no other case.

Source of the distributions: the reference of the sweep job's YAML schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from statistics import NormalDist
from typing import Any, NamedTuple

from aml_magics.local.wire import bad_request

# Kinds of distributions, and their arguments in the order of the REST API.
KINDS: dict[str, tuple[str, ...]] = {
    "choice": ("values",),
    "randint": ("upper",),
    **dict.fromkeys(("uniform", "loguniform"), ("min_value", "max_value")),
    **dict.fromkeys(("quniform", "qloguniform"), ("min_value", "max_value", "q")),
    **dict.fromkeys(("normal", "lognormal"), ("mu", "sigma")),
    **dict.fromkeys(("qnormal", "qlognormal"), ("mu", "sigma", "q")),
}
_EDGE = 1e-12  # a normal distribution has no value at the shares 0 and 1
_LARGEST = 700.0  # exp of more is no float

# Name of a parameter and how many alternatives it has → which one; a share of 1 for 0 of them.
Draw = Callable[[str, int], float]


class Distribution(NamedTuple):
    """A hyperparameter's distribution; the arguments of a choice are its alternatives."""

    kind: str
    arguments: list[Any]


Space = Mapping[str, Distribution]


class Sample(NamedTuple):
    """The hyperparameters of a trial, and what was drawn for them, by (nested) name."""

    parameters: dict[str, Any]
    drawn: dict[str, float]


def listed(given: Any) -> Any:
    """A search space as standalone jobs send it, `[kind, [arguments]]`, from that of a pipeline."""
    if isinstance(given, list):
        return [listed(item) for item in given]
    if not isinstance(given, dict):
        return given
    kind = given.get("type")
    if isinstance(kind, str) and kind in KINDS:
        return [kind, [listed(given.get(name)) for name in KINDS[kind]]]
    return {key: listed(item) for key, item in given.items()}


def space(asked: Any) -> Space:
    """A search space, read.

    Raises: ArmError 400: it is empty, or a distribution is none of Azure's.
    """
    if not isinstance(asked, dict) or not asked:
        raise bad_request("The sweep has no search space.")
    return {name: _distribution(name, given) for name, given in listed(asked).items()}


def _distribution(name: str, given: Any) -> Distribution:
    if not _is_distribution(given):
        known = ", ".join(KINDS)
        raise bad_request(f"The hyperparameter {name} has no distribution that is one of {known}.")
    kind, arguments = given
    names = KINDS[kind]
    if len(arguments) != len(names) or None in arguments:
        raise bad_request(f"The hyperparameter {name}: {kind} needs {', '.join(names)}.")
    if kind == "choice":
        return Distribution(kind, _alternatives(name, arguments[0]))
    numbers = [_number(name, argument) for argument in arguments]
    problem = _problem(dict(zip(names, numbers, strict=True)))
    if problem:
        raise bad_request(f"The hyperparameter {name}: {kind} needs {problem}.")
    return Distribution(kind, numbers)


def _is_distribution(given: Any) -> bool:
    pair = isinstance(given, list) and len(given) == 2 and isinstance(given[1], list)
    return pair and isinstance(given[0], str) and given[0] in KINDS


def _alternatives(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise bad_request(f"The hyperparameter {name}: choice needs a list of values.")
    return [_alternative(name, value) for value in values]


def _alternative(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: _distribution(f"{name}.{key}", item) if _is_distribution(item) else item
        for key, item in value.items()
    }


def _number(name: str, given: Any) -> float:
    """A number; those in components come back as text."""
    for kind in (int, float):
        try:
            return given if type(given) is kind else kind(str(given))
        except ValueError:
            continue
    raise bad_request(f"The hyperparameter {name}: {given!r} is no number.")


def _problem(given: Mapping[str, float]) -> str:
    """What a distribution's numbers should be and are not, or nothing."""
    if not all(math.isfinite(value) for value in given.values()):
        return "finite numbers"
    if given.get("min_value", 0) > given.get("max_value", math.inf):
        return "a min_value that is not above max_value"
    if given.get("sigma", 0) < 0:
        return "a sigma that is not negative"
    if given.get("q", 1) <= 0:
        return "a q above 0"
    upper = given.get("upper", 1)
    return "an upper bound that is a whole number above 0" if upper < 1 or upper % 1 else ""


# Values


def parameters(space: Space, draw: Draw, base: float = math.e) -> Sample:
    """Draw a value for every hyperparameter, for those of a nested space if it is chosen."""
    drawn: dict[str, float] = {}

    def noted(name: str, alternatives: int) -> float:
        drawn[name] = draw(name, alternatives)
        return drawn[name]

    values = {name: _drawn(name, one, noted, base) for name, one in space.items()}
    return Sample(values, drawn)


def _drawn(name: str, distribution: Distribution, draw: Draw, base: float) -> Any:
    kind, arguments = distribution
    if kind != "choice":
        return value(distribution, draw(name, 0), base)
    index = int(draw(name, len(arguments)))
    chosen = arguments[index]
    if not isinstance(chosen, dict):
        return chosen
    return {
        key: _drawn(f"{name}.{index}.{key}", item, draw, base)
        if isinstance(item, Distribution)
        else item
        for key, item in chosen.items()
    }


def value(distribution: Distribution, share: float, base: float = math.e) -> float:
    """The value below which `share` of a distribution's probability is.

    Args: base: of logarithmic distributions.
    """
    kind, arguments = distribution
    if kind == "randint":
        return min(int(share * arguments[0]), int(arguments[0]) - 1)
    first, second, *step = arguments
    found = (_normal if kind.endswith("normal") else _uniform)(share, first, second)
    if "log" in kind:
        found = math.exp(min(found * math.log(base), _LARGEST))
    return _rounded(found, step[0]) if step else found


def _uniform(share: float, low: float, high: float) -> float:
    return low + share * (high - low)


def _normal(share: float, mu: float, sigma: float) -> float:
    return NormalDist(mu, sigma).inv_cdf(min(max(share, _EDGE), 1 - _EDGE)) if sigma else mu


def _rounded(value: float, step: float) -> float:
    """The nearest multiple; of a step that is a whole number an int, as scripts expect it."""
    times = round(value / step)
    return times * step if isinstance(step, int) else float(times * Decimal(str(step)))


def sizes(space: Space, above: str = "") -> Iterator[tuple[str, int]]:
    """Names of all parameters, nested ones too, and how many alternatives each has, 0 for any."""
    for name, (kind, arguments) in space.items():
        alternatives = arguments if kind == "choice" else []
        yield above + name, len(alternatives)
        for index, item in enumerate(alternatives):
            if isinstance(item, dict):
                inner = {k: v for k, v in item.items() if isinstance(v, Distribution)}
                yield from sizes(inner, f"{above}{name}.{index}.")
