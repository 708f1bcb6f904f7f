"""What a job's card shows, worked out from what a workspace says of the job."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aml_widgets.curves import Curve

TERMINAL = frozenset({"Completed", "Failed", "Canceled", "NotResponding", "Paused"})
LINES = 400  # of the log that a card holds, and a notebook saves
WIDTH = 2_000  # characters of a line that are kept
NEAR = 40  # lines from the end in which a progress bar is looked for
POINTS = 120  # of a sparkline
BAR = re.compile(r"(\d{1,3})%\|.*?\|\s*(\d[\d.]*\w?)/(\d[\d.]*\w?)")  # as tqdm prints it
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours and movements of a terminal
STEP = re.compile(r"\$\{\{parent\.jobs\.([\w-]+)\.")  # where a step's input comes from


class Reading(NamedTuple):
    """A job at one moment; times in seconds since the epoch, 0 before they are known."""

    status: str
    text: str = ""  # of its log, new since the last reading
    started: float = 0
    ended: float = 0
    now: float = 0
    error: str = ""
    metrics: Sequence[Curve] = ()
    children: Sequence[Mapping[str, Any]] = ()  # name, title, status, detail
    edges: Sequence[tuple[str, str]] = ()  # titles of steps, from and to


class Log:
    """The end of a log; what a carriage return overwrites is gone, as in a terminal."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)
        self._open = ""

    def add(self, text: str) -> None:
        *whole, self._open = (self._open + text.replace("\r\n", "\n")).split("\n")
        self._lines.extend(_overwritten(line) for line in whole)
        self._open = self._open[-WIDTH:]

    @property
    def lines(self) -> list[str]:
        last = _overwritten(self._open)
        return [*self._lines, *([last] if last else [])][-LINES:]


def _overwritten(line: str) -> str:
    line = ANSI.sub("", line)
    return line.rstrip("\r").rpartition("\r")[2][:WIDTH]


def progress(lines: Sequence[str], metrics: Iterable[Curve]) -> dict[str, Any] | None:
    """How far a job is: ``share`` from 0 to 1 and its ``text``; None where it does not say.

    A metric named ``progress`` (a share, or percent) goes before a bar of tqdm in the log.
    """
    for curve in metrics:
        if curve.metric == "progress" and len(curve.value):
            value = float(curve.value[-1])
            share = value / 100 if value > 1 else value
            return {"share": min(max(share, 0.0), 1.0), "text": f"{100 * share:.0f} %"}
    for line in reversed(lines[-NEAR:]):
        if found := BAR.findall(line):
            percent, done, whole = found[-1]
            return {"share": min(int(percent) / 100, 1.0), "text": f"{done} of {whole}"}
    return None


def card(
    name: str, about: Mapping[str, Any], reading: Reading, lines: Sequence[str]
) -> dict[str, Any]:
    """The card's state but for its log and curves.

    Args: about: ``title``, ``kind``, ``url``, which do not change.
    """
    over = reading.status in TERMINAL
    end = reading.ended or reading.now
    return {
        "name": name,
        **about,
        "status": reading.status,
        "over": over,
        "can_cancel": not over and reading.status != "CancelRequested",
        "elapsed": max(end - reading.started, 0) if reading.started else None,
        "progress": progress(lines, reading.metrics),
        "error": reading.error,
        "children": [dict(child) for child in reading.children],
        "edges": [list(edge) for edge in reading.edges],
    }


def edges(steps: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Which step of a pipeline waits for which: by the bindings of its inputs."""
    found = {
        (source, name)
        for name, step in steps.items()
        for given in (step.get("inputs") or {}).values()
        for source in STEP.findall(str(given))
        if source in steps
    }
    return sorted(found)
