"""The judge is the vendor's own client: unmodified azure-ai-ml on a workspace of this machine."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import psutil
import pytest
import requests
from azure.ai.ml import Input, Output, command, load_job
from azure.ai.ml.entities import Data, Environment, Model
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import ResourceNotFoundError

NO_ENVIRONMENT = Environment(image="none.invalid/none")
CONDA = {"dependencies": ["python", "pip", {"pip": ["iniconfig==2.0.0"]}]}
TERMINAL = ("Completed", "Failed", "Canceled")


def until(condition, timeout=60.0):
    """The first true value of `condition()`; it is asked often and at most `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not come true")


@pytest.fixture
def run(client):
    """Submit a command and wait for its end."""

    def submit(line, *, wait=TERMINAL, **options):
        options.setdefault("environment", NO_ENVIRONMENT)
        job = client.jobs.create_or_update(command(command=line, compute="any", **options))
        until(lambda: client.jobs.get(job.name).status in wait)
        return client.jobs.get(job.name)

    return submit


@pytest.fixture
def details(client, connection):
    """What run history says of a job."""

    def ask(name):
        api = client.workspaces.get().discovery_url.removesuffix("/discovery")
        scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
        headers = {"Authorization": f"Bearer {connection.token}"}
        url = f"{api}/history/v1.0{scope}/runs/{name}/details"
        answer = requests.get(url, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    return ask


def log_of(details, name):
    """The log of a job, read as the magics do: by range, where it is not empty."""
    url = details["logFiles"][name]
    answer = requests.get(url, headers={"x-ms-range": "bytes=0-"}, timeout=10)
    return "" if answer.status_code == 416 else answer.text


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    return path


def test_data_has_versions_and_a_latest_one(client, table):
    made = [client.data.create_or_update(Data(name="t", path=table, type="uri_file"))]
    made.append(client.data.create_or_update(Data(name="t", path=table, type="uri_file")))
    assert [data.version for data in made] == ["1", "2"]
    assert client.data.get("t", label="latest").version == "2"
    assert [data.version for data in client.data.list("t")] == ["2", "1"]
    assert made[0].path.startswith("azureml://subscriptions/")


def test_archived_data_is_not_listed_until_restored(client, table):
    client.data.create_or_update(Data(name="t", version="1", path=table, type="uri_file"))
    client.data.archive("t", version="1")
    assert list(client.data.list("t")) == []
    client.data.restore("t", version="1")
    assert [data.version for data in client.data.list("t")] == ["1"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.jobs.get("nothing"),
        lambda client: client.data.get("nothing", version="1"),
        lambda client: client.models.get("nothing", version="1"),
        lambda client: client.environments.get("nothing", version="1"),
        lambda client: client.datastores.get("nothing"),
    ],
)
def test_what_is_not_there_raises_what_azure_raises(client, ask):
    with pytest.raises(ResourceNotFoundError):
        ask(client)


def test_what_is_not_emulated_says_so_by_name(address, connection):
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
    headers = {"Authorization": f"Bearer {connection.token}"}
    answer = requests.get(f"{address.url}{scope}/wishes/peace", headers=headers, timeout=10)
    assert answer.status_code == 501
    message = answer.json()["error"]["message"]
    assert message == f"The local workspace does not emulate GET {scope}/wishes/peace."


def test_a_job_runs_its_code_with_its_inputs(client, run, details, table, tmp_path):
    client.data.create_or_update(Data(name="t", path=table, type="uri_file"))
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text(
        "import os, sys\n"
        "print(open(sys.argv[1]).read().split(), sys.argv[2], os.environ['COLOUR'])\n"
        "open('outputs/made.txt', 'w').write('by the job')\n"
        "open(sys.argv[3] + '/out.txt', 'w').write('named')\n"
    )
    job = run(
        "python main.py ${{inputs.data}} ${{inputs.C}} ${{outputs.out}}",
        code=code,
        inputs={"data": Input(type="uri_file", path="t:1"), "C": 0.5},
        outputs={"out": Output(type="uri_folder")},
        environment_variables={"COLOUR": "blue"},
        experiment_name="inputs",
    )
    assert job.status == "Completed"
    assert log_of(details(job.name), "user_logs/std_log.txt") == "['a,b', '1,2'] 0.5 blue\n"
    client.jobs.download(job.name, download_path=tmp_path / "got", all=True)
    assert (tmp_path / "got/artifacts/outputs/made.txt").read_text() == "by the job"
    assert (tmp_path / "got/named-outputs/out/out.txt").read_text() == "named"


def test_a_job_has_times_and_an_exit_code(run, details):
    job = run("exit 3")
    assert job.status == "Failed"
    assert job.properties["ExitCode"] == "3"
    assert job.properties["StartTimeUtc"] < job.properties["EndTimeUtc"]
    assert details(job.name)["error"]["error"]["message"].startswith("Execution failed.")


def test_the_run_of_a_job_has_its_name(run):
    line = (
        """python -c "import mlflow; mlflow.log_metric('score', 0.5); mlflow.log_param('C', 2)" """
    )
    job = run(line, experiment_name="metrics", display_name="A try")
    found = mlflow.get_run(job.name)
    assert (found.data.metrics, found.data.params) == ({"score": 0.5}, {"C": "2"})
    assert (found.info.status, found.info.run_name) == ("FINISHED", "A try")
    assert mlflow.get_experiment(found.info.experiment_id).name == "metrics"


def test_a_clients_own_run_has_its_artifacts_where_azure_has_them(connection):
    client = mlflow.MlflowClient(connection.tracking_uri)
    made = client.create_run(client.create_experiment("mine"), tags={"kind": "own"}).info.run_id
    client.log_text(made, "hello", "notes/hello.txt")
    client.set_terminated(made)
    run = client.get_run(made)
    assert run.info.artifact_uri.endswith(f"/ExperimentRun/dcid.{made}")
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "own")
    assert [file.path for file in client.list_artifacts(made, "notes")] == ["notes/hello.txt"]


def test_a_snapshot_is_uploaded_once(client, run, tmp_path):
    (tmp_path / "main.py").write_text("print(1)")
    codes = {client.jobs.get(run("python main.py", code=tmp_path).name).code for _ in range(2)}
    assert len(codes) == 1


def test_the_environment_is_built_once(run, details):
    environment = Environment(image="none.invalid/none", conda_file=CONDA)
    line = 'python -c "import iniconfig, sys; print(iniconfig.__file__)"'
    first, second = (run(line, environment=environment) for _ in range(2))
    place = log_of(details(first.name), "user_logs/std_log.txt")
    assert "/environments/" in place
    assert log_of(details(second.name), "user_logs/std_log.txt") == place
    build_log = log_of(details(second.name), "azureml-logs/20_image_build_log.txt")
    assert "taken from the cache" in build_log


def test_an_environment_that_cannot_be_built_fails_the_job(run, details):
    conda = {"dependencies": [{"pip": ["aml-magics-no-such-package==1"]}]}
    job = run("true", environment=Environment(image="none.invalid/none", conda_file=conda))
    message = details(job.name)["error"]["error"]["message"]
    assert job.status == "Failed"
    assert "aml-magics-no-such-package" in message


def test_cancel_ends_all_processes_of_a_job(client, run, details):
    job = run("sleep 600 & echo $!; wait", wait=("Running",))
    written = until(lambda: log_of(details(job.name), "user_logs/std_log.txt"))
    child = psutil.Process(int(written))
    client.jobs.begin_cancel(job.name).result()
    assert client.jobs.get(job.name).status == "Canceled"
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert mlflow.get_run(job.name).info.status == "KILLED"


def test_a_limit_ends_a_job(client, run, details):
    job = command(command="sleep 600", compute="any", environment=NO_ENVIRONMENT)
    job.set_limits(timeout=1)
    made = client.jobs.create_or_update(job)
    until(lambda: client.jobs.get(made.name).status in TERMINAL)
    assert "limit of 1 seconds" in details(made.name)["error"]["error"]["message"]


def test_stream_prints_the_log_and_raises_on_failure(client, capsys):
    line = "echo begun; sleep 3; echo done; exit 1"
    job = command(command=line, compute="any", environment=NO_ENVIRONMENT)
    made = client.jobs.create_or_update(job)
    with pytest.raises(JobException, match="status code 1"):
        client.jobs.stream(made.name)
    assert "begun" in capsys.readouterr().out


def test_jobs_are_listed_newest_first_and_archived_ones_are_not(client, run):
    names = [run("true").name for _ in range(3)]
    assert [job.name for job in client.jobs.list()] == names[::-1]
    client.jobs.archive(names[1])
    assert [job.name for job in client.jobs.list()] == [names[2], names[0]]


def test_a_job_from_yaml(client, table, tmp_path, details):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("import sys; print(sys.argv[1:])")
    (tmp_path / "job.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json\n"
        "code: src\n"
        "command: >-\n  python main.py\n  --C ${{inputs.C}}\n  $[[--seed ${{inputs.seed}}]]\n"
        "inputs:\n  C: 0.5\n"
        "environment:\n  image: none.invalid/none\n"
        "compute: azureml:cpu-cluster\n"
    )
    made = client.jobs.create_or_update(load_job(tmp_path / "job.yml"))
    until(lambda: client.jobs.get(made.name).status in TERMINAL)
    assert log_of(details(made.name), "user_logs/std_log.txt") == "['--C', '0.5']\n"


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("echo ${{outputs.no}}", {}, "${{outputs.no}}"),
        (
            "cat ${{inputs.x}}",
            {"inputs": {"x": Input(type="uri_file", path="azureml://datastores/no/paths/x")}},
            "Could not find datastore: no.",
        ),
        (
            "cat ${{inputs.x}}",
            {"inputs": {"x": Input(type="uri_file", path="https://none.invalid/x.csv")}},
            "https://none.invalid/x.csv",
        ),
    ],
)
def test_a_job_that_cannot_begin_says_why(run, details, line, options, message):
    job = run(line, **options)
    assert job.status == "Failed"
    assert message in details(job.name)["error"]["error"]["message"]


MODEL = """
import mlflow, tempfile
from mlflow.models import infer_signature
class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[float]) -> list[float]:
        return [2 * x for x in model_input]
with tempfile.TemporaryDirectory() as folder:
    mlflow.pyfunc.save_model(folder + "/model", python_model=Double())
    mlflow.log_artifacts(folder)
mlflow.pyfunc.log_model(name="logged", python_model=Double())
"""


@pytest.fixture
def trained(run, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text(MODEL)
    job = run("python -W ignore main.py", code=tmp_path / "code")
    assert job.status == "Completed"
    return job.name


def test_models_are_one_set_with_mlflows_registry(client, trained, tmp_path):
    path = f"azureml://jobs/{trained}/outputs/artifacts/paths/model"
    made = client.models.create_or_update(Model(name="double", path=path, type="mlflow_model"))
    assert (made.version, made.job_name) == ("1", trained)
    mlflow.register_model(f"runs:/{trained}/logged", "logged")
    assert sorted(model.name for model in client.models.list()) == ["double", "logged"]
    for name in ("double", "logged"):
        loaded = mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path))
        assert Path(loaded, "MLmodel").exists()
    client.models.download("logged", "1", download_path=tmp_path / "got")
    assert list((tmp_path / "got").rglob("MLmodel"))


def test_a_model_deleted_in_mlflow_is_gone(client, trained):
    mlflow.register_model(f"runs:/{trained}/model", "gone")
    assert [model.name for model in client.models.list("gone")] == ["gone"]
    mlflow.MlflowClient().delete_model_version("gone", "1")
    assert list(client.models.list("gone")) == []


def test_a_model_from_a_local_folder(client, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"\0" * 10)
    model = Model(name="w", version="7", path=tmp_path / "weights", type="custom_model")
    assert client.models.create_or_update(model).version == "7"
    assert mlflow.MlflowClient().get_model_version("w", "7").version == "7"
    assert Path(client.models.get("w", label="latest").path).name == "weights"


def test_a_job_can_be_renamed_and_tagged(client, run):
    name = run("true", tags={"old": "1"}).name
    client.jobs.update(name, display_name="Best so far", tags={"new": "2"})
    job = client.jobs.get(name)
    assert (job.display_name, job.tags) == ("Best so far", {"old": "1", "new": "2"})
    found = mlflow.get_run(name)
    assert (found.info.run_name, found.data.tags["new"]) == ("Best so far", "2")
