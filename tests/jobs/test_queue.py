"""The queue: how many jobs run at once, in which order, and what a cancel does at each stage."""

import time

import pytest
from azure.ai.ml import command, dsl
from azure.ai.ml.entities import AmlCompute, Environment
from azure.ai.ml.entities._job.queue_settings import QueueSettings


def job(line, compute="cpu", **options):
    environment = Environment(image="none.invalid/none")
    return command(command=line, environment=environment, compute=compute, **options)


@pytest.fixture
def gate(tmp_path):
    """A line of shell that notes its name and then waits until the gate is opened."""
    (tmp_path / "order").touch()

    def line(name):
        return f"echo {name} >> {tmp_path}/order; until [ -e {tmp_path}/open ]; do sleep 0.05; done"

    line.order = lambda: (tmp_path / "order").read_text().split()
    line.open = (tmp_path / "open").touch
    yield line
    line.open()


@pytest.fixture
def single(client):
    """A cluster of one node."""
    compute = AmlCompute(name="single", min_instances=0, max_instances=1)
    return client.compute.begin_create_or_update(compute).result().name


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_jobs_of_one_node_run_one_after_the_other_and_first_come_first(client, ended, gate, single):
    submit = client.jobs.create_or_update
    jobs = [submit(job(gate(name), single)) for name in ("a", "b", "c")]
    until(gate.order)
    assert client.jobs.get(jobs[1].name).status == "Queued"
    assert gate.order() == ["a"]
    gate.open()
    assert {ended(one).status for one in jobs} == {"Completed"}
    assert gate.order() == ["a", "b", "c"]


def test_a_full_compute_does_not_keep_others_waiting(client, ended, gate, single):
    client.jobs.create_or_update(job(gate("a"), single))
    client.jobs.create_or_update(job(gate("b"), single))
    assert ended(client.jobs.create_or_update(job("true"))).status == "Completed"
    assert gate.order() == ["a"]


def test_a_job_of_high_priority_overtakes(client, ended, gate, single):
    def submit(name, priority=None):
        made = job(gate(name), single)
        made.queue_settings = QueueSettings(job_tier="standard", priority=priority)
        return client.jobs.create_or_update(made)

    first = submit("first")
    until(gate.order)
    jobs = [first, submit("low", "low"), submit("medium"), submit("high", "high")]
    gate.open()
    for one in jobs:
        ended(one)
    assert gate.order() == ["first", "high", "medium", "low"]


def test_a_queued_job_is_cancelled_at_once_and_never_runs(client, ended, gate, single):
    client.jobs.create_or_update(job(gate("a"), single))
    until(gate.order)
    waiting = client.jobs.create_or_update(job(gate("b"), single))
    client.jobs.begin_cancel(waiting.name).result()
    assert client.jobs.get(waiting.name).status == "Canceled"
    gate.open()
    assert gate.order() == ["a"]


def test_a_job_is_cancelled_while_its_environment_is_built(client, ended, tmp_path):
    (tmp_path / "conda.yml").write_text(
        f"dependencies: [pip, {{pip: ['slow @ file://{tmp_path}/slow']}}]\n"
    )
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "setup.py").write_text("import time; time.sleep(600)\n")
    asked = command(
        command="true",
        environment=Environment(image="x.invalid/x", conda_file=tmp_path / "conda.yml"),
        compute="cpu",
    )
    made = client.jobs.create_or_update(asked)
    until(lambda: client.jobs.get(made.name).status == "Preparing")
    client.jobs.begin_cancel(made.name).result()
    assert ended(made, 30).status == "Canceled"


def test_a_cancelled_job_cannot_be_cancelled_again(client, ended, arm):
    made = client.jobs.create_or_update(job("sleep 600"))
    client.jobs.begin_cancel(made.name).result()
    assert arm("POST", f"./jobs/{made.name}/cancel").status_code == 400


def test_a_step_is_cancelled_by_itself(client, ended, children):
    @dsl.pipeline(compute="cpu")
    def whole():
        job("sleep 600", name="long", display_name="long").component()

    made = client.jobs.create_or_update(whole())
    until(lambda: children(made))
    (step,) = children(made).values()
    client.jobs.begin_cancel(step.name).result()
    assert ended(made).status == "Failed"
    (step,) = children(made).values()
    assert step.status == "Canceled"
