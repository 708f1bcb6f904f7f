"""Command jobs through the unmodified SDK: what their schema offers, really run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from azure.ai.ml import (
    Input,
    MpiDistribution,
    Output,
    PyTorchDistribution,
    TensorFlowDistribution,
    command,
)
from azure.ai.ml.entities import (
    Environment,
    JupyterLabJobService,
    Model,
    TensorBoardJobService,
    UserIdentityConfiguration,
    VsCodeJobService,
)


def job(line, **options):
    environment = Environment(image="none.invalid/none")
    return command(command=line, environment=environment, compute="cpu", **options)


TELL = """python -c "
import json, os, sys
from pathlib import Path
told = {name: os.environ[name] for name in sys.argv[2:] if name in os.environ}
Path(sys.argv[1], str(os.getpid())).write_text(json.dumps(told))" """


@pytest.fixture
def told(run, tmp_path):
    """What each process of a distributed job was told in the variables that are named."""

    def call(distribution, *names, **options):
        done = run(
            job(f"{TELL} {tmp_path} {' '.join(names)}", distribution=distribution, **options)
        )
        assert done.status == "Completed"
        return [json.loads(path.read_text()) for path in tmp_path.iterdir()]

    return call


def test_a_pytorch_job_is_processes_that_find_each_other(told):
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    distribution = PyTorchDistribution(process_count_per_instance=2)
    rows = sorted(told(distribution, *names, instance_count=2), key=lambda row: row["RANK"])
    assert [row["RANK"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["LOCAL_RANK"] for row in rows] == ["0", "1", "0", "1"]
    assert [row["NODE_RANK"] for row in rows] == ["0", "0", "1", "1"]
    assert {(row["WORLD_SIZE"], row["MASTER_ADDR"]) for row in rows} == {("4", "127.0.0.1")}
    assert len({row["MASTER_PORT"] for row in rows}) == 1


def test_an_mpi_job_knows_its_ranks(told):
    rows = told(MpiDistribution(process_count_per_instance=3), "OMPI_COMM_WORLD_RANK")
    assert sorted(row["OMPI_COMM_WORLD_RANK"] for row in rows) == ["0", "1", "2"]


def test_a_tensorflow_job_knows_its_cluster(told):
    distribution = TensorFlowDistribution(worker_count=2, parameter_server_count=1)
    found = [json.loads(row["TF_CONFIG"]) for row in told(distribution, "TF_CONFIG")]
    tasks = sorted((config["task"]["type"], config["task"]["index"]) for config in found)
    assert tasks == [("ps", 0), ("worker", 0), ("worker", 1)]
    assert {len(config["cluster"]["worker"]) for config in found} == {2}


def test_one_process_that_fails_ends_the_others_and_says_why(run, why):
    line = '[ "$RANK" = 0 ] && sleep 60; echo no such thing >&2; exit 5'
    done = run(job(line, distribution=PyTorchDistribution(process_count_per_instance=2)), 30)
    assert done.status == "Failed"
    assert "Process 1 exited with 5" in why(done)
    assert "no such thing" in why(done)


def test_each_process_has_a_log(client, run):
    distribution = PyTorchDistribution(process_count_per_instance=2)
    done = run(job("echo I am $RANK", distribution=distribution))
    logs = client.jobs._runs_operations.get_run_details(done.name).log_files
    assert {"user_logs/std_log_process_00.txt", "user_logs/std_log_process_01.txt"} <= set(logs)


def test_a_place_for_an_output_may_have_the_jobs_name_in_it(client, run, tmp_path):
    path = "azureml://datastores/${{default_datastore}}/paths/mine/${{name}}/"
    done = run(job("echo here > ${{outputs.made}}/text", outputs={"made": Output(path=path)}))
    assert done.outputs["made"].path.endswith(f"/workspaceblobstore/paths/mine/{done.name}/")
    client.jobs.download(done.name, download_path=tmp_path, output_name="made")
    assert (tmp_path / "named-outputs" / "made" / "text").read_text() == "here\n"


@pytest.mark.parametrize(
    ("kind", "collection"),
    [("uri_file", "data"), ("uri_folder", "data"), ("mltable", "data"), ("custom_model", "models")],
)
def test_an_output_with_a_name_becomes_an_asset(client, run, kind, collection):
    line = "echo x > ${{outputs.made}}" + ("" if kind == "uri_file" else "/text")
    for version in ("1", "2"):
        done = run(job(line, outputs={"made": Output(type=kind, name="made-here")}))
        assert done.outputs["made"].version == version
    found = getattr(client, collection).get("made-here", version="2")
    assert found.type == kind


def test_an_output_with_a_version_has_that_one(client, run):
    run(job("true", outputs={"made": Output(name="versioned", version="7")}))
    assert client.data.get("versioned", label="latest").version == "7"


def test_nothing_is_registered_of_a_job_that_failed(client, run):
    run(job("exit 1", outputs={"made": Output(name="never")}))
    assert list(client.data.list()) == []


def test_data_elsewhere_that_cannot_be_had_fails_the_job_by_its_name(run, why):
    url = "https://127.0.0.1:9/rows.csv"
    done = run(job("cat ${{inputs.rows}}", inputs={"rows": Input(type="uri_file", path=url)}))
    assert done.status == "Failed"
    assert url in why(done)
    assert "AML_LOCAL_DATA" in why(done)


@pytest.mark.parametrize(
    ("kind", "form"),
    [("bool", True), ("int", 3), ("float", 0.1), ("str", "two words"), ("text", "it's $HOME `x`")],
)
def test_literals_are_given_as_azure_gives_them(run, client, tmp_path, kind, form):
    line = "printf '%s' '${{inputs.value}}' > ${{outputs.made}}/text"
    if kind == "text":
        line = line.replace("'${{inputs.value}}'", '"$AZUREML_VALUE"')
        options = {"environment_variables": {"AZUREML_VALUE": form}}
    else:
        options = {"inputs": {"value": form}}
    done = run(job(line, outputs={"made": Output()}, **options))
    client.jobs.download(done.name, download_path=tmp_path, output_name="made")
    assert (tmp_path / "named-outputs" / "made" / "text").read_text() == str(form)


ASK = """
import os
from azure.ai.ml import MLClient
from azure.ai.ml.identity import AzureMLOnBehalfOfCredential
from azure.identity import DefaultAzureCredential

names = ("SUBSCRIPTION", "RESOURCEGROUP", "WORKSPACE_NAME")
names = [os.environ["AZUREML_ARM_" + name] for name in names]
for credential in (DefaultAzureCredential(), AzureMLOnBehalfOfCredential()):
    client = MLClient(credential, *names)
    print("I am", client.jobs.get(os.environ["AZUREML_RUN_ID"]).status)
"""


def test_a_job_with_an_identity_asks_its_workspace(run, client, tmp_path, why):
    (tmp_path / "ask.py").write_text(ASK)
    done = run(job("python ask.py", code=tmp_path, identity=UserIdentityConfiguration()))
    assert done.status == "Completed", why(done)
    client.jobs.download(done.name, download_path=tmp_path)
    log = (tmp_path / "artifacts" / "user_logs" / "std_log.txt").read_text()
    assert log.lower().count("running") == 2


def test_a_job_offers_what_its_environment_has_to_offer(client, ended, tmp_path):
    services = {
        "lab": JupyterLabJobService(),
        "board": TensorBoardJobService(log_dir="logs"),
        "code": VsCodeJobService(),
    }
    made = client.jobs.create_or_update(job("sleep 600", services=services))
    assert {"Tracking", "Studio", *services} == set(made.services)
    deadline = time.monotonic() + 60
    while not (told := client.jobs.show_services(made.name)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert told["code"].error == "The local workspace offers no VSCode."
    for name, program in (("lab", "jupyter-lab"), ("board", "tensorboard")):
        if not Path(sys.executable).with_name(program).exists():
            assert told[name].error == f"{program} is not installed in the job's environment."
    client.jobs.begin_cancel(made.name).result()
    ended(made)


def test_mlflow_loads_a_model_that_is_an_input(client, doubler, run):
    client.models.create_or_update(Model(name="doubler", path=str(doubler), type="mlflow_model"))
    line = (
        'python -W ignore -c "import sys, mlflow, pandas as pd; '
        "model = mlflow.pyfunc.load_model(sys.argv[1]); "
        "assert round(model.predict(pd.DataFrame({'x': [2.0]}))[0]) == 4\" ${{inputs.model}}"
    )
    given = {"model": Input(type="mlflow_model", path="azureml:doubler:1")}
    assert run(job(line, inputs=given)).status == "Completed"
