"""Batch endpoints invoked by the unmodified SDK: models, scripts and pipeline components."""

import csv
import textwrap
import time

import pytest
from azure.ai.ml import Input, Output, load_component, load_job
from azure.ai.ml.entities import (
    BatchEndpoint,
    BatchRetrySettings,
    CodeConfiguration,
    Data,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
    PipelineComponentBatchDeployment,
)


@pytest.fixture
def data(tmp_path):
    """A folder of four CSV files, which have the numbers 0 to 7 in their column x."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.csv").write_text(f"x\n{2 * number}\n{2 * number + 1}\n")
    return folder


@pytest.fixture
def endpoint(client):
    """The name of a batch endpoint."""
    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="scores")).result()
    return "scores"


@pytest.fixture
def deploy(client, endpoint):
    """Deploy to the endpoint and make that its default."""

    def call(deployment):
        client.batch_deployments.begin_create_or_update(deployment).result()
        found = client.batch_endpoints.get(endpoint)
        found.defaults = {"deployment_name": deployment.name}
        client.batch_endpoints.begin_create_or_update(found).result()

    return call


@pytest.fixture
def results(client, tmp_path):
    """The folder of results of a job of a model's deployment, as the SDK downloads it."""

    def call(job):
        client.jobs.download(job.name, download_path=tmp_path / "results")
        return tmp_path / "results"

    return call


