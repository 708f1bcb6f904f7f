"""The quickstart, run as a person would: headlessly on a fresh home, locally and as on Azure."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
AZURE_LOGIN = (
    "%aml login -g quickstart -w on-azure --subscription 11111111-2222-3333-4444-555555555555"
)
# workspace: its login line, and the command that leads Azure's host names to the local workspace
WORKSPACES = {
    "local": ("%aml login --local", ()),
    "on-azure": (AZURE_LOGIN, (sys.executable, "-m", "aml_magics.local.cli", "run", "--")),
}


@pytest.fixture(scope="module", params=WORKSPACES)
def workspace(request):
    return request.param


@pytest.fixture(scope="module")
def quickstart(workspace, home, tmp_path_factory):
    login, before = WORKSPACES[workspace]
    folder = tmp_path_factory.mktemp(workspace) / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    source = folder / "01_quickstart.ipynb"
    content = nbformat.read(source, as_version=4)
    (cell,) = [cell for cell in content.cells if cell.id == "login"]
    cell.source = login
    nbformat.write(content, source)
    return home.run("papermill", source, folder, before=before)


def test_it_runs_without_a_line_on_stderr(quickstart):
    assert quickstart.exit_code == 0, quickstart.stderr
    assert not [output for output in quickstart.outputs if output.get("name") == "stderr"]


def test_nobody_looks_on_so_nothing_is_live(quickstart):
    kinds = {kind for output in quickstart.outputs for kind in output.get("data", {})}
    assert not [kind for kind in kinds if "widget" in kind]
    assert "widgets" not in quickstart.notebook.metadata


def test_it_names_the_workspace_it_is_in(quickstart, workspace):
    assert workspace in quickstart.text_of("login")


def test_the_jobs_stream_their_logs(quickstart):
    for cell in ("cell-job", "yaml-job", "file-job"):
        assert "epoch 60  val_loss 0." in quickstart.text_of(cell)


def test_the_jobs_are_listed_as_completed(quickstart):
    assert quickstart.text_of("job-list").count("Completed") == 3


def test_the_comparison_marks_the_best_and_shows_the_curves(quickstart):
    shown = {kind for output in quickstart.outputs_of("compare") for kind in output.data}
    assert {"text/html", "image/png"} <= shown
    rows = [line.split() for line in quickstart.text_of("compare").splitlines()]
    runs = {row[-1]: row for row in rows if row and row[-1] in {"0.5", "0.1", "0.02"}}
    assert [C for C, row in runs.items() if "best" in row] == ["0.5"]
    assert len(runs) == 3


def test_the_model_is_registered_and_the_endpoint_answers(quickstart):
    assert "breast-cancer" in quickstart.text_of("register")
    answer = quickstart.text_of("invoke")
    assert answer.count("malignant") + answer.count("benign") == 3


def test_the_next_kernel_finds_the_daemon_with_model_and_without_endpoint(
    quickstart, workspace, home, notebook
):
    login, before = WORKSPACES[workspace]
    source = notebook(
        f"%load_ext aml_magics\n{login}",
        "from aml_magics.local import daemon; print(daemon.find().pid)",
        "%aml model list -O json",
        "%aml online-endpoint list -O json",
    )
    run = home.run("papermill", source, source.parent, before=before)
    assert run.exit_code == 0, run.stderr
    assert int(run.text_of("cell-1")) == home.pid()
    assert [model["name"] for model in json.loads(run.text_of("cell-2"))] == ["breast-cancer"]
    assert json.loads(run.text_of("cell-3")) == []
