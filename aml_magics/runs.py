"""Runs: list them with what they logged, compare them by a metric."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from aml_magics import rest, settings
from aml_magics.errors import BadCommand, NotFound
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

PAGE = 200  # Azure refuses pages of 1,000 and more
CURVES = 10  # at most so many in one chart
LESS_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "mape", "perplexity", "time", "seconds")
BEST = "★"
GREY = "#808080"  # readable on white and on black
COLOURS = (  # Okabe and Ito, told apart by people who do not see all colours; black left out
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"),
)
STYLES = ("-", "--", ":", "-.")


def runs(session: Session, *, experiment: str, max_results: int = 0) -> pd.DataFrame:
    """The newest runs of an experiment: name, status, parameters and last metrics.

    Raises: NotFound: there is no such experiment.
    """
    import pandas as pd

    found = islice(_search(session, experiment), max_results or settings.get("max_results"))
    return pd.DataFrame([_row(run) for run in found])


def compare(
    session: Session,
    *,
    metric: str,
    names: list[str] | None = None,
    experiment: str = "",
    goal: str = "",
    max_results: int = 0,
) -> Comparison:
    """Compare runs, those named or the newest of an experiment, by the last value of a metric.

    Args: goal: ``min`` or ``max``; guessed from the metric's name when left out.
    Raises: BadCommand: neither runs nor an experiment. NotFound: no run has logged the metric.
    """
    if names:
        chosen = [_get(session, name) for name in names]
    elif experiment:
        limit = max_results or settings.get("max_results")
        chosen = list(islice(_search(session, experiment), limit))
    else:
        raise BadCommand("compare which runs?", hint=f"%aml compare RUN RUN --metric {metric}")
    rows = [row for row in map(_row, chosen) if metric in row]
    if not rows:
        logged = sorted({m["key"] for run in chosen for m in run["data"].get("metrics", [])})
        raise NotFound(f"no run has logged '{metric}'", f"logged: {', '.join(logged) or 'nothing'}")
    goal = goal or guess_goal(metric)
    rows.sort(key=lambda row: row[metric], reverse=goal == "max")
    curves = {row["name"]: _curve(session, row["name"], metric) for row in rows[:CURVES]}
    return Comparison(metric, goal, rows, curves)


def guess_goal(metric: str) -> str:
    """``min`` for a metric whose name says that less is better, else ``max``."""
    words = metric.lower().replace("-", "_").split("_")
    return "min" if any(word in LESS_IS_BETTER for word in words) else "max"


class Comparison:
    """Runs side by side, best first; ``table`` is the DataFrame, ``figure()`` the curves."""

    def __init__(
        self,
        metric: str,
        goal: str,
        rows: list[dict[str, Any]],
        curves: dict[str, list[tuple[int, float]]],
    ) -> None:
        self.metric = metric
        self.goal = goal
        self.rows = rows
        self.curves = curves

    @property
    def best(self) -> str:
        """Name of the best run."""
        return str(self.rows[0]["name"])

    @property
    def data(self) -> list[dict[str, Any]]:
        return self.rows

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: the metric, then the parameters that differ."""
        import pandas as pd

        differing = differing_params(self.rows)
        return pd.DataFrame(
            [
                {
                    "run": row["name"],
                    "display name": row["display_name"],
                    self.metric: row[self.metric],
                    **{name: row.get(f"params.{name}", "") for name in differing},
                }
                for row in self.rows
            ]
        )

    def figure(self) -> Any:
        """The metric's curves as a matplotlib figure."""
        return _figure(self)

    def png(self) -> bytes:
        return _png(self.figure())

    @property
    def alt(self) -> str:
        """What the chart shows, in words."""
        first = self.rows[0]
        return (
            f"{self.metric} by step for {len(self.curves)} runs; "
            f"best: {first['display_name']} with {first[self.metric]:.4g}"
        )

    def _marked(self) -> pd.DataFrame:
        table = self.table.astype({self.metric: object})
        values = [f"{value:.6g}" for value in self.table[self.metric]]
        table[self.metric] = [f"{values[0]} {BEST} best", *values[1:]]
        return table

    def __repr__(self) -> str:
        less = "less" if self.goal == "min" else "more"
        return f"{self.metric}, {less} is better\n{self._marked().to_string(index=False)}"

    def _repr_html_(self) -> str:
        less = "less" if self.goal == "min" else "more"
        caption = f"<p>{html.escape(self.metric)}, {less} is better</p>"
        rows = self._marked().to_html(index=False, border=0)
        return caption + rows.replace(f"{BEST} best", f"<b>{BEST} best</b>")

    def _repr_markdown_(self) -> str:
        table = self._marked()
        lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
        return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)

    def _ipython_display_(self) -> None:
        """The table, then the chart: one output shows only the richest of its forms."""
        from IPython.display import display

        forms = {"text/plain": repr(self), "text/html": self._repr_html_()}
        display({**forms, "text/markdown": self._repr_markdown_()}, raw=True)
        if any(self.curves.values()):
            image = base64.b64encode(self.png()).decode()
            chart = {"text/plain": self.alt, "image/png": image}
            display(chart, metadata={"image/png": {"alt": self.alt}}, raw=True)


