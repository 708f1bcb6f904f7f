"""Charts of runs as matplotlib figures that read on white and on black."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

GREY = "#808080"  # readable on white and on black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B5649A", "#8F63C9", "#8C7A00")
STYLES = ("-", "--", ":", "-.")
TOLD_APART = 10  # runs with a colour of their own and a line in the legend
BEST = "★"
LABELS = {"step": "step", "time": "time (UTC)", "relative": "seconds since the run began"}
LONGEST = 28  # characters of a name in a legend


class Look(NamedTuple):
    """How curves are drawn.

    `names` is what to call the runs, the most interesting first. `groups` is what their colours
    stand for where not for a run each. `best` is the best run by each
    metric, the first of which decides. `smooth` is the weight of what came before, from 0 to less
    than 1; the values themselves are drawn behind, fainter.
    """

    names: dict[str, str]
    best: Mapping[str, str] = {}
    x: str = "step"
    smooth: float = 0.0
    log: bool = False
    groups: Mapping[str, str] = {}

    @property
    def legend(self) -> Mapping[str, str]:
        """What the colour of each run stands for."""
        return self.groups or self.names

    @property
    def colours(self) -> list[str]:
        """What there is a colour for, the most interesting first."""
        return list(dict.fromkeys(self.legend[run] for run in self.names))


def curves(history: pd.DataFrame, metrics: Sequence[str], look: Look) -> Any:
    """A chart for each metric, runs or their groups told apart by colour and dash."""
    from matplotlib.figure import Figure

    wide = min(2, len(metrics))
    high = math.ceil(len(metrics) / wide)
    figure = Figure(figsize=(7 if wide == 1 else 11, 3.2 * high), dpi=100, layout="constrained")
    grid = figure.subplots(high, wide, squeeze=False).flat
    for metric, axes in zip(metrics, grid, strict=False):
        rows = history[history["metric"] == metric]
        best = look.best.get(metric, "")
        if rows.groupby("run", observed=True).size().max() <= 1:
            _dots(axes, rows, look, best)
        else:
            _lines(axes, rows, look, best)
            axes.set_xlabel(LABELS[look.x], color=GREY)
        axes.set_title(metric, color=GREY, fontsize=11)
        _plain(axes)
    for axes in list(grid):
        axes.remove()
    _legend(figure, look.colours)
    return _on_any_background(figure)


def _lines(axes: Any, rows: pd.DataFrame, look: Look, best: str) -> None:
    if look.log:
        rows = rows[rows["value"] > 0]
        axes.set_yscale("log")
    if rows.empty:
        axes.text(0.5, 0.5, "no value above 0", color=GREY, ha="center", transform=axes.transAxes)
    groups: dict[Any, pd.DataFrame] = dict(iter(rows.groupby("run", observed=True)))
    for run in reversed(look.names):
        if run not in groups:
            continue
        xs, values = groups[run][look.x].to_numpy(), groups[run]["value"].to_numpy()
        style = _style(run, look, best)
        if len(xs) == 1:
            style["marker"] = "o"
        if look.smooth:
            axes.plot(xs, values, **{**style, "alpha": 0.25, "linewidth": 1, "label": None})
            values = smoothed(values, look.smooth)
        axes.plot(xs, values, **style)
        if run == best:
            axes.plot(xs[-1], values[-1], "*", color=style["color"], markersize=11, zorder=4)


def _style(run: str, look: Look, best: str) -> dict[str, Any]:
    called = look.legend[run]
    decided = look.legend.get(next(iter(look.best.values()), ""))
    place = look.colours.index(called)
    if place >= TOLD_APART:
        return {"color": GREY, "linewidth": 0.7, "alpha": 0.5, "zorder": 1}
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": STYLES[place % len(STYLES)],
        "linewidth": 2.5 if run == best else 1.4,
        "label": short(called) + (f" {BEST}" if called == decided else ""),
        "zorder": 3 if run == best else 2,
    }


def _dots(axes: Any, rows: pd.DataFrame, look: Look, best: str) -> None:
    """Values of a metric that was logged once: a line for each run, the first one on top."""
    value = dict(zip(rows["run"], rows["value"], strict=True))
    shown = [run for run in look.names if run in value][: 2 * TOLD_APART]
    for place, run in enumerate(shown):
        style = _style(run, look, best)
        marker = "*" if run == best else "o"
        label = style.get("label") if look.groups else None  # a run alone is named at its line
        axes.plot(value[run], place, marker, color=style["color"], markersize=9, label=label)
    axes.set_yticks(range(len(shown)), [short(look.names[run]) for run in shown])
    axes.invert_yaxis()
    axes.grid(axis="y", color=GREY, alpha=0.2)


def parallel(
    table: pd.DataFrame, columns: Sequence[str], metric: str, best: str, *, less: bool
) -> Any:
    """Parallel coordinates: a line for each run through its parameters to the metric.

    Args: table: one row for each run, the index its names.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    axes_names = [*columns, metric]
    numbers = table[axes_names].astype(float)
    low, high = numbers.min(), numbers.max()
    scaled = (numbers - low) / (high - low).where(high > low, 1.0)
    figure = Figure(figsize=(max(7, 1.6 * len(axes_names)), 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for run, line in scaled.iterrows():
        if line.isna().any():
            continue
        good = 1 - line[metric] if less else line[metric]
        colour = colormaps["plasma"](0.35 + 0.4 * good)  # its ends are lost on white or on black
        width = 3.0 if run == best else 1.2
        axes.plot(range(len(axes_names)), line, color=colour, linewidth=width, alpha=0.9)
        if run == best:
            axes.plot(len(axes_names) - 1, line[metric], "*", color=colour, markersize=14)
    for place, name in enumerate(axes_names):
        axes.plot([place, place], [0, 1], color=GREY, linewidth=1, zorder=1)
        for at, value, side in ((1.0, high[name], "bottom"), (0.0, low[name], "top")):
            shift = 0.03 if side == "bottom" else -0.03
            axes.text(place, at + shift, f"{value:.4g}", color=GREY, ha="center", va=side)
    axes.set_xticks(range(len(axes_names)), [short(name) for name in axes_names])
    axes.set_ylim(-0.14, 1.14)
    axes.set_yticks([])
    _plain(axes)
    axes.spines[["left", "bottom"]].set_visible(False)
    return _on_any_background(figure)


def smoothed(values: Any, weight: float) -> Any:
    """The running mean whose weights fall off by `weight` a point; what is no number is skipped."""
    import numpy as np

    result = np.full(len(values), np.nan)
    total = norm = 0.0
    for place, value in enumerate(values):
        if math.isfinite(value):
            total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        result[place] = total / norm if norm else value
    return result


def short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}…{name[-8:]}"


def png(figure: Any) -> bytes:
    """A figure as PNG of 256 colours, a third of the bytes: the notebook keeps it."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():  # a name in a script that the font lacks is drawn as boxes
        warnings.simplefilter("ignore")
        figure.savefig(drawn, format="png")
    Image.open(drawn).quantize(method=Image.Quantize.FASTOCTREE).save(small, format="png")
    return small.getvalue()


def _plain(axes: Any) -> None:
    axes.tick_params(which="both", colors=GREY)
    axes.xaxis.get_offset_text().set_color(GREY)
    axes.yaxis.get_offset_text().set_color(GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.patch.set_alpha(0)


def _legend(figure: Any, names: Sequence[str]) -> None:
    """The colours once for all charts, in their order."""
    lines: dict[str, Any] = {}
    for axes in figure.axes:
        for line in axes.get_lines():
            if not line.get_label().startswith("_"):
                lines.setdefault(line.get_label(), line)
    order = {short(name): place for place, name in enumerate(names)}
    labels = sorted(lines, key=lambda label: order.get(label.removesuffix(f" {BEST}"), 0))
    if labels:
        more = len(names) - TOLD_APART
        title = f"{more} more in grey" if more > 0 else None
        legend = figure.legend(
            [lines[label] for label in labels],
            labels,
            loc="outside right upper",
            frameon=False,
            labelcolor=GREY,
            title=title,
            handlelength=3,
        )
        legend.get_title().set_color(GREY)


def _on_any_background(figure: Any) -> Any:
    figure.patch.set_alpha(0)
    return figure