def scripted(tmp_path, client, script, **settings):
    """A deployment of a model of one text file, with a scoring script."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor.txt").write_text("3")
    model = Model(name="factor", path=str(tmp_path / "model"), type="custom_model")
    code = tmp_path / "code"
    code.mkdir()
    (code / "driver.py").write_text(textwrap.dedent(script))
    return ModelBatchDeployment(
        name="scripted",
        endpoint_name="scores",
        model=client.models.create_or_update(model),
        code_configuration=CodeConfiguration(code=str(code), scoring_script="driver.py"),
        environment=Environment(name="bare", version="1", image="none.invalid/none"),
        compute="cpu",
        settings=ModelBatchDeploymentSettings(**{"mini_batch_size": 10, **settings}),
    )


def test_an_mlflow_model_needs_no_script(
    client, endpoint, deploy, doubler, data, ended, results, children
):
    model = Model(name="doubler", path=str(doubler), type="mlflow_model")
    settings = ModelBatchDeploymentSettings(
        mini_batch_size=2, max_concurrency_per_instance=2, instance_count=1
    )
    deploy(
        ModelBatchDeployment(
            name="plain",
            endpoint_name=endpoint,
            model=client.models.create_or_update(model),
            compute="cpu",
            settings=settings,
        )
    )
    job = client.batch_endpoints.invoke(endpoint, input=Input(type="uri_folder", path=str(data)))
    assert ended(job).status == "Completed"
    assert list(children(job)) == ["batchscoring"]
    with (results(job) / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert [(int(row), name) for row, _, name in rows] == [
        (row, f"{number}.csv") for number in range(4) for row in (0, 1)
    ]
    assert [float(value) for _, value, _ in rows] == pytest.approx([2.0 * n for n in range(8)])
    for listed in (
        client.batch_endpoints.list_jobs(endpoint),
        client.batch_deployments.list_jobs(endpoint, name="plain"),
    ):
        assert [(one.name, one.status) for one in listed] == [(job.name, "Completed")]


def test_a_scoring_script_finds_its_model_and_its_output(
    client, endpoint, deploy, tmp_path, data, ended, results
):
    script = """
        import os
        from pathlib import Path

        import pandas as pd

        def init():
            global factor
            model = Path(os.environ["AZUREML_MODEL_DIR"]) / "model"
            factor = int((model / "factor.txt").read_text())

        def run(mini_batch):
            rows = []
            for path in map(Path, mini_batch):
                total = factor * int(pd.read_csv(path)["x"].sum())
                rows.append({"file": path.name, "total": total, "unit": os.environ["UNIT"]})
                output = Path(os.environ["AZUREML_BI_OUTPUT_PATH"])
                (output / f"{path.stem}.done").touch()
            return pd.DataFrame(rows)
    """
    settings = {"output_file_name": "totals.csv", "environment_variables": {"UNIT": "kg"}}
    deploy(scripted(tmp_path, client, script, **settings))
    inputs = {"files": Input(type="uri_folder", path=str(data))}
    job = client.batch_endpoints.invoke(endpoint, inputs=inputs)
    assert ended(job).status == "Completed"
    folder = results(job)
    expected = [f"{n}.csv {3 * (4 * n + 1)} kg" for n in range(4)]
    assert (folder / "totals.csv").read_text().splitlines() == expected
    assert sorted(path.name for path in folder.glob("*.done")) == [f"{n}.done" for n in range(4)]


def test_summary_only_leaves_the_output_to_the_script(
    client, endpoint, deploy, tmp_path, data, ended, results
):
    script = """
        import os
        from pathlib import Path

        def run(mini_batch):
            for path in mini_batch:
                name = Path(path).name
                (Path(os.environ["AZUREML_BI_OUTPUT_PATH"]) / name).write_text("seen")
            return mini_batch
    """
    deploy(scripted(tmp_path, client, script, output_action="summary_only"))
    job = client.batch_endpoints.invoke(endpoint, input=Input(type="uri_folder", path=str(data)))
    assert ended(job).status == "Completed"
    assert sorted(path.name for path in results(job).iterdir()) == [f"{n}.csv" for n in range(4)]


def test_an_invocation_says_where_results_go_and_what_may_fail(
    client, endpoint, deploy, tmp_path, data, ended, why
):
    script = """
        def run(mini_batch):
            return [path for path in mini_batch if "0.csv" not in path]
    """
    retry = BatchRetrySettings(max_retries=0, timeout=30)
    deploy(scripted(tmp_path, client, script, error_threshold=1, retry_settings=retry))
    asked = {
        "input": Input(type="uri_folder", path=str(data)),
        "deployment_name": "scripted",
        "outputs": {
            "score": Output(
                type="uri_file", path="azureml://datastores/workspaceblobstore/paths/here/rows.csv"
            )
        },
    }
    job = client.batch_endpoints.invoke(endpoint, **asked)
    assert ended(job).status == "Completed"
    child = next(iter(client.jobs.list(parent_job_name=job.name)))
    client.jobs.download(child.name, download_path=tmp_path / "got", output_name="score")
    rows = (tmp_path / "got" / "named-outputs" / "score" / "rows.csv").read_text().split()
    assert [row.rpartition("/")[2] for row in rows] == ["1.csv", "2.csv", "3.csv"]
    stricter = [{"error_threshold": 0, "mini_batch_size": 1}]
    job = client.batch_endpoints.invoke(endpoint, **asked, params_override=stricter)
    assert ended(job).status == "Failed"
    assert "error_threshold is 0" in why(job)


def test_a_pipeline_component_runs_as_a_pipeline(client, endpoint, deploy, tmp_path, data, ended):
    (tmp_path / "step.yml").write_text("""
name: greet
type: command
inputs: {text: {type: string}, data: {type: uri_folder}}
outputs: {made: {type: uri_folder}}
command: echo ${{inputs.text}} $(ls ${{inputs.data}}) > ${{outputs.made}}/greeting
environment: {image: none.invalid/none}
""")
    (tmp_path / "pipeline.yml").write_text("""
name: greetings
version: "1"
type: pipeline
inputs: {text: {type: string, default: hello}, data: {type: uri_folder}}
outputs: {made: {type: uri_folder}}
jobs:
  greet:
    type: command
    component: ./step.yml
    inputs: {text: "${{parent.inputs.text}}", data: "${{parent.inputs.data}}"}
    outputs: {made: "${{parent.outputs.made}}"}
