"""The notebook that registers and deploys, run headlessly on a fresh home."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_the_notebook_that_deploys_runs(home, tmp_path):
    ran = home.execute("03_deploy", tmp_path / "notebooks")
    assert "alias     champion" in ran.text_of("register")
    assert "it answers" in ran.text_of("deploy")
    assert "blue=90, green=10" in ran.text_of("green")
    assert "200 requests" in ran.text_of("test") and "0 failed" in ran.text_of("test")
    assert "green=100" in ran.text_of("move")
    assert "90 %  wine:1" in ran.text_of("show")
    assert ran.text_of("batch").count("wine.csv") == 5
    assert "deleted" in ran.text_of("delete")
