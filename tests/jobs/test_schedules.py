"""Schedules that fire and their jobs, through the unmodified SDK; when: local/test_triggers.py."""

import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.ai.ml import Input, command, dsl
from azure.ai.ml.entities import (
    CronTrigger,
    Environment,
    JobSchedule,
    RecurrenceTrigger,
)
from azure.ai.ml.entities._load_functions import load_schedule
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.triggers import cron, every

ENVIRONMENT = Environment(image="none.invalid/none")


BAD = {
    "four fields": (cron("0 * * *"), "five fields"),
    "minute 61": (cron("61 * * * *"), "Bad minute"),
    "no such zone": (cron("0 * * * *", "Mars Standard Time"), "'Mars Standard Time' is not known"),
    "no such frequency": (every(1, "year"), "minute, hour, day, week, month"),
    "interval 0": (every(0, "day"), "whole number from 1"),
    "hour 24": (every(1, "day", hours=[24]), "from 0 to 23"),
    "no such day": (every(1, "week", weekDays=["Caturday"]), "caturday"),
    "no such time": (every(1, "day", start="soon"), "'soon' is not an ISO 8601 time"),
    "no such trigger": ({"triggerType": "Event"}, "'Event'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_trigger_that_says_no_time_is_refused(arm, name):
    trigger, words = BAD[name]
    action = {"actionType": "CreateJob", "jobDefinition": {"jobType": "Command", "command": "true"}}
    answer = arm("PUT", "./schedules/s", {"properties": {"trigger": trigger, "action": action}})
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (400, True)
    assert arm("GET", "./schedules/s").status_code == 404


# Schedules that fire


@dsl.pipeline(compute="cpu", experiment_name="nightly")
def nightly(text: str = "plain"):
    command(
        name="say",
        command="echo ${{inputs.text}} > ${{outputs.said}}/text",
        environment=ENVIRONMENT,
        inputs={"text": Input(type="string")},
        outputs={"said": {"type": "uri_folder"}},
    ).component(text=text)


NEVER = CronTrigger(expression="0 0 * * *", start_time="2099-01-01T00:00:00")


@pytest.fixture
def schedule(client):
    """Put a schedule; it is disabled after the test, so that none fires on."""
    names = []

    def make(name="nightly", trigger=NEVER, job=None, **options):
        names.append(name)
        asked = JobSchedule(name=name, trigger=trigger, create_job=job or nightly(), **options)
        return client.schedules.begin_create_or_update(asked).result()

    yield make
    for name in names:
        with contextlib.suppress(ResourceNotFoundError):
            client.schedules.begin_disable(name).result()


@pytest.fixture
def made(client):
    """Jobs of a schedule, once there are so many."""

    def call(name, count=1, seconds=60):
        deadline = time.monotonic() + seconds
        while len(jobs := list(client.jobs.list(scheduled_job_name=name))) < count:
            assert time.monotonic() < deadline, f"{name} has made {len(jobs)} jobs"
            time.sleep(0.1)
        return jobs

    return call


def soon(seconds):
    start = datetime.now(UTC) + timedelta(seconds=seconds)
    return RecurrenceTrigger(
        frequency="minute", interval=1, start_time=f"{start:%Y-%m-%d %H:%M:%S}"
    )


def test_a_schedule_fires_and_its_job_runs(client, schedule, made, ended):
    schedule()  # its components are there when it is put again
    trigger = soon(3)
    schedule(trigger=trigger)
    (job,) = made("nightly", seconds=100)
    assert ended(job).status == "Completed"
    fired = datetime.strptime(job.display_name, "nightly-%Y%m%dT%H%M%SZ")
    late = fired - datetime.fromisoformat(trigger.start_time)
    assert late in (timedelta(0), timedelta(minutes=1))  # of a machine that was too busy at first
    assert job.experiment_name == "nightly"
    assert job.properties["azureml.scheduleName"] == "nightly"


def test_a_recurrence_without_a_start_fires_at_once(client, schedule, made):
    hourly = RecurrenceTrigger(frequency="hour", interval=1)
    found = schedule(trigger=hourly)
    start = datetime.fromisoformat(found.trigger.start_time).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - start) < timedelta(seconds=30)
    assert len(made("nightly")) == 1
    assert schedule(trigger=hourly).trigger.start_time == found.trigger.start_time
    client.schedules.begin_disable("nightly").result()
    client.schedules.begin_enable("nightly").result()
    assert len(made("nightly")) == 1


def test_a_schedule_that_is_disabled_does_not_fire(client, schedule, made):
    schedule("off", soon(3))
    client.schedules.begin_disable("off").result()
    schedule("gone", soon(3))
    client.schedules.begin_disable("gone").result()
    client.schedules.begin_delete("gone").result()
    schedule("on", soon(4))
    made("on")
    assert list(client.jobs.list(scheduled_job_name="off")) == []
    assert list(client.jobs.list(scheduled_job_name="gone")) == []


def test_a_schedule_is_triggered_by_hand(client, schedule, ended, details):
    schedule()
    made = client.schedules.trigger("nightly", schedule_time="2026-03-01T06:00:00+02:00")
    assert made.schedule_action_type == "CreateJob"
    job = client.jobs.get(made.job_name)
    assert job.display_name == "nightly-20260301T040000Z"
    assert details(job)["scheduleId"] == "nightly"
    assert ended(job).status == "Completed"
    with pytest.raises(HttpResponseError, match="Schedule weekly not found"):
        client.schedules.trigger("weekly")


def test_jobs_are_listed_by_schedule(client, schedule):
    schedule("first")
    schedule("second")
    plain = client.jobs.create_or_update(nightly())
    first, second = (client.schedules.trigger(name).job_name for name in ("first", "second"))

    def names(**options):
        return {job.name for job in client.jobs.list(**options)}

    assert names(scheduled_job_name="first") == {first}
    assert names(schedule_defined=True) == {first, second}
    assert names(schedule_defined=False) == {plain.name}
    assert names() == {first, second, plain.name}


def test_a_job_knows_its_name_and_when_it_was_triggered(client, schedule, ended):
    schedule("named", job=nightly(text="${{name}} ${{creation_context.trigger_time}}"))
    made = client.schedules.trigger("named", schedule_time="2026-03-01T06:00:00Z")
    job = client.jobs.get(made.job_name)
    assert job.inputs["text"]._data == f"{made.job_name} 2026-03-01T06:00:00Z"
    assert ended(job).status == "Completed"


def test_a_schedule_of_a_job_that_is_there(client, schedule, ended):
    source = client.jobs.create_or_update(nightly(text="again"))
    assert schedule("by-name", job=source.name).create_job.id == source.name
    schedule("by-job", job=client.jobs.get(source.name))
    for name in ("by-name", "by-job"):
        job = client.jobs.get(client.schedules.trigger(name).job_name)
        assert ended(job).status == "Completed"
        assert job.inputs["text"]._data == "again"


def test_a_schedule_changes_what_a_job_is_given(client, arm, ended):
    source = client.jobs.create_or_update(nightly(text="again"))
    new = {"text": {"jobInputType": "literal", "value": "changed"}}
    asked = {"jobType": "Pipeline", "sourceJobId": source.id, "inputs": new, "jobs": {}}
    properties = {
        "trigger": cron("0 0 * * *", startTime="2099-01-01T00:00:00"),
        "action": {"actionType": "CreateJob", "jobDefinition": asked},
    }
    assert arm("PUT", "./schedules/changed", {"properties": properties}).status_code == 201
    job = client.jobs.get(client.schedules.trigger("changed").job_name)
    assert (ended(job).status, job.inputs["text"]._data) == ("Completed", "changed")


def test_a_schedule_of_a_command_job(client, arm, ended):
    asked = {"jobType": "Command", "command": "echo hello"}
    properties = {
        "trigger": cron("0 0 * * *", startTime="2099-01-01T00:00:00"),
        "action": {"actionType": "CreateJob", "jobDefinition": asked},
    }
    assert arm("PUT", "./schedules/hello", {"properties": properties}).status_code == 201
    assert ended(client.jobs.get(client.schedules.trigger("hello").job_name)).status == "Completed"


def test_what_could_not_run_is_refused_when_it_is_put(client, schedule):
    job = command(command="true", environment=ENVIRONMENT, compute="cpu")
    source = client.jobs.create_or_update(job)
    with pytest.raises(HttpResponseError, match="is a Command job; a schedule takes pipeline jobs"):
        schedule("by-command", job=source.name)
    with pytest.raises(ResourceNotFoundError, match="Job nowhere not found"):
        schedule("by-nothing", job="nowhere")
    assert list(client.schedules.list(list_view_type="ALL")) == []


@pytest.mark.parametrize("action", ["CreateMonitor"])
def test_other_actions_are_stored_and_say_so(arm, action):
    trigger = cron("* * * * *")
    body = {"properties": {"trigger": trigger, "action": {"actionType": action}}}
    assert arm("PUT", "./schedules/watch", body).status_code == 201
    answer = arm("POST", "./schedules/watch/trigger", {"scheduleTime": "2026-01-01T00:00:00Z"})
    assert answer.status_code == 501
    assert f"action {action}: watch is stored only" in answer.json()["error"]["message"]
    assert arm("GET", "./schedules/watch").json()["properties"]["isEnabled"]


AROUND = [folder / "shared/examples/cli/schedules" for folder in Path(__file__).resolve().parents]
EXAMPLES = next((folder for folder in AROUND if folder.is_dir()), None)


@pytest.mark.skipif(EXAMPLES is None, reason="needs shared/examples beside the checkout")
@pytest.mark.parametrize("name", ["cron-with-settings-job-schedule", "recurrence-job-schedule"])
def test_schedules_of_real_projects_run(client, ended, name):
    asked = load_schedule(EXAMPLES / f"{name}.yml")
    client.schedules.begin_create_or_update(asked).result()
    try:
        job = client.jobs.get(client.schedules.trigger(asked.name).job_name)
        assert ended(job).status == "Completed"
        said = job.inputs["hello_string_top_level_input"]._data
        assert said == (job.name if "settings" in name else "hello world")
    finally:
        client.schedules.begin_disable(asked.name).result()
