"""A real IPython shell, logged in to a workspace of its own on one daemon for the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from aml_magics import session
from aml_magics.errors import AmlError
from aml_magics.local import daemon


@pytest.fixture(scope="session")
def daemon_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the daemon that ``%aml login --local`` starts and all tests share."""
    home = tmp_path_factory.mktemp("magics home")
    before = os.environ.get("AML_LOCAL_HOME")
    os.environ["AML_LOCAL_HOME"] = str(home)
    yield home
    daemon.stop(home)
    os.environ.pop("AML_LOCAL_HOME")
    if before is not None:
        os.environ["AML_LOCAL_HOME"] = before


@pytest.fixture(scope="session")
def one_shell() -> InteractiveShell:
    return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))


@pytest.fixture
def shell(one_shell: InteractiveShell, tmp_path: Path, monkeypatch) -> Iterator[InteractiveShell]:
    """A shell with the extension loaded, no variables, in an empty folder; nobody is logged in."""
    monkeypatch.chdir(tmp_path)
    one_shell.reset()
    one_shell.extension_manager.load_extension("aml_magics")
    yield one_shell
    session.use(None)


Aml = Callable[..., Any]


@pytest.fixture
def offline(shell: InteractiveShell) -> Aml:
    """Run a line of ``%aml``, or ``%%aml`` above a cell, and return its result."""

    def run(line: str, cell: str | None = None) -> Any:
        if cell is None:
            return shell.run_line_magic("aml", line)
        return shell.run_cell_magic("aml", line, cell)

    return run


@pytest.fixture(scope="module")
def workspace() -> str:
    """A workspace for the tests of one file: the first job of a new one takes a second more."""
    return f"ws-{uuid4().hex[:8]}"


@pytest.fixture
def aml(offline: Aml, daemon_home: Path, workspace: str) -> Aml:
    """The same, logged in to the file's workspace."""
    offline(f"login --local -w {workspace}")
    return offline


@pytest.fixture
def alone(offline: Aml, daemon_home: Path) -> Aml:
    """The same, logged in to a workspace that no other test knows."""
    offline(f"login --local -w ws-{uuid4().hex[:8]}")
    return offline


@pytest.fixture
def fails(aml: Aml) -> Callable[..., AmlError]:
    """Run what must fail and return its error, which is short and says what to do."""

    def run(line: str, cell: str | None = None) -> AmlError:
        with pytest.raises(AmlError) as caught:
            aml(line, cell)
        shown = caught.value._render_traceback_()
        assert len(shown) <= 5 and shown[-1].startswith("hint: "), shown
        return caught.value

    return run


@pytest.fixture
def complete(shell: InteractiveShell) -> Callable[[str], list[str]]:
    """What is offered for a text that ends where the cursor is."""

    def offered(text: str) -> list[str]:
        with provisionalcompleter():
            found = shell.Completer.completions(text, len(text))
            return [item.text for item in found if item.type == "aml"]

    return offered
