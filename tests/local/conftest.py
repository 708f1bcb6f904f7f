"""One daemon for the session on a home with a space in its path, and homes of one's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aml_magics.local import daemon

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """A running daemon that all tests of the session share."""
    home = tmp_path_factory.mktemp("shared home")
    yield daemon.ensure(home)
    daemon.stop(home)


@pytest.fixture
def home(tmp_path):
    """A home whose daemon may be started, killed and stopped; none is left."""
    yield tmp_path / "own home"
    with contextlib.suppress(ProcessLookupError):
        daemon.stop(tmp_path / "own home")


@pytest.fixture(scope="session")
def aml_local(address):
    """Run ``aml-local`` on the shared daemon, or on ``home=``, as a person does."""

    def call(*arguments, home=address.home, **environment):
        return subprocess.run(
            [sys.executable, "-m", "aml_magics.local.cli", *map(str, arguments)],
            env={**os.environ, "AML_LOCAL_HOME": str(home), **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call