def differing_params(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the parameters whose values are not the same in all runs."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("params."))
    return [key.removeprefix("params.") for key in keys if len({row.get(key) for row in rows}) > 1]


def _search(session: Session, experiment: str) -> Iterator[dict[str, Any]]:
    """Runs of an experiment, newest first."""
    try:
        found = rest.mlflow(
            session, "GET", "experiments/get-by-name", {"experiment_name": experiment}
        )
    except NotFound as exc:
        raise NotFound(f"no experiment '{experiment}'", "%aml job list shows experiments") from exc
    query = {
        "experiment_ids": [found["experiment"]["experiment_id"]],
        "max_results": PAGE,
        "order_by": ["attributes.start_time DESC"],
    }
    while True:
        answer = rest.mlflow(session, "POST", "runs/search", query)
        yield from answer.get("runs", [])
        if not answer.get("next_page_token"):
            return
        query["page_token"] = answer["next_page_token"]


def _get(session: Session, name: str) -> dict[str, Any]:
    try:
        return dict(rest.mlflow(session, "GET", "runs/get", {"run_id": name})["run"])
    except NotFound as exc:
        raise NotFound(f"no run '{name}'", "%aml runs EXPERIMENT, or %aml job list") from exc


def _row(run: dict[str, Any]) -> dict[str, Any]:
    """A run as one flat record; parameters are prefixed, for metrics may have the same names."""
    info, data = run["info"], run.get("data", {})
    return {
        "name": info["run_id"],
        "display_name": info.get("run_name") or info["run_id"],
        "status": info["status"],
        **{f"params.{p['key']}": p["value"] for p in data.get("params", [])},
        **{m["key"]: float(m["value"]) for m in data.get("metrics", [])},
    }


def _curve(session: Session, run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric's history as (step, value), by step."""
    query = {"run_id": run_id, "metric_key": metric}
    points: list[tuple[int, float]] = []
    while True:
        answer = rest.mlflow(session, "GET", "metrics/get-history", query)
        points += [(int(m.get("step", 0)), float(m["value"])) for m in answer.get("metrics", [])]
        if not answer.get("next_page_token"):
            return sorted(points)
        query["page_token"] = answer["next_page_token"]


def _figure(comparison: Comparison) -> Any:
    """Curves told apart by colour and dash, labelled in a grey that reads on white and black."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    names = {row["name"]: row["display_name"] for row in comparison.rows}
    for index, (run, points) in enumerate(comparison.curves.items()):
        mark = f" {BEST}" if run == comparison.best else ""
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=COLOURS[index % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            marker="o" if len(points) == 1 else "",
            linewidth=2.5 if mark else 1.5,
            label=f"{names[run]}{mark}",
        )
    axes.set_xlabel("step", color=GREY)
    axes.set_ylabel(comparison.metric, color=GREY)
    axes.tick_params(colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.legend(frameon=False, labelcolor=GREY)
    axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
