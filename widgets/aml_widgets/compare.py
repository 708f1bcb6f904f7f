"""The comparison of runs as a live view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import anywidget
import traitlets as t
from ipywidgets import widget_serialization

from aml_widgets import curves, tables
from aml_widgets.code import LOADER, STATIC, Code, code
from aml_widgets.forms import WISHES, Desk

# What a notebook saves of runs and curves; while there is a kernel the view asks it for the rest.
TABLE_BYTES = 40_000
CURVE_BYTES = 36_000  # before base64
# Views of a notebook that are not closed: each next one saves less, so that all of them stay small.
_open: WeakSet[Any] = WeakSet()
LEAST = 8  # the least is so much of what one view alone may save
IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
TEXT_BYTES = 200_000  # of a text file that is shown


class Source:
    """What the view calls: replaced by whoever knows where runs are. All of them may raise."""

    def __init__(
        self,
        rows: Callable[[], Sequence[tables.Row]],
        history: Callable[[Sequence[str], str], Sequence[curves.Curve]],
        files: Callable[[str], Sequence[str]],
        read: Callable[[str, str], bytes],
        desk: Desk | None = None,
    ) -> None:
        """Name the calls.

        Args: rows: the runs as they are now. history: the curves of runs and a metric.
            files: paths of a run's artifacts. read: the bytes of one. desk: who answers the forms
            that a run's row opens; without it there are none.
        """
        self.rows = rows
        self.history = history
        self.files = files
        self.read = read
        self.desk = desk


class Compare(anywidget.AnyWidget):
    """Draws its state and sends wishes; the state alone is enough to open a saved notebook."""

    _esm = LOADER
    _css = STATIC / "compare.css"
    code = t.Instance(Code).tag(sync=True, **widget_serialization)
    table = t.Dict().tag(sync=True)
    numbers = t.Bytes().tag(sync=True)
    series: t.List[Any] = t.List().tag(sync=True)
    points = t.Bytes().tag(sync=True)
    view = t.Dict().tag(sync=True)
    origin = t.Dict().tag(sync=True)

    def __init__(
        self,
        rows: Sequence[tables.Row],
        found: Sequence[curves.Curve],
        source: Source,
        *,
        goals: Mapping[str, str],
        view: Mapping[str, Any],
        origin: Mapping[str, Any],
    ) -> None:
        """Show runs.

        Args: goals: ``min`` or ``max`` for each metric. view: what to begin with: ``metric``,
            ``x``, ``log``, ``smooth``. origin: what the magic line names: ``experiment``.
        """
        super().__init__(code=code("compare"), view=dict(view), origin=dict(origin))
        _open.add(self)
        self._shares = min(len(_open), LEAST)
        self._source = source
        self._goals = goals
        self._whole = {(c.run, c.metric): c for c in found}
        self._keep(rows)
        self.on_msg(self._answer)

    def close(self) -> None:
        """End the view; the next ones may save more."""
        _open.discard(self)
        super().close()

    def _keep(self, rows: Sequence[tables.Row]) -> None:
        """Put into the state what a saved notebook shall show."""
        self._rows = rows
        saved = rows[: tables.fitting(rows, self._goals, TABLE_BYTES // self._shares)]
        table, numbers = tables.pack(saved, self._goals)
        series, points = curves.pack(
            curves.overview(list(self._whole.values()), CURVE_BYTES // self._shares)
        )
        with self.hold_sync():
            self.numbers, self.table = numbers, table
            self.points, self.series = points, series

    def _answer(self, _: Any, wish: dict[str, Any], __: Any) -> None:
        """Do what the view asks for; an error is told where it was asked."""
        if wish["want"] in WISHES and self._source.desk:
            self._source.desk.answer(wish, self.send)
            return
        try:
            getattr(self, f"_send_{wish['want']}")(wish)
        except Exception as exc:  # anything: else the click would seem to do nothing
            self.send({"kind": "error", "wish": wish, "text": str(exc)})

    def _send_alive(self, _wish: Mapping[str, Any]) -> None:
        self.send({"kind": "alive", "forms": self._source.desk is not None})
        if len(self._rows) > len(self.table["runs"]):
            self._send_table()

    def _send_table(self) -> None:
        """Send all runs, also those that the state has no room for."""
        table, numbers = tables.pack(self._rows, self._goals)
        self.send({"kind": "table", "table": table}, buffers=[numbers])

    def _send_curves(self, wish: Mapping[str, Any]) -> None:
        runs, metric = [str(run) for run in wish["runs"]], str(wish["metric"])
        missing = [run for run in runs if (run, metric) not in self._whole]
        if missing:
            found = self._source.history(missing, metric)
            self._whole |= {(c.run, c.metric): c for c in found}
        known = [self._whole[run, metric] for run in runs if (run, metric) in self._whole]
        series, points = curves.pack(known)
        self.send({"kind": "curves", "metric": metric, "series": series}, buffers=[points])

    def _send_refresh(self, wish: Mapping[str, Any]) -> None:
        """Read the runs again, and the curves that are shown."""
        rows = self._source.rows()
        names = [row["name"] for row in rows[: wish["limit"]]]
        found = self._source.history(names, str(wish["metric"]))
        self._whole = {(c.run, c.metric): c for c in found}  # what is not shown is read when it is
        self._send_curves({"runs": [c.run for c in found], "metric": wish["metric"]})
        self._keep(rows)
        self._send_table()

    def _send_files(self, wish: Mapping[str, Any]) -> None:
        run = str(wish["run"])
        self.send({"kind": "files", "run": run, "files": list(self._source.files(run))})

    def _send_file(self, wish: Mapping[str, Any]) -> None:
        run, path = str(wish["run"]), str(wish["path"])
        kind = IMAGES.get(Path(path).suffix.lower(), "text/plain")
        content = self._source.read(run, path)
        if kind == "text/plain" and b"\0" in content[:TEXT_BYTES]:
            content = f"a binary file of {len(content):,} bytes".encode()
        shown = content if kind != "text/plain" else content[:TEXT_BYTES]
        about = {"run": run, "path": path, "type": kind, "size": len(content)}
        self.send({"kind": "file", **about}, buffers=[shown])
