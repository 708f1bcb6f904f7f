"""The notebook of pipelines and sweeps, run headlessly on a fresh home."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_the_notebook_of_pipelines_runs(home, tmp_path):
    ran = home.execute("02_pipelines", tmp_path / "notebooks")
    assert "Step split reuses the outputs of job" in ran.text_of("run-again")
    assert "test accuracy 0.9" in ran.text_of("step-log")
    assert "best trial" in ran.text_of("best")
    assert ran.text_of("trials").count("Completed") == 6
