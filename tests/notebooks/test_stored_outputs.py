"""What the repository's notebooks hold: complete outputs, and nothing private in them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/-])/(bin|home|mnt|opt|private|root|srv|tmp|usr|var|work|Users|Volumes)/|[A-Z]:\\\\"
)
SECRET = re.compile(
    r"eyJ[\w-]{10,}"  # a JWT
    r"|(?i:key|token|password|secret|sig)['\"]?\s*[:=]\s*['\"]?[\w+/%-]{16,}"
    r"|(?<![\w+-])(?=[\w+-]*\d)(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])[\w+-]{20,}"  # a run of base64
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(output):
    """All of an output but its images."""
    data = output.get("data", {})
    shown = [data[kind] for kind in data if not kind.startswith("image/png")]
    return "\n".join(map(str, [output.get("text", ""), *shown]))


def test_every_cell_has_run_in_order(notebook):
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "make notebooks"


def test_nothing_failed_or_went_to_stderr(outputs):
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("private", [ABSOLUTE_PATH, SECRET], ids=["paths", "secrets"])
def test_nothing_private_is_stored(outputs, private):
    found = [match.group() for o in outputs for match in private.finditer(text_of(o))]
    assert not found


def test_no_trace_of_the_run_makes_diffs_long(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not [cell.metadata for cell in notebook.cells if cell.metadata]
