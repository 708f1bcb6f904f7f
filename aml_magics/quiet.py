"""Silence around the SDK: its progress bars and notices make a notebook look broken.

A form's click is done in a thread while cells run: the main thread is silent only for what it does
itself, the other threads, of which the SDK starts some, whenever anyone is to be silent.
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
    stream = sys.stdout.stream if isinstance(sys.stdout, _Others) else sys.stdout
    print(text, end="", flush=True, file=stream)


class _Others:
    """A stream without what threads that are to be quiet write to it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if _is_quiet() else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_LOCK = threading.Lock()
_inside: list[int] = []  # threads, as often as they have entered
_shared = ExitStack()  # restores what is the process's own when the last one has left


def _is_quiet() -> bool:
    here = threading.get_ident()
    return here in _inside or (bool(_inside) and here != threading.main_thread().ident)


def _enter() -> None:
    with _LOCK:
        if not _inside:
            for what in (_without_prints, _without_warnings, _without_logs, _without_bars):
                _shared.enter_context(what())
        _inside.append(threading.get_ident())


def _leave() -> None:
    with _LOCK:
        _inside.remove(threading.get_ident())
        if not _inside:
            _shared.close()


@contextmanager
def _without_prints() -> Iterator[None]:
    streams = {name: _Others(getattr(sys, name)) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        setattr(sys, name, stream)
    yield
    for name, stream in streams.items():
        if getattr(sys, name) is stream:  # else a cell's own redirection has come or gone
            setattr(sys, name, stream.stream)


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
