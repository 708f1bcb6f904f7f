"""The control plane of jobs through the unmodified SDK; tests/local runs them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.ai.ml import command
from azure.ai.ml.entities import Environment
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError


@pytest.fixture
def job():
    environment = Environment(image="none.invalid/none")
    return lambda line: command(command=line, environment=environment, compute="cpu")


def ended(client, name):
    while client.jobs.get(name).status not in ("Completed", "Failed", "Canceled"):
        time.sleep(0.05)
    return name


def test_a_job_is_validated_before_it_is_sent(client, job):
    assert client.jobs.validate(job("echo 1")).passed


def test_a_job_that_has_ended_can_be_deleted(client, job):
    name = ended(client, client.jobs.create_or_update(job("echo 1")).name)
    assert client.jobs.show_services(name) is None
    assert list(client.jobs.list(parent_job_name=name)) == []
    client.jobs.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        client.jobs.get(name)


def test_a_job_that_runs_cannot_be_deleted(client, job):
    name = client.jobs.create_or_update(job("sleep 60")).name
    with pytest.raises(HttpResponseError, match="cancel it first"):
        client.jobs.begin_delete(name).result()
    client.jobs.begin_cancel(name).result()
    assert client.jobs.get(name).status == "Canceled"


def test_a_registry_runs_no_jobs(arm):
    scope = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
    answer = arm("PUT", f"{scope}/registries/azureml/jobs/x", {"properties": {}})
    assert (answer.status_code, "in registries" in answer.text) == (501, True)


@pytest.mark.parametrize("compute", [None, "serverless"])
def test_a_job_without_a_compute_is_serverless(client, compute):
    environment = Environment(image="none.invalid/none")
    asked = command(command="echo 1", environment=environment, compute=compute)
    name = ended(client, client.jobs.create_or_update(asked).name)
    assert client.jobs.get(name).status == "Completed"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": {"x": 3}}, "input x of the job has no jobInputType"),
        ({"inputs": {"x": {"jobInputType": "literal"}}}, "input x of the job has no value"),
        ({"inputs": {"x": {"jobInputType": "uri_file"}}}, "input x of the job has no uri"),
        ({"inputs": {"x": {"jobInputType": "uri_file", "uri": 3}}}, "uri of input x"),
        ({"outputs": {"x": [1]}}, "output x of the job is a mapping"),
        ({"outputs": {"x": {"uri": 3}}}, "uri of output x"),
        ({"limits": {"timeout": "soon"}}, "an ISO 8601 duration, not soon"),
        ({"queueSettings": {"priority": "high"}}, "1 low, 2 medium, 3 high"),
        ({"resources": {"instanceCount": 0}}, "a whole number above 0"),
        ({"resources": []}, None),
        ({"distribution": {"processCountPerInstance": "x"}}, "a whole number above 0"),
        ({"settings": "x"}, "settings of a job are a mapping"),
    ],
)
def test_a_job_with_a_wrong_field_is_refused_and_not_kept(client, arm, fields, message):
    body = {"properties": {"jobType": "Command", "command": "true", **fields}}
    answer = arm("PUT", "./jobs/wrong", body)
    if message is None:
        assert answer.status_code == 201  # an empty list is as good as nothing
        return
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    with pytest.raises(ResourceNotFoundError):
        client.jobs.get("wrong")


def test_jobs_that_come_at_once_share_a_new_experiment(arm):
    body = {"jobType": "Command", "command": "true", "experimentName": "new"}
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: arm("PUT", f"./jobs/j{n}", {"properties": body}), range(8))
    assert {answer.status_code for answer in answers} == {201}
