"""A comparison of runs as a record: its table, its charts and their forms."""

from __future__ import annotations

import base64
import html
import math
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics import figures, searches
from aml_magics.figures import BEST
from aml_magics.histories import history
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

DRAWN = 100  # runs with a curve in a static picture
LISTED = 100  # runs in the static table
PARALLEL = 12  # parameters in a static picture
LONG = 10  # characters of a number that is shortened
ERRORS = frozenset(("mae", "mse", "rmse", "mape", "smape", "rmsle", "wer", "cer", "brier"))
LESS_IS_BETTER = ERRORS | {"nll", "perplexity", "time", "seconds", "secs", "latency"}
HEADS = ("run", "display name", "status")  # of the table, beside what was logged
UNITS = {"seconds": "s", "secs": "s", "time": "s", "ms": "ms", "mb": "MB", "gb": "GB", "pct": "%"}
ARROWS = {"min": "↓", "max": "↑"}
KEY = f"↓ less is better, ↑ more is better, {BEST} marks the best"


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


def rank(value: float, goal: str) -> tuple[bool, float]:
    """What to sort values by, the best first and what is no number last."""
    return math.isnan(value), value if goal == "min" else -value


def value_of(row: dict[str, Any], metric: str) -> float:
    """A metric of a run; NaN where it has logged none."""
    return float(row.get(metric, math.nan))


class View(NamedTuple):
    """How a comparison is shown: as `runs.compare` was asked to."""

    goal: str
    smooth: float
    log: bool
    x: str
    everything: bool
    which: str = ""  # the runs, in words: the newest 50, for one
    baseline: str = ""  # the run that the others are measured against
    group: str = ""  # the parameter whose values put runs together


