"""Notebooks written cell by cell, run by the programs people run them with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from aml_magics.local import daemon

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TOOLS = {
    "papermill": "papermill {source} {target} --cwd {cwd} --kernel python3 --no-progress-bar",
    "nbconvert": "nbconvert {source} --output {target} --to notebook --execute"
    " --ExecutePreprocessor.kernel_name=python3",
}
# Jupyter chooses the ports of a kernel before that binds them: another may have, meanwhile.
LOST_ITS_PORT, TRIES = "Kernel died before replying to kernel_info", 3


class Run(NamedTuple):
    """What is left of a run; ``notebook`` is None where the tool wrote none, as nbconvert does."""

    exit_code: int
    stderr: str
    notebook: NotebookNode | None

    @property
    def cells(self) -> list[NotebookNode]:
        assert self.notebook, self.stderr
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def outputs(self) -> list[NotebookNode]:
        return [output for cell in self.cells for output in cell.outputs]

    def outputs_of(self, cell_id: str) -> list[NotebookNode]:
        return next(cell.outputs for cell in self.cells if cell.id == cell_id)

    def text_of(self, cell_id: str) -> str:
        """The plain text a cell shows, prints and results."""
        return "".join(map(plain_text, self.outputs_of(cell_id)))


def plain_text(output: NotebookNode) -> str:
    """What a print wrote, as it is, or a result with its line end."""
    return output.get("text") or output.get("data", {}).get("text/plain", "") + "\n"


class Home(NamedTuple):
    """A home of the local workspace and the programs that run notebooks in it."""

    folder: Path

    def run(
        self,
        tool: str,
        source: Path,
        cwd: Path,
        *,
        before: Sequence[str] = (),
        python: str | Path = sys.executable,
    ) -> Run:
        """Run a notebook file by one of TOOLS; ``before`` is a command that runs the command."""
        target = source.with_name(f"{source.stem}.{tool}.ipynb")
        words = [word.format(source=source, target=target, cwd=cwd) for word in TOOLS[tool].split()]
        for _ in range(TRIES):
            done = subprocess.run(
                [*before, python, "-m", *words],
                env={**os.environ, "AML_LOCAL_HOME": str(self.folder)},
                cwd=cwd,
                capture_output=True,
                text=True,
                check=False,
            )
            if LOST_ITS_PORT not in done.stderr:
                break
        written = nbformat.read(target, as_version=4) if target.exists() else None
        return Run(done.returncode, done.stderr, written)

    def execute(self, name: str, folder: Path) -> Run:
        """Run one of the project's notebooks in a copy of their folder, to its end."""
        shutil.copytree(NOTEBOOKS, folder)
        ran = self.run("papermill", folder / f"{name}.ipynb", folder)
        assert ran.exit_code == 0, ran.stderr
        assert not [output for output in ran.outputs if output.get("name") == "stderr"]
        return ran

    def pid(self) -> int:
        """Process id of its daemon."""
        return daemon.ensure(self.folder).pid


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A fresh home for the tests of a module; its daemon is stopped at the end."""
    folder = tmp_path_factory.mktemp("notebook home")
    yield Home(folder)
    daemon.stop(folder)


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Write a notebook of these cells, with ids cell-0, cell-1, ..., into a folder of its own."""

    def write(*sources: str) -> Path:
        path = tmp_path / "notebook.ipynb"
        cells = [new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write
