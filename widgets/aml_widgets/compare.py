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
from aml_widgets.code import LOADER, Code, code
from aml_widgets.forms import WISHES, Desk

# What a notebook saves of runs and curves; while there is a kernel the view asks it for the rest.
TABLE_BYTES = 40_000
CURVE_BYTES = 50_000
# Views of a notebook that are not closed. More than so many share the room that those would take.
_open: WeakSet[Any] = WeakSet()
ROOMY = 2
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
        self._source = source
        self._goals = goals
        self._whole = {(c.run, c.metric): c for c in found}
        self._rows = rows
        _open.add(self)
        for one in [*_open] if len(_open) > ROOMY else [self]:
            one._save()
        self.on_msg(self._answer)

    def close(self) -> None:
        """End the view; the next ones may save more."""
        _open.discard(self)
        super().close()

    def _save(self) -> None:
        """Put into the state what a saved notebook shall show."""
        share = min(1.0, ROOMY / max(len(_open), 1))
        count = tables.fitting(self._rows, self._goals, int(share * TABLE_BYTES))
        table, numbers = tables.pack(self._rows[:count], self._goals)
        shown = curves.overview(list(self._whole.values()), int(share * CURVE_BYTES))
        series, points = curves.pack(shown)
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
        self._rows = rows
        self._save()
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