""")
    deploy(
        PipelineComponentBatchDeployment(
            name="pipeline",
            endpoint_name=endpoint,
            component=load_component(tmp_path / "pipeline.yml"),
            settings={"default_compute": "cpu"},
        )
    )
    inputs = {
        "data": Input(type="uri_folder", path=str(data)),
        "text": Input(type="string", default="good morning"),
    }
    for given, words in ((inputs, "good morning"), ({"data": inputs["data"]}, "hello")):
        job = client.batch_endpoints.invoke(endpoint, inputs=given)
        assert ended(job).status == "Completed"
        client.jobs.download(job.name, download_path=tmp_path / words, output_name="made")
        text = (tmp_path / words / "named-outputs" / "made" / "greeting").read_text()
        assert text == f"{words} 0.csv 1.csv 2.csv 3.csv\n"


def test_a_request_without_the_sdk_is_followed_by_its_location(
    client, endpoint, deploy, tmp_path, data, connection
):
    import requests

    deploy(scripted(tmp_path, client, "def run(mini_batch):\n    return mini_batch\n"))
    asset = client.data.create_or_update(Data(name="rows", type="uri_folder", path=str(data)))
    body = {"properties": {"InputData": {"x": {"JobInputType": "UriFolder", "Uri": asset.path}}}}
    options = {"headers": {"Authorization": f"Bearer {connection.token}"}, "timeout": 30}
    uri = client.batch_endpoints.get(endpoint).scoring_uri
    answer = requests.post(uri, json=body, **options)
    assert answer.status_code == 201
    assert answer.headers["azureml-model-deployment"] == "scripted"
    deadline = time.monotonic() + 120
    status = ""
    while status not in ("Completed", "Failed"):
        assert time.monotonic() < deadline
        shown = requests.get(answer.headers["Location"], **options).json()
        status = shown["properties"]["status"]
    assert (shown["name"], status) == (answer.json()["name"], "Completed")


def test_a_parallel_step_may_be_a_model(client, doubler, data, run, read, why, tmp_path):
    model = Model(name="doubler", path=str(doubler), type="mlflow_model")
    version = client.models.create_or_update(model).version
    (tmp_path / "pipeline.yml").write_text(f"""
type: pipeline
settings: {{default_compute: azureml:cpu}}
inputs: {{data: {{type: uri_folder, path: ./data}}}}
outputs: {{rows: {{type: uri_file}}}}
jobs:
  score:
    type: parallel
    inputs: {{data: "${{{{parent.inputs.data}}}}"}}
    outputs: {{rows: "${{{{parent.outputs.rows}}}}"}}
    input_data: ${{{{inputs.data}}}}
    mini_batch_size: "2"
    resources: {{instance_count: 1}}
    task:
      type: model
      model: azureml:doubler:{version}
      environment: {{image: none.invalid/none}}
      append_row_to: ${{{{outputs.rows}}}}
""")
    job = run(load_job(tmp_path / "pipeline.yml"))
    assert job.status == "Completed", why(job)
    values = [float(line.split(",")[1]) for line in read(job, "rows", "rows").splitlines()]
    assert values == pytest.approx([2.0 * number for number in range(8)])


@pytest.mark.parametrize(
    ("token", "headers", "body", "status"),
    [
        (False, {}, {}, 401),
        (True, {}, {}, 404),  # no deployment is the default
        (True, {"azureml-model-deployment": "none"}, {}, 404),
        (True, {"azureml-model-deployment": "first"}, {"properties": []}, 400),
        (True, {"azureml-model-deployment": "first"}, {"properties": {"inputData": 3}}, 400),
        (True, {"azureml-model-deployment": "first"}, {}, 400),
    ],
)
def test_invocations_that_cannot_be(
    client, arm, endpoint, connection, token, headers, body, status
):
    import requests

    arm("PUT", f"./batchEndpoints/{endpoint}/deployments/first", {"properties": {}})
    uri = client.batch_endpoints.get(endpoint).scoring_uri
    headers = {**headers, "Authorization": f"Bearer {connection.token if token else 'x'}"}
    answer = requests.post(uri, json=body, headers=headers, timeout=30)
    assert answer.status_code == status


def test_a_job_cannot_have_the_name_of_another(
    client, endpoint, deploy, tmp_path, data, ended, connection
):
    deploy(scripted(tmp_path, client, "def run(mini_batch):\n    return mini_batch\n"))
    asked = {"input": Input(type="uri_folder", path=str(data)), "job_name": "tonight"}
    job = client.batch_endpoints.invoke(endpoint, **asked)
    assert job.name == "tonight"
    with pytest.raises(Exception, match="There is a job tonight already"):
        client.batch_endpoints.invoke(endpoint, **asked)
    assert ended(job).status == "Completed"
