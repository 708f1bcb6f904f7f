"""Runs: list them with what they logged, compare them by their metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from aml_magics import searches
from aml_magics.comparison import Comparison, View, guess_goal, rank
from aml_magics.errors import BadCommand, NotFound, Refused, did_you_mean
from aml_magics.histories import AXES, history
from aml_magics.session import Session

__all__ = ["Comparison", "compare", "guess_goal", "history", "runs"]

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

CHARTS = 6  # metrics drawn, where none are named
MOST = 10_000  # runs that are looked at unless more are asked for
KINDS = "metrics.NAME, params.NAME, tags.NAME or attributes.status"


def runs(
    session: Session,
    *,
    tell: Callable[[str], None] = lambda text: None,
    experiment: str = "",
    filter: str = "",  # noqa: A002 (the flag's name, and MLflow's)
    order_by: str = "",
    top: int = 0,
    by: str = "",
    limit: int = 0,
    max_results: int = 0,
) -> pd.DataFrame:
    """Runs, the newest first: what they are, their parameters and the last of each metric.

    Args: filter, order_by: as MLflow writes them: ``metrics.auc > 0.9``, ``params.C DESC``.
        top, by: only so many, the best by a metric. limit: at most so many; ``MOST``, and it is
        told that there are more, when left out.
    Returns: one row for each run, as `searches.frame` says.
    Raises: NotFound: no such experiment. BadCommand: `top` without `by`.
    """
    limit = limit or max_results
    found = _found(session, experiment, filter, order_by, limit=limit or MOST, top=top, by=by)
    if len(found) > (limit or MOST) and not (limit or top):
        tell(f"These are {MOST:,} of more runs: --max-results N for more, --filter for others.")
    return searches.frame(found[: top or limit or MOST])


def _found(
    session: Session,
    experiment: str,
    filter_: str,
    order_by: str = "",
    *,
    limit: int,
    top: int,
    by: str,
    goal: str = "",
) -> list[searches.Run]:
    """The runs asked for, and one more where there are more than `limit`."""
    if top and not by:
        raise BadCommand("the top runs by which metric?", f"--top {top} --by val_loss")
    if by:
        order_by = f"metrics.`{by}` {'ASC' if (goal or guess_goal(by)) == 'min' else 'DESC'}"
    try:
        found = list(searches.find(session, experiment, filter_, order_by, top or limit + 1))
    except Refused as exc:
        if filter_ and "attribute key" in str(exc):  # the server names all of its own columns
            raise BadCommand(f"--filter cannot be '{filter_}'", f"each name as {KINDS}") from exc
        raise
    return [run for run in found if by in searches.metrics(run)] if by and top else found


def compare(
    session: Session,
    *,
    metric: list[str] | str = (),  # type: ignore[assignment]
    names: list[str] | None = None,
    experiment: str = "",
    filter: str = "",  # noqa: A002
    top: int = 0,
    by: str = "",
    goal: str = "",
    smooth: float | str = 0.0,
    log: bool = False,
    x: str = "step",
    everything: bool = False,
    max_results: int = 0,
    baseline: str = "",
    group_by: str = "",
) -> Comparison:
    """Compare runs, those named or those of an experiment, by the last values of metrics.

    Args: names: runs, jobs and their children by name or display name, or an experiment; a sweep
        or a pipeline stands for its children.
        metric: those to show, the first one decides; those most runs have, if none are named.
        by: the one that decides. goal: ``min`` or ``max`` of that one; guessed from its name when
        left out. Runs without it come last.
        smooth: from 0 to less than 1. everything: also what is the same in all runs.
        baseline: the run that the others are measured against. group_by: a parameter whose values
        put runs together. max_results: at most so many of an experiment, the newest; ``MOST``.
    Raises: BadCommand: neither runs nor an experiment, or both. NotFound: no run, or none that has
        logged the metric.
    """
    asked = {name: value for name, value in locals().items() if name != "session"}
    wanted, weight = _metrics(by, metric), _weight(smooth)
    if x not in AXES:
        raise BadCommand(f"--x cannot be '{x}'", hint=f"one of {', '.join(AXES)}")
    decisive = wanted[0] if wanted else ""
    if bool(names) == bool(experiment):
        what = "either runs or --experiment" if names else "compare which runs?"
        raise BadCommand(what, hint=f"%aml compare RUN RUN --metric {decisive or 'val_loss'}")
    if names:
        found, which = _named(session, names, filter), ""
    else:
        query = {"top": top, "by": decisive, "goal": goal}
        found, which = _of_experiment(session, experiment, filter, max_results or MOST, query)
    wanted = _logged(found, wanted)
    goal = goal or guess_goal(wanted[0] if wanted else "")
    ordered = _best_first(found, wanted[0], goal) if wanted else found
    ordered = ordered[: top or None]
    ordered, base = _with_baseline(session, ordered, baseline)
    group = _parameter(ordered, group_by)
    view = View(goal, weight, log, x, everything, which, base, group)
    return Comparison(session, asked, ordered, wanted, view)


def _metrics(by: str, metric: list[str] | str) -> list[str]:
    """The metrics named; a comma is in no name."""
    words = [by, metric] if isinstance(metric, str) else [by, *metric]
    names = (name.strip() for word in words for name in word.split(","))
    return list(dict.fromkeys(name for name in names if name))


def _named(session: Session, names: list[str], filter_: str) -> list[searches.Run]:
    if filter_:
        raise BadCommand("--filter is for the runs of an --experiment", "--experiment NAME instead")
    if not (found := searches.named(session, names, MOST)):  # an experiment's name
        raise NotFound(f"'{names[0]}' has no runs", f"%aml runs {names[0]}")
    return found


def _of_experiment(
    session: Session, experiment: str, filter_: str, limit: int, query: dict[str, Any]
) -> tuple[list[searches.Run], str]:
    """Its runs and, where they are not all, what they are."""
    found = _found(session, experiment, filter_, limit=limit, **query)
    if not found:
        which = f" that match {filter_}" if filter_ else ""
        logged = f" and have logged '{query['by']}'" if query["top"] else ""
        raise NotFound(f"'{experiment}' has no runs{which}{logged}", f"%aml runs {experiment}")
    if query["top"] or len(found) <= limit:
        return found, ""
    return found[:limit], f"the newest {limit:,} of more runs"


def _logged(found: list[searches.Run], wanted: list[str]) -> list[str]:
    """The metrics to show: those wanted, of which the first must be there, or the usual ones."""
    if not wanted:
        return _shared(found)
    logged = sorted({key for run in found for key in searches.metrics(run)})
    if wanted[0] not in logged:
        hint = did_you_mean(wanted[0], logged)
        known = f"logged: {', '.join(logged) or 'nothing'}"
        raise NotFound(f"no run has logged '{wanted[0]}'", f"{hint} {known}".strip())
    return wanted


def _best_first(found: list[searches.Run], metric: str, goal: str) -> list[searches.Run]:
    return sorted(found, key=lambda run: rank(searches.metrics(run).get(metric, math.nan), goal))


def _with_baseline(
    session: Session, found: list[searches.Run], name: str
) -> tuple[list[searches.Run], str]:
    """The runs, with the one of that id or display name, which need not be among the top; its id.

    Raises: NotFound: there is none of that name.
    """
    infos = [run["info"] for run in found]
    among = [i["run_id"] for i in infos if name in (i["run_id"], i.get("run_name"))]
    if among or not name:
        return found, among[0] if name else ""
    try:
        base = searches.named(session, [name], 1)[0]
    except NotFound as exc:
        hint = did_you_mean(name, [info.get("run_name") or info["run_id"] for info in infos])
        raise NotFound(f"--baseline: no run '{name}'", hint or "%aml runs lists them") from exc
    return [*found, base], base["info"]["run_id"]


def _parameter(found: list[searches.Run], name: str) -> str:
    name = name.removeprefix("params.")
    known = sorted({key for run in found for key in searches.params(run)})
    if name and name not in known:
        hint = did_you_mean(name, known) or f"parameters: {', '.join(known) or 'none'}"
        raise NotFound(f"--group-by: no run has a parameter '{name}'", hint)
    return name


def _weight(text: float | str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1
    if not 0 <= weight < 1:
        raise BadCommand(f"--smooth cannot be '{text}'", hint="a number from 0 to 0.99")
    return weight


def _shared(found: list[searches.Run]) -> list[str]:
    """The metrics that most runs have logged, most of them first."""
    counts: dict[str, int] = {}
    for run in found:
        for key in searches.metrics(run):
            counts[key] = counts.get(key, 0) + 1
    is_loss = {key: "loss" in key.lower() for key in counts}
    ordered = sorted(counts, key=lambda key: (-counts[key], not is_loss[key], "train" in key, key))
    return ordered[:CHARTS]
