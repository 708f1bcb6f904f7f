"""Silence around the SDK: its progress bars and notices make a notebook look broken.

A form's click is done in a thread while cells run: the threads that were there before are silent
only for what they do themselves, those that begin meanwhile, of which the SDK starts some, always.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

NOISY = ("azure", "azure.ai.ml", "azureml", "mlflow", "msrest", "urllib3")
PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"  # a widget, in a notebook


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed by this thread and its helpers; no logs and warnings meanwhile."""
    _enter()
    try:
        yield
    finally:
        _leave()


def say(text: str) -> None:
    """Print to stdout, also from within."""
    print(text, end="", flush=True, file=_bare(sys.stdout))


class _Others:
    """A stream without what threads that are to be quiet write to it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if _is_quiet() else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _bare(stream: Any) -> Any:
    """A stream as it was; a cell's own redirection may have put back one that was ours."""
    while isinstance(stream, _Others):
        stream = stream.stream
    return stream


_LOCK = threading.Lock()
_before: set[threading.Thread] = set()  # threads that were there when the first one entered
_inside: list[int] = []  # threads, as often as they have entered
_shared = ExitStack()  # restores what is the process's own when the last one has left


def _is_quiet() -> bool:
    if threading.get_ident() in _inside:
        return True
    return bool(_inside) and threading.current_thread() not in _before


def _enter() -> None:
    with _LOCK:
        if not _inside:
            _before.update(threading.enumerate())
            for what in (_without_prints, _without_warnings, _without_logs, _without_bars):
                _shared.enter_context(what())
        _inside.append(threading.get_ident())


def _leave() -> None:
    with _LOCK:
        _inside.remove(threading.get_ident())
        if not _inside:
            _shared.close()
            _before.clear()


@contextmanager
def _without_prints() -> Iterator[None]:
    streams = {name: _Others(_bare(getattr(sys, name))) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        setattr(sys, name, stream)
    yield
    for name, stream in streams.items():
        if getattr(sys, name) is stream:  # else a cell's own redirection has come or gone
            setattr(sys, name, stream.stream)


@contextmanager
def _without_warnings() -> Iterator[None]:
    # Not `catch_warnings`: a cell's own, begun before and ended after, would put ours back.
    none = ("ignore", None, Warning, None, 0)
    entered: Any = warnings.filters
    entered.insert(0, none)
    yield
    current: Any = warnings.filters
    for filters in (entered, current):
        filters[:] = [one for one in filters if one is not none]


@contextmanager
def _without_logs() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@contextmanager
def _without_bars() -> Iterator[None]:
    before = os.environ.get(PROGRESS_BAR)
    os.environ[PROGRESS_BAR] = "false"
    yield
    os.environ.pop(PROGRESS_BAR, None)
    if before is not None:
        os.environ[PROGRESS_BAR] = before
