"""Silence around the SDK is that of one thread, and leaves nothing behind."""

import contextlib
import io
import logging
import os
import sys
import threading
import warnings

import pytest

from aml_magics.quiet import PROGRESS_BAR, quiet, say


class Held:
    """A thread that is quiet until told to go on; it prints meanwhile."""

    def __init__(self):
        self._in, self._out = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._in.wait(10)

    def _run(self):
        with quiet():
            print("of the thread")
            self._in.set()
            self._out.wait(10)

    def leave(self):
        self._out.set()
        self._thread.join()


@pytest.fixture(autouse=True)
def as_before():
    """What the process has is the same afterwards."""
    level = logging.getLogger("azure").level
    before = [sys.stdout, sys.stderr, os.environ.get(PROGRESS_BAR), list(warnings.filters)]
    yield
    after = [sys.stdout, sys.stderr, os.environ.get(PROGRESS_BAR), list(warnings.filters)]
    assert after == before and logging.getLogger("azure").level == level


def test_a_cell_prints_while_another_thread_is_quiet(capsys):
    held = Held()
    print("of the cell")
    held.leave()
    assert capsys.readouterr().out == "of the cell\n"


def test_threads_come_and_go_in_any_order(capsys):
    first, second = Held(), Held()
    with quiet():
        print("of the cell")
        first.leave()
        warnings.warn("not shown", stacklevel=1)
    second.leave()
    print("after")
    assert capsys.readouterr().out == "after\n"


def test_helpers_of_a_quiet_thread_are_quiet_and_progress_is_shown(capsys):
    with quiet():
        helper = threading.Thread(target=print, args=("of a helper",))
        helper.start()
        helper.join()
        say("ready")
    assert capsys.readouterr().out == "ready"


def test_threads_that_were_there_before_go_on_printing(capsys):
    go, done = threading.Event(), threading.Event()

    def work():
        go.wait(10)
        print("of the user's thread")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    held = Held()
    go.set()
    assert done.wait(10)
    held.leave()
    thread.join()
    assert capsys.readouterr().out == "of the user's thread\n"


def test_what_a_cell_begins_meanwhile_and_ends_later_stays_ended(capsys):
    held = Held()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        held.leave()
    with quiet():
        say("said ")
    print("shown")
    assert capsys.readouterr().out == "said shown\n"


def test_a_redirection_that_ends_meanwhile_stays_ended(capsys):
    with contextlib.redirect_stdout(io.StringIO()) as captured:
        held = Held()
        print("captured")
    print("shown")
    held.leave()
    assert captured.getvalue() == "captured\n" and capsys.readouterr().out == "shown\n"
