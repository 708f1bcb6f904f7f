"""Batch endpoints at the prompt: made from YAML, asked, their jobs followed and listed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from aml_magics.errors import BadInput, NotFound

DRIVER = """\
from pathlib import Path

def init():
    print("ready")

def run(mini_batch):
    return [f"{Path(name).name} {len(Path(name).read_text())}" for name in mini_batch]
"""
DEPLOYMENT = """\
name: first
endpoint_name: lengths
type: model
code_configuration: {code: ., scoring_script: driver.py}
environment: {image: none.invalid/none}
model: {path: factor.txt, type: custom_model}
compute: azureml:cpu
settings: {mini_batch_size: 10, output_action: append_row}
"""


@pytest.fixture
def lengths(aml):
    """A batch endpoint that tells how long files are, and a folder of two files."""
    Path("src").mkdir()
    Path("src/driver.py").write_text(textwrap.dedent(DRIVER))
    Path("src/factor.txt").write_text("3")
    Path("src/deployment.yml").write_text(DEPLOYMENT)
    Path("files").mkdir()
    for name in ("a", "bb"):
        Path(f"files/{name}.txt").write_text(name)
    aml("batch-endpoint create -n lengths")
    aml("batch-deployment create -f src/deployment.yml --set-default")
    yield "lengths"
    aml("batch-endpoint delete -n lengths --yes")


def test_an_endpoint_is_asked_and_its_job_followed(aml, lengths):
    assert aml("batch-endpoint show lengths").defaults["deployment_name"] == "first"
    job = aml("batch-endpoint invoke lengths --input files --job-name counted")

    assert (job.name, job.status) == ("counted", "Completed")
    aml("job download counted -p got")
    (results,) = Path("got").rglob("predictions.csv")
    assert sorted(results.read_text().split()) == ["1", "2", "a.txt", "bb.txt"]
    listed = ("batch-endpoint list-jobs lengths", "batch-deployment list-jobs first -e lengths")
    for line in listed:
        assert aml(line)[["name", "status"]].to_dict("records") == [
            {"name": "counted", "status": "Completed"}
        ]


def test_an_invocation_need_not_be_waited_for(aml, lengths):
    job = aml("batch-endpoint invoke lengths --input files/a.txt --no-wait")

    assert job.wait().status == "Completed"


def test_a_deployment_is_listed_changed_and_deleted(aml, lengths):
    assert list(aml("batch-deployment list -e lengths")["name"]) == ["first"]
    aml("batch-deployment update first -e lengths --set description=changed")
    assert aml("batch-deployment show first -e lengths").description == "changed"
    aml("batch-deployment delete first -e lengths --yes")
    assert aml("batch-deployment list -e lengths").empty


# line → error, words it holds
WRONG = {
    "batch-endpoint invoke nowhere --input .": (NotFound, "%aml batch-endpoint list"),
    "batch-endpoint invoke nowhere -f missing.yml": (BadInput, "missing.yml"),
    "batch-endpoint show nowhere": (NotFound, "%aml batch-endpoint list"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_done_says_why(line, fails):
    kind, words = WRONG[line]
    error = fails(line)

    assert type(error) is kind
    assert words in "\n".join(error._render_traceback_())
