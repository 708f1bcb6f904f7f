"""A job's card: live until the job ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets as t
from ipywidgets import widget_serialization

from aml_widgets import cards, curves
from aml_widgets.code import LOADER, Code, code

PAUSE = 0.5  # seconds between two readings, at least
SHARE = 5  # reading takes at most one part in so many of the time
PATIENCE = 120.0  # seconds that readings may fail before the card gives up


class JobCard(anywidget.AnyWidget):
    """Draws its state and sends wishes. A thread of its own reads the job; it prints nothing."""

    _esm = LOADER
    code = t.Instance(Code).tag(sync=True, **widget_serialization)
    card = t.Dict().tag(sync=True)
    log = t.Unicode().tag(sync=True)
    series: t.List[Any] = t.List().tag(sync=True)
    points = t.Bytes().tag(sync=True)

    def __init__(
        self,
        name: str,
        about: Mapping[str, Any],
        read: Callable[[], cards.Reading],
        cancel: Callable[[], Any],
        *,
        changed: Callable[[cards.Reading], None] = lambda reading: None,
        page: Callable[[], str] = str,
    ) -> None:
        """Show a job.

        Args: about: ``title``, ``kind``, ``url``. read: the job now, called from a thread.
            changed: told of each reading whose status is another one. page: address of the job's
            page, which may hold a secret and is not kept.
        """
        super().__init__(code=code("job_card"))
        self._name = name
        self._about = about
        self._read = read
        self._cancel = cancel
        self._page = page
        self._changed = changed
        self._lines = cards.Log()
        self._last = cards.Reading("")
        self.on_msg(self._answer)
        self._thread = threading.Thread(target=self._follow, name=f"card {name}", daemon=True)

    def start(self) -> JobCard:
        """Begin to follow the job."""
        self._show(self._read())
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it follows the job no more."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _follow(self) -> None:
        heard = time.monotonic()
        pause = PAUSE
        while self._last.status not in cards.TERMINAL:
            time.sleep(pause)
            if self.comm is None:  # closed: its cell was run again
                return
            began = time.monotonic()
            try:
                self._show(self._read())
            except Exception as exc:  # whatever it is: the job may well go on
                if began - heard > PATIENCE:
                    self._note(f"no longer followed: {exc}")
                    return
                self._note(f"connection lost, trying again: {exc}")
            else:
                heard = time.monotonic()
            pause = max(PAUSE, SHARE * (time.monotonic() - began))

    def _note(self, text: str) -> None:
        self.card = {**self.card, "note": text}

    def _show(self, reading: cards.Reading) -> None:
        """Send what is new; the front end gets one message."""
        self._lines.add(reading.text)
        lines = self._lines.lines
        series, points = curves.pack([curves.thin(c, cards.POINTS) for c in reading.metrics])
        with self.hold_sync():
            self.card = cards.card(self._name, self._about, reading, lines)
            self.log = "\n".join(lines)
            self.points, self.series = points, series
        told, self._last = self._last.status, reading
        if reading.status != told:
            self._changed(reading)

    def _answer(self, _: Any, wish: dict[str, Any], __: Any) -> None:
        if wish["want"] == "alive":
            self.send({"kind": "alive"})
        if wish["want"] == "open":
            self.send({"kind": "open", "url": self._page()})
        if wish["want"] == "cancel":
            try:
                self._cancel()
            except Exception as exc:  # else the click would seem to do nothing
                self._note(f"not canceled: {exc}")
