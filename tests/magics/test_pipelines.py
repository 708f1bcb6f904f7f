"""Pipelines at the prompt: from a cell, their steps in what is shown, their failure's reason."""

from __future__ import annotations

import pytest

from aml_magics.errors import JobFailed

CELL = """
type: pipeline
display_name: two steps
settings: {default_compute: azureml:cpu}
inputs: {text: hello}
jobs:
  first:
    command: echo ${{inputs.text}} > ${{outputs.made}}/text
    environment: {image: none.invalid/none}
    inputs: {text: "${{parent.inputs.text}}"}
    outputs: {made: {type: uri_folder}}
  second:
    command: cat ${{inputs.before}}/text
    environment: {image: none.invalid/none}
    inputs: {before: "${{parent.jobs.first.outputs.made}}"}
"""
FAILS = """
type: pipeline
settings: {default_compute: azureml:cpu}
jobs:
  broken: {command: echo no such thing; exit 3, environment: {image: none.invalid/none}}
"""


@pytest.fixture
def pipeline(aml):
    return aml("job --as made", CELL)


def test_a_yaml_cell_is_a_pipeline_whose_steps_are_told(aml, capsys):
    pipeline = aml("job", CELL)
    told = capsys.readouterr().out
    assert pipeline.status == "Completed"
    assert "Step first is job" in told
    assert "steps" in repr(pipeline)
    assert "first Completed, second Completed" in repr(pipeline)
    assert list(pipeline.children.display_name) == ["first", "second"]


def test_steps_are_listed_and_shown(aml, pipeline):
    listed = aml(f"job list --parent-job-name {pipeline.name}")
    assert list(listed.status) == ["Completed", "Completed"]
    assert list(listed.type) == ["Command", "Command"]
    step = aml(f"job show -n {listed.name[1]}")
    assert (step.status, step.properties["displayName"]) == ("Completed", "second")
    assert step.logs() == "hello\n"


def test_a_step_is_streamed(aml, pipeline, capsys):
    capsys.readouterr()
    aml(f"job stream -n {pipeline.children.name[1]}")
    assert capsys.readouterr().out == "hello\n"


def test_a_failed_pipeline_raises_with_the_reason_of_its_step(aml):
    with pytest.raises(JobFailed, match="some failed steps: broken") as caught:
        aml("job", FAILS)
    assert "no such thing" in "\n".join(caught.value.detail)