class Comparison:
    """Runs side by side, best first.

    `df` is a DataFrame of all about them, `history` one of their curves, `table` what is shown,
    `best` the name of the best run and `figure` the curves. `session` and `asked` are what
    `runs.compare` was called with, to ask again. Without any metric, `metric` and `best` are empty.
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
        self.metric = metrics[0] if metrics else ""
        self.goal = view.goal
        self.view = view
        self.rows = [searches.row(run) for run in found]
        self._found = found

    @property
    def best(self) -> str:
        """Name of the best run."""
        return self._bests().get(self.metric, "")

    @property
    def data(self) -> list[dict[str, Any]]:
        return self.rows

    @cached_property
    def df(self) -> pd.DataFrame:
        """One row for each run, as of `runs.runs`."""
        return searches.frame(self._found)

    @cached_property
    def history(self) -> pd.DataFrame:
        """The curves of the metrics shown, as of `histories.history`."""
        names = [row["name"] for row in self.rows[:DRAWN]]
        return history(self.session, names, self.metrics, x=self.view.x)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: the metrics, then the parameters that differ."""
        import pandas as pd

        rows, taken = self.rows, {*HEADS, *self.metrics}
        statuses = [row["status"] for row in rows]
        return pd.DataFrame(
            {
                "run": [row["name"] for row in rows],
                "display name": [row["display_name"] for row in rows],
                **({"status": statuses} if len(set(statuses)) > 1 else {}),
                **{name: [value_of(row, name) for row in rows] for name in self.metrics},
                **{
                    f"params.{name}" if name in taken else name: [
                        row.get(f"params.{name}", "") for row in rows
                    ]
                    for name in self._shown()
                },
            }
        )

    def _shown(self) -> list[str]:
        """The parameters of the table."""
        every = dict.fromkeys(key for row in self.rows for key in row if key.startswith("params."))
        keys = list(every) if self.view.everything else differing_params(self.rows)
        return [key.removeprefix("params.") for key in keys]

    @property
    def figure(self) -> Any:
        """The metrics' curves as a matplotlib figure."""
        view = self.view
        look = figures.Look(
            self._labels(), self._bests(), view.x, view.smooth, view.log, self._groups()
        )
        return figures.curves(self.history, self.metrics, look)

    @property
    def parallel(self) -> Any:
        """The runs through the parameters that differ, if more than two are numbers; or None."""
        columns = self._numbers()[:PARALLEL]
        if len(columns) <= 2 or not self.best:
            return None
        table = self.df.set_index("name")[[f"params.{c}" for c in columns]]
        table = table.rename(columns=lambda column: column.removeprefix("params."))
        table[f"→ {self.metric}"] = [value_of(row, self.metric) for row in self.rows]
        less = self.goal == "min"
        return figures.parallel(table, columns, f"→ {self.metric}", self.best, less=less)

    def _numbers(self) -> list[str]:
        """Parameters that differ and are numbers in every run that has them."""
        from pandas.api.types import is_numeric_dtype

        differing = differing_params(self.rows)
        return [key.removeprefix("params.") for key in differing if is_numeric_dtype(self.df[key])]

    def _labels(self) -> dict[str, str]:
        """What to call each run; two of one display name are told apart by their own names."""
        shown = [row["display_name"] for row in self.rows]
        return {
            row["name"]: row["display_name"]
            if shown.count(row["display_name"]) == 1
            else f"{row['display_name']} ({row['name'][-8:]})"
            for row in self.rows[:DRAWN]
        }

    def _groups(self) -> dict[str, str]:
        """What to call the group of each run; nothing where none was asked for."""
        if not self.view.group:
            return {}
        return {row["name"]: self._group(row) for row in self.rows[:DRAWN]}

    def _group(self, row: dict[str, Any]) -> str:
        value = row.get(f"params.{self.view.group}", "")
        return f"{self.view.group} = {_short(value) or 'none'}"

    def pictures(self) -> list[tuple[str, bytes]]:
        """The charts as PNG, each with a text for who cannot see it."""
        found = [(self.alt, self.figure)] if self.metrics and len(self.history) else []
        if (lines := self.parallel) is not None:
            found.append((self._parallel_alt(), lines))
        return [(text, figures.png(figure)) for text, figure in found]

    @property
    def alt(self) -> str:
        """What the curves show, in words."""
        text = f"{', '.join(self.metrics)} by {self.view.x} for {_runs(len(self._labels()))}"
        text += f", coloured by {self.view.group}" if self.view.group else ""
        if not self.best:
            return text
        first = self.rows[0]
        return f"{text}; best: {first['display_name']} with {self.metric} {first[self.metric]:.4g}"

    def _parallel_alt(self) -> str:
        names = self._numbers()
        first, more = self.rows[0], ", ".join(names[PARALLEL:])
        values = ", ".join(f"{name} {first.get(f'params.{name}', '')}" for name in names[:PARALLEL])
        return (
            f"Parallel coordinates of {', '.join(names[:PARALLEL])} against {self.metric} "
            f"for {_runs(len(self.rows))}; best: {values}{f'; not drawn: {more}' if more else ''}"
        )

    def goal_of(self, metric: str) -> str:
        """``min`` or ``max``: as asked for the metric that decides, guessed for others."""
        return self.goal if metric == self.metric else guess_goal(metric)

    def _bests(self) -> dict[str, str]:
        """The best run by each metric that some run has logged as a number."""
        found = {}
        for metric in self.metrics:
            goal = self.goal_of(metric)
            best = min(self.rows, key=lambda row: rank(value_of(row, metric), goal))
            if not math.isnan(value_of(best, metric)):
                found[metric] = best["name"]
        return found

    def _marked(self) -> pd.DataFrame:
        """The table as text: units and directions in its head, the best of each metric marked."""
        table = self.table.head(LISTED).astype(object)
        for metric in self.metrics:
            table[metric] = self._cells(metric)
        for name in table.columns.difference([*HEADS, *self.metrics]):
            table[name] = [_short(text) for text in table[name]]
        table = self._grouped(table) if self.view.group else table
        return table.rename(columns={metric: self._head(metric) for metric in self.metrics})

    def _head(self, metric: str) -> str:
        measure = f" ({unit(metric)})" if unit(metric) else ""
        return f"{metric}{measure} {ARROWS[self.goal_of(metric)]}"

    def _cells(self, metric: str) -> list[str]:
        """A metric's column: the best marked, also where two are, and what the others differ by."""
        goal, rows = self.goal_of(metric), self.rows
        least = min(rank(value_of(row, metric), goal) for row in rows)
        base = {row["name"]: value_of(row, metric) for row in rows}.get(self.view.baseline)
        return [
            _cell(float(row[metric]), rank(row[metric], goal) == least)
            + _delta(float(row[metric]), None if row["name"] == self.view.baseline else base)
            if metric in row
            else ""
            for row in rows[:LISTED]
        ]

    def _grouped(self, table: pd.DataFrame) -> pd.DataFrame:
        """The runs of one value of a parameter together, below a row of their means."""
        import pandas as pd

        rows = self.rows[:LISTED]
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(self._group(row), []).append(place)
        parts = []
        for label, places in groups.items():
            head = dict.fromkeys(table.columns, "")
            head |= {"run": label, "display name": f"{_runs(len(places))}, means"}
            head |= {m: _mean([value_of(rows[place], m) for place in places]) for m in self.metrics}
            parts += [pd.DataFrame([head]), table.iloc[places]]
        return pd.concat(parts, ignore_index=True)

    def _caption(self) -> str:
        which = self.view.which or _runs(len(self.rows))
        by = f" by {self.metric}; {KEY}" if self.metric else ", which have logged no metric"
        base = [row["display_name"] for row in self.rows if row["name"] == self.view.baseline]
        against = f"; in brackets: against {base[0]}" if base else ""
        few = len(self.rows) > LISTED
        return f"{which}{by}{against}{f'; the first {LISTED} below, .df has all' if few else ''}"

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


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.6g}".replace("inf", "∞")


def _cell(value: float, is_best: bool) -> str:
    return _number(value) + (f" {BEST} best" if is_best and not math.isnan(value) else "")


def _delta(value: float, base: float | None) -> str:
    """The difference from a baseline in brackets; nothing where there is none."""
    difference = math.nan if base is None else value - base
    return "" if math.isnan(difference) else f" ({difference:+.4g})".replace("inf", "∞")


def _mean(values: list[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return _number(sum(known) / len(known)) if known else ""


def _short(text: str) -> str:
    """A parameter as the table writes it: a long fraction with six digits."""
    is_long = len(text) > LONG and re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", text)
    return f"{float(text):.6g}" if is_long else text


def differing_params(rows: list[dict[str, Any]]) -> list[str]:
    """The parameters, as `params.NAME`, whose values are not the same in all runs."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("params."))
    return [key for key in keys if len({row.get(key) for row in rows}) > 1]
