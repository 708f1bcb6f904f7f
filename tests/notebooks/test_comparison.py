"""What a comparison leaves in a notebook that papermill or nbconvert has run: golden outputs."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

GOLDEN = Path(__file__).with_name("golden")
FORMS = {"text/plain": "txt", "text/markdown": "md", "text/html": "html"}
LOGIN = "%load_ext aml_magics\n%aml login --local -w {workspace}"
RUNS = """
import contextlib, io
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
client = MlflowClient()
experiment = client.create_experiment("golden")
start = 1_700_000_000_000
for number, (rate, depth) in enumerate([(0.1, 2), (0.2, 3), (0.4, 2)]):
    run = client.create_run(experiment, run_name=f"trial-{number}", start_time=start).info.run_id
    losses = [Metric("val_loss", 1 / (1 + rate * step), start + step, step) for step in range(20)]
    params = [Param("rate", str(rate)), Param("depth", str(depth)), Param("seed", "7")]
    client.log_batch(run, metrics=[*losses, Metric("auc", 0.8 + rate / 4, start, 0)], params=params)
    with contextlib.redirect_stdout(io.StringIO()):
        client.set_terminated(run, end_time=start + 60_000 * (number + 1))
"""
COMPARE = "%aml compare --experiment golden --by val_loss"


@pytest.fixture(scope="module", params=["papermill", "nbconvert"])
def outputs(home, tmp_path_factory, request):
    """The outputs of the comparing cell, run by a tool that nobody looks at, and the file."""
    path = tmp_path_factory.mktemp(request.param) / "notebook.ipynb"
    sources = (LOGIN.format(workspace=f"golden-{request.param}"), RUNS, COMPARE)
    cells = [new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells), path)
    ran = home.run(request.param, path, path.parent)
    assert ran.exit_code == 0, ran.stderr
    written = path.with_name(f"{path.stem}.{request.param}.ipynb")
    return ran.cells[-1].outputs, written


def normalised(text):
    """A form without what is another one each time: ids of runs."""
    return re.sub(r"\b[0-9a-f]{32}\b", "RUN", text).rstrip() + "\n"


def test_every_form_of_a_comparison_is_the_golden_one(outputs):
    found, _ = outputs
    shown = [output for output in found if "image/png" not in output.get("data", {})]
    for form, ending in FORMS.items():
        text = normalised("\n".join(o["data"][form] for o in shown if form in o.get("data", {})))
        golden = GOLDEN / f"comparison.{ending}"
        if os.environ.get("AML_GOLDEN") == "write":
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(text)
        assert text == golden.read_text(), f"AML_GOLDEN=write makes it anew: {form}"


def test_nothing_in_it_needs_a_script_a_network_or_a_widget(outputs):
    found, written = outputs
    kinds = {kind for output in found for kind in output.get("data", {})}
    assert {"text/plain", "text/html", "text/markdown", "image/png"} <= kinds
    assert not [kind for kind in kinds if "widget" in kind or "javascript" in kind]
    html = "".join(output.get("data", {}).get("text/html", "") for output in found)
    assert "★" in html and "↓ less is better" in html
    assert not re.search(r"<script|<link|src=|https?:", html)
    assert "widgets" not in nbformat.read(written, as_version=4).metadata


def test_pictures_are_pngs_with_a_text_for_them(outputs):
    found, _ = outputs
    pictures = [output for output in found if "image/png" in output.get("data", {})]
    assert pictures
    for output in pictures:
        assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")
        assert "trial-2" in output["data"]["text/plain"]


@pytest.mark.parametrize(("form", "ending"), [("html", "html"), ("markdown", "md")])
def test_it_converts_to_a_page(outputs, form, ending):
    _, written = outputs
    command = [sys.executable, "-m", "nbconvert", str(written), "--to", form]
    subprocess.run(command, check=True, capture_output=True)
    page = written.with_suffix(f".{ending}").read_text()
    assert "trial-2" in page and "val_loss" in page and "★" in page
    assert re.search(r"<img[^>]*(alt=|png)|!\[", page)
