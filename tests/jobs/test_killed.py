"""The daemon is killed at any moment of a pipeline: the next one goes on, no step runs twice."""

import json
import os
import random
import signal
import time

import psutil
import pytest
from azure.ai.ml import Input, Output, command, dsl
from azure.ai.ml.entities import Environment
from azure.ai.ml.parallel import RunFunction, parallel_run_function
from azure.ai.ml.sweep import Uniform

from aml_magics.local import daemon
from tests.conftest import client_of, connect, wait_until


@pytest.fixture
def own(home, monkeypatch):
    """A daemon to kill, and the SDK on a workspace of it."""
    address = daemon.ensure(home)
    return client_of(connect(address, monkeypatch))


def kill(home):
    pid = daemon.find(home).pid
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


def outlive(own, home, name, seed):
    """Kill three daemons one after the other while a job goes on, and wait for its end."""
    chance = random.Random(seed)
    for _ in range(3):
        time.sleep(chance.uniform(0.1, 1.2))  # a moment that nothing chose
        kill(home)
        daemon.ensure(home)
    wait_until(lambda: own.jobs.get(name).status in ("Completed", "Failed"), seconds=120)


def step(name, place):
    environment = Environment(image="none.invalid/none")
    return command(
        name=name,
        command=f"echo {name} >> {place}; sleep 0.3; cp -r ${{{{inputs.before}}}}/. "
        f"${{{{outputs.made}}}}; echo {name} >> ${{{{outputs.made}}}}/text",
        inputs={"before": Input(type="uri_folder")},
        outputs={"made": Output(type="uri_folder")},
        environment=environment,
        compute="cpu",
    ).component


def test_a_pipeline_outlives_daemons(own, home, tmp_path):
    begun, start = tmp_path / "begun", tmp_path / "start"
    start.mkdir()
    (start / "text").touch()
    names = [f"step{number}" for number in range(5)]

    @dsl.pipeline(compute="cpu")
    def chain(before: Input(type="uri_folder")):
        for name in names:
            before = step(name, begun)(before=before).outputs.made
        return {"made": before}

    job = own.jobs.create_or_update(chain(before=Input(type="uri_folder", path=start)))
    outlive(own, home, job.name, 7)
    assert own.jobs.get(job.name).status == "Completed"
    assert begun.read_text().split() == names
    assert len(list(own.jobs.list(parent_job_name=job.name))) == len(names)


def test_a_parallel_job_outlives_daemons(own, home, tmp_path):
    begun, code, data = tmp_path / "begun", tmp_path / "code", tmp_path / "data"
    code.mkdir()
    (code / "score.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "def run(mini_batch):\n"
        f"    with open({str(begun)!r}, 'a') as file:\n"
        "        print(Path(mini_batch[0]).name, file=file)\n"
        "    time.sleep(0.3)\n"
        "    return mini_batch\n"
    )
    data.mkdir()
    names = [str(number) for number in range(8)]
    for name in names:
        (data / name).touch()
    scored = parallel_run_function(
        name="score",
        inputs={"data": Input(type="uri_folder")},
        input_data="${{inputs.data}}",
        mini_batch_size="1",
        instance_count=1,
        max_concurrency_per_instance=1,
        task=RunFunction(
            code=str(code),
            entry_script="score.py",
            environment=Environment(image="none.invalid/none"),
        ),
    )

    @dsl.pipeline(compute="cpu")
    def whole():
        scored(data=Input(type="uri_folder", path=str(data)))

    job = own.jobs.create_or_update(whole())
    outlive(own, home, job.name, 13)
    assert own.jobs.get(job.name).status == "Completed"
    assert begun.read_text().split() == names


def test_a_sweep_outlives_daemons(own, home, tmp_path):
    begun = tmp_path / "begun"
    trial = command(
        name="trial",
        command=f"echo $MLFLOW_RUN_ID ${{{{inputs.x}}}} >> {begun}; sleep 0.3; curl -sf "
        "--retry 9 --retry-connrefused -H 'Content-Type: application/json' "
        '-H "Authorization: Bearer $MLFLOW_TRACKING_TOKEN" -d "'
        '{\\"run_id\\": \\"$MLFLOW_RUN_ID\\", \\"key\\": \\"cost\\", \\"value\\": ${{inputs.x}}, '
        '\\"timestamp\\": 1}" $MLFLOW_TRACKING_URI/api/2.0/mlflow/runs/log-metric',
        inputs={"x": 0.0},
        environment=Environment(image="none.invalid/none"),
        compute="cpu",
    )
    asked = trial(x=Uniform(0, 1)).sweep(
        primary_metric="cost", goal="minimize", sampling_algorithm="bayesian"
    )
    asked.set_limits(max_total_trials=8, max_concurrent_trials=2)
    job = own.jobs.create_or_update(asked)
    outlive(own, home, job.name, 11)
    ended = own.jobs.get(job.name)
    tried = dict(line.split() for line in begun.read_text().splitlines())
    assert ended.status == "Completed"
    assert len(begun.read_text().splitlines()) == 8
    assert sorted(tried) == [f"{job.name}_{number}" for number in range(8)]
    assert tried[ended.properties["best_child_run_id"]] == min(tried.values(), key=float)
    tags = {name: ended.tags[f"_aml_system_{name}"] for name in tried}
    assert {name: str(json.loads(tag)["x"]) for name, tag in tags.items()} == tried
