"""Runs: list them with what they logged, compare them by their metrics."""

from __future__ import annotations

import base64
import html
import math
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics import figures, searches, settings
from aml_magics.errors import BadCommand, NotFound
from aml_magics.figures import BEST
from aml_magics.histories import AXES, history
from aml_magics.session import Session

__all__ = ["Comparison", "compare", "guess_goal", "history", "runs"]

if TYPE_CHECKING:
    import pandas as pd

CHARTS = 6  # metrics drawn, where none are named
DRAWN = 100  # runs with a curve in a static picture
ERRORS = frozenset(("mae", "mse", "rmse", "mape", "smape", "rmsle", "wer", "cer", "brier"))
LESS_IS_BETTER = ERRORS | {"nll", "perplexity", "time", "seconds", "secs", "latency"}
HEADS = ("run", "display name", "status")  # of the table, beside what was logged
UNITS = {"seconds": "s", "secs": "s", "time": "s", "ms": "ms", "mb": "MB", "gb": "GB", "pct": "%"}
ARROWS = {"min": "↓", "max": "↑"}
KEY = f"↓ less is better, ↑ more is better, {BEST} marks the best"


def runs(
    session: Session,
    *,
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
        top, by: only so many, the best by a metric.
    Returns: one row for each run, as `searches.frame` says.
    Raises: NotFound: no such experiment. BadCommand: `top` without `by`.
    """
    count = top or limit or max_results or settings.get("max_results")
    return searches.frame(
        _found(session, experiment, filter, order_by, count=count, top=top, by=by)
    )


def _found(
    session: Session,
    experiment: str,
    filter_: str,
    order_by: str = "",
    *,
    count: int,
    top: int,
    by: str,
    goal: str = "",
) -> list[searches.Run]:
    if top and not by:
        raise BadCommand("the top runs by which metric?", f"--top {top} --by val_loss")
    if by:
        order_by = f"metrics.`{by}` {'ASC' if (goal or guess_goal(by)) == 'min' else 'DESC'}"
    found = list(searches.find(session, experiment, filter_, order_by, count))
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
) -> Comparison:
    """Compare runs, those named or those of an experiment, by the last values of metrics.

    Args: names: runs, jobs and their children; a sweep or a pipeline stands for its children.
        metric: those to show, the first one decides; all, if none are named. by: the one that
        decides. goal: ``min`` or ``max`` of that one; guessed from its name when left out.
        smooth: from 0 to less than 1. everything: also what is the same in all runs.
    Raises: BadCommand: neither runs nor an experiment. NotFound: no run has logged the metric.
    """
    asked = {name: value for name, value in locals().items() if name != "session"}
    wanted = list(dict.fromkeys([by, metric] if isinstance(metric, str) else [by, *metric]))
    wanted = [name for name in wanted if name]
    weight = _weight(smooth)
    if x not in AXES:
        raise BadCommand(f"--x cannot be '{x}'", hint=f"one of {', '.join(AXES)}")
    if names:
        found = searches.named(session, names)
    elif experiment:
        count = top or max_results or settings.get("max_results")
        decisive = wanted[0] if wanted else ""
        found = _found(session, experiment, filter, count=count, top=top, by=decisive, goal=goal)
    else:
        shown = wanted[0] if wanted else "val_loss"
        raise BadCommand("compare which runs?", hint=f"%aml compare RUN RUN --metric {shown}")
    wanted = wanted or _shared(found)
    rows = [
        row for row in map(searches.row, found) if wanted and isinstance(row.get(wanted[0]), float)
    ]
    if not rows:
        logged = sorted({key for run in found for key in searches.metrics(run)})
        what = f"'{wanted[0]}'" if wanted else "a metric"
        raise NotFound(f"no run has logged {what}", f"logged: {', '.join(logged) or 'nothing'}")
    goal = goal or guess_goal(wanted[0])
    rows.sort(key=lambda row: _rank(row[wanted[0]], goal))
    known = {run["info"]["run_id"]: run for run in found}
    ordered = [known[row["name"]] for row in rows[: top or None]]
    return Comparison(session, asked, ordered, wanted, View(goal, weight, log, x, everything))


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


def _rank(value: float, goal: str) -> tuple[bool, float]:
    return math.isnan(value), value if goal == "min" else -value


def guess_goal(metric: str) -> str:
    """``min`` for a metric whose name says that less is better, else ``max``."""
    words = _words(metric)
    if "neg" in words:  # scikit-learn's scores are errors with the sign changed
        return "max"
    less = (word.endswith(("loss", "error")) or word in LESS_IS_BETTER for word in words)
    return "min" if any(less) else "max"


def unit(metric: str) -> str:
    """The unit in a metric's name, or nothing."""
    return UNITS.get((_words(metric) or [""])[-1], "")


def _words(metric: str) -> list[str]:
    """The words of a metric's name, also of ``trainLoss``."""
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+|[0-9]+", metric)]


class View(NamedTuple):
    """How a comparison is shown: as `compare` was asked to."""

    goal: str
    smooth: float
    log: bool
    x: str
    everything: bool


class Comparison:
    """Runs side by side, best first.

    `df` is a DataFrame of all about them, `history` one of their curves, `table` what is shown,
    `best` the name of the best run and `figure` the curves. `session` and `asked` are what
    `compare` was called with, to ask again.
    """

    def __init__(
        self,
        session: Session,
        asked: dict[str, Any],
        found: list[searches.Run],
        metrics: list[str],
        view: View,
    ) -> None:
        self.session = session
        self.asked = asked
        self.metrics = metrics
        self.metric = metrics[0]
        self.goal = view.goal
        self.rows = [searches.row(run) for run in found]
        self._found = found
        self._view = view

    @property
    def best(self) -> str:
        """Name of the best run."""
        return str(self.rows[0]["name"])

    @property
    def data(self) -> list[dict[str, Any]]:
        return self.rows

    @cached_property
    def df(self) -> pd.DataFrame:
        """One row for each run, as of `runs`."""
        return searches.frame(self._found)

    @cached_property
    def history(self) -> pd.DataFrame:
        """The curves of the metrics shown, as of `history`."""
        names = [row["name"] for row in self.rows[:DRAWN]]
        return history(self.session, names, self.metrics, x=self._view.x)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: the metrics, then the parameters that differ."""
        import pandas as pd

        every = dict.fromkeys(key for row in self.rows for key in row if key.startswith("params."))
        shown = list(every) if self._view.everything else differing_params(self.rows)
        params = [key.removeprefix("params.") for key in shown]
        taken = {*HEADS, *self.metrics}
        statuses = {row["status"] for row in self.rows}
        return pd.DataFrame(
            {
                "run": [row["name"] for row in self.rows],
                "display name": [row["display_name"] for row in self.rows],
                **({"status": [row["status"] for row in self.rows]} if len(statuses) > 1 else {}),
                **{name: [row.get(name, math.nan) for row in self.rows] for name in self.metrics},
                **{
                    f"params.{name}" if name in taken else name: [
                        row.get(f"params.{name}", "") for row in self.rows
                    ]
                    for name in params
                },
            }
        )

    @property
    def figure(self) -> Any:
        """The metrics' curves as a matplotlib figure."""
        view = self._view
        look = figures.Look(self._labels(), self.best, view.x, view.smooth, view.log)
        return figures.curves(self.history, self.metrics, look)

    @property
    def parallel(self) -> Any:
        """The runs through the parameters that differ, if more than two are numbers; or None."""
        columns = self._numbers()
        if len(columns) <= 2:
            return None
        table = self.df.set_index("name")[[f"params.{c}" for c in columns]]
        table = table.rename(columns=lambda column: column.removeprefix("params."))
        table[f"→ {self.metric}"] = [row[self.metric] for row in self.rows]
        less = self.goal == "min"
        return figures.parallel(table, columns, f"→ {self.metric}", self.best, less=less)

    def _numbers(self) -> list[str]:
        """Parameters that differ and are numbers in every run."""
        from pandas.api.types import is_numeric_dtype

        differing = differing_params(self.rows)
        return [
            key.removeprefix("params.")
            for key in differing
            if is_numeric_dtype(self.df[key]) and self.df[key].notna().all()
        ]

    def _labels(self) -> dict[str, str]:
        """What to call each run; two of one display name are told apart by their own names."""
        shown = [row["display_name"] for row in self.rows]
        return {
            row["name"]: row["display_name"]
            if shown.count(row["display_name"]) == 1
            else f"{row['display_name']} ({row['name'][-8:]})"
            for row in self.rows[:DRAWN]
        }

    def pictures(self) -> list[tuple[str, bytes]]:
        """The charts as PNG, each with a text for who cannot see it."""
        found = [(self.alt, self.figure)] if len(self.history) else []
        if (lines := self.parallel) is not None:
            found.append((self._parallel_alt(), lines))
        return [(text, figures.png(figure)) for text, figure in found]

    @property
    def alt(self) -> str:
        """What the curves show, in words."""
        first = self.rows[0]
        return (
            f"{', '.join(self.metrics)} by {self._view.x} for {len(self._labels())} runs; "
            f"best: {first['display_name']} with {self.metric} {first[self.metric]:.4g}"
        )

    def _parallel_alt(self) -> str:
        names = self._numbers()
        values = ", ".join(f"{name} {self.rows[0][f'params.{name}']}" for name in names)
        return (
            f"Parallel coordinates of {', '.join(names)} against {self.metric} "
            f"for {len(self.rows)} runs; best: {values}"
        )

    def _goal(self, metric: str) -> str:
        return self.goal if metric == self.metric else guess_goal(metric)

    def _marked(self) -> pd.DataFrame:
        """The table as text: units and directions in its head, the best of each metric marked."""
        table = self.table
        heads = {}
        for metric in self.metrics:
            values, goal = table[metric].tolist(), self._goal(metric)
            least = min((_rank(value, goal) for value in values), default=(True, 0.0))
            table[metric] = [
                "" if math.isnan(v) and metric not in row else _cell(v, _rank(v, goal) == least)
                for v, row in zip(values, self.rows, strict=True)
            ]
            measure = f" ({unit(metric)})" if unit(metric) else ""
            heads[metric] = f"{metric}{measure} {ARROWS[goal]}"
        return table.rename(columns=heads)

    def _caption(self) -> str:
        return f"{len(self.rows)} runs by {self.metric}; {KEY}"

    def __repr__(self) -> str:
        return f"{self._caption()}\n{self._marked().to_string(index=False)}"

    def _repr_html_(self) -> str:
        caption = f"<p class='aml-static'>{html.escape(self._caption())}</p>"
        rows = self._marked().to_html(index=False, border=0)
        return caption + rows.replace(f"{BEST} best", f"<b>{BEST} best</b>")

    def _repr_markdown_(self) -> str:
        table = self._marked()
        lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
        text = (" | ".join(str(cell).replace("|", "\\|") for cell in line) for line in lines)
        return "\n".join([self._caption(), "", *(f"| {line} |" for line in text)])

    def _ipython_display_(self) -> None:
        """The table, then the charts: one output shows only the richest of its forms."""
        from IPython.display import display

        forms = {"text/plain": repr(self), "text/html": self._repr_html_()}
        display({**forms, "text/markdown": self._repr_markdown_()}, raw=True)
        self.display_charts()

    def display_charts(self) -> None:
        """The charts below the table."""
        from IPython.display import display

        for text, image in self.pictures():
            chart = {"text/plain": text, "image/png": base64.b64encode(image).decode()}
            display(chart, metadata={"image/png": {"alt": text}}, raw=True)


def _cell(value: float, is_best: bool) -> str:
    return f"{value:.6g} {BEST} best" if is_best and not math.isnan(value) else f"{value:.6g}"


def differing_params(rows: list[dict[str, Any]]) -> list[str]:
    """The parameters, as `params.NAME`, whose values are not the same in all runs."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("params."))
    return [key for key in keys if len({row.get(key) for row in rows}) > 1]
