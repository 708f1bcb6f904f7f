"""The notebook that registers and deploys, run headlessly on a fresh home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.slow
def test_the_notebook_that_deploys_runs(home, tmp_path):
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    ran = home.run("papermill", folder / "03_deploy.ipynb", folder)
    assert ran.exit_code == 0, ran.stderr
    assert not [output for output in ran.outputs if output.get("name") == "stderr"]
    assert "alias     champion" in ran.text_of("register")
    assert "it answers" in ran.text_of("deploy")
    assert "blue=90, green=10" in ran.text_of("green")
    assert "200 requests" in ran.text_of("test") and "0 failed" in ran.text_of("test")
    assert "green=100" in ran.text_of("move")
    assert "90 %  wine:1" in ran.text_of("show")
    assert ran.text_of("batch").count("wine.csv") == 5
    assert "deleted" in ran.text_of("delete")
