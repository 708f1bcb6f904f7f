"""The comparison of runs as a live view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from aml_widgets import curves, tables

STATIC = Path(__file__).parent / "static"
SAVED_BYTES = 96_000  # of curves in the state that a notebook saves; the view asks for the rest
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
    ) -> None:
        """Name the calls.

        Args: rows: the runs as they are now. history: the curves of runs and a metric.
            files: paths of a run's artifacts. read: the bytes of one.
        """
        self.rows = rows
        self.history = history
        self.files = files
        self.read = read


class Compare(anywidget.AnyWidget):
    """Draws its state and sends wishes; the state alone is enough to open a saved notebook."""

    _esm = STATIC / "compare.js"
    _css = STATIC / "compare.css"
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
        table, numbers = tables.pack(rows, goals)
        series, points = curves.pack(curves.overview(found, SAVED_BYTES))
        super().__init__(
            table=table,
            numbers=numbers,
            series=series,
            points=points,
            view=dict(view),
            origin=dict(origin),
        )
        self._source = source
        self._goals = goals
        self._whole = {(c.run, c.metric): c for c in found}
        self.on_msg(self._answer)

    def _answer(self, _: Any, wish: dict[str, Any], __: Any) -> None:
        """Do what the view asks for; an error is told where it was asked."""
        try:
            getattr(self, f"_send_{wish['want']}")(wish)
        except Exception as exc:  # anything: else the click would seem to do nothing
            self.send({"kind": "error", "wish": wish, "text": str(exc)})

    def _send_alive(self, _wish: Mapping[str, Any]) -> None:
        self.send({"kind": "alive"})

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
        table, numbers = tables.pack(self._source.rows(), self._goals)
        with self.hold_sync():
            self.numbers, self.table = numbers, table
        self._whole = {}
        self._send_curves({"runs": table["runs"][: wish["limit"]], "metric": wish["metric"]})
        self.series, self.points = curves.pack(
            curves.overview(list(self._whole.values()), SAVED_BYTES)
        )

    def _send_files(self, wish: Mapping[str, Any]) -> None:
        run = str(wish["run"])
        self.send({"kind": "files", "run": run, "files": list(self._source.files(run))})

    def _send_file(self, wish: Mapping[str, Any]) -> None:
        run, path = str(wish["run"]), str(wish["path"])
        kind = IMAGES.get(Path(path).suffix.lower(), "text/plain")
        content = self._source.read(run, path)
        shown = content if kind != "text/plain" else content[:TEXT_BYTES]
        about = {"run": run, "path": path, "type": kind, "size": len(content)}
        self.send({"kind": "file", **about}, buffers=[shown])
