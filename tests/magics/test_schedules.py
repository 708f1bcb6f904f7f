"""Schedules at the prompt, on the local workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_magics.errors import AmlError, NotFound

PIPELINE = """\
type: pipeline
compute: azureml:cpu
experiment_name: nightly
jobs:
  say:
    command: echo hello
    environment: {image: none.invalid/none}
"""
SCHEDULE = """\
name: nightly
description: every night
trigger: {type: cron, expression: "0 4 * * *", time_zone: Pacific Standard Time}
create_job: ./pipeline.yml
"""


@pytest.fixture
def nightly(alone):
    Path("pipeline.yml").write_text(PIPELINE)
    Path("schedule.yml").write_text(SCHEDULE)
    yield alone("schedule create -f schedule.yml")
    alone("schedule disable nightly")


def test_a_schedule_is_made_listed_and_shown(alone, nightly):
    assert (nightly.name, nightly.is_enabled) == ("nightly", True)
    (row,) = alone("schedule list").to_dict("records")
    assert row == {
        "name": "nightly",
        "is_enabled": True,
        "trigger": "cron 0 4 * * * (Pacific Standard Time)",
        "description": "every night",
    }
    assert alone("schedule show nightly").trigger["expression"] == "0 4 * * *"


def test_a_schedule_is_disabled_enabled_and_deleted(alone, nightly):
    with pytest.raises(AmlError, match="Cannot delete an active trigger nightly"):
        alone("schedule delete -n nightly")
    assert not alone("schedule disable -n nightly").is_enabled
    assert alone("schedule list").empty
    assert list(alone("schedule list --disabled-only")["name"]) == ["nightly"]
    assert alone("schedule enable nightly").is_enabled
    assert list(alone("schedule list --include-disabled")["name"]) == ["nightly"]
    alone("schedule disable nightly")
    alone("schedule delete nightly")
    with pytest.raises(NotFound):
        alone("schedule show nightly")
    alone("schedule create -f schedule.yml")


def test_a_schedule_is_changed(alone, nightly):
    assert alone("schedule update nightly --set description=new").description == "new"


def test_a_schedule_is_triggered(alone, nightly):
    made = alone("schedule trigger nightly")
    assert made.schedule_action_type == "CreateJob"
    job = alone(f"job show {made.job_name}").wait()
    assert job.status == "Completed"
    with pytest.raises(NotFound):
        alone("schedule trigger weekly")
