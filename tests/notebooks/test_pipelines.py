"""The notebook of pipelines and sweeps, run headlessly on a fresh home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.slow
def test_the_notebook_of_pipelines_runs(home, tmp_path):
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    ran = home.run("papermill", folder / "02_pipelines.ipynb", folder)
    assert ran.exit_code == 0, ran.stderr
    assert not [output for output in ran.outputs if output.get("name") == "stderr"]
    assert "Step split reuses the outputs of job" in ran.text_of("run-again")
    assert "test accuracy 0.9" in ran.text_of("step-log")
    assert "best trial" in ran.text_of("best")
    assert ran.text_of("trials").count("Completed") == 6
