"""Models that a job logs with MLflow 3 and without opening its run are of that run all the same."""

import pytest

from tests.conftest import wait_until

TRAIN = """
import mlflow
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
mlflow.sklearn.log_model(model, name="model")
"""
ENDS = ("Completed", "Failed", "Canceled")


@pytest.fixture
def job(client, tmp_path):
    """The name of a completed job that did only that."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    (tmp_path / "train.py").write_text(TRAIN)
    environment = Environment(image="none.invalid/none")
    line = command(
        code=str(tmp_path), command="python train.py", environment=environment, compute="cpu"
    )
    name = client.jobs.create_or_update(line).name
    wait_until(lambda: client.jobs.get(name).status in ENDS, 120)
    assert client.jobs.get(name).status == "Completed"
    return name


def test_a_model_that_a_job_logs_is_of_its_run(client, connection, job):
    import mlflow
    from azure.ai.ml.entities import Model

    tracking = mlflow.MlflowClient(connection.tracking_uri)
    (output,) = tracking.get_run(job).outputs.model_outputs
    logged = tracking.get_logged_model(output.model_id)
    assert (logged.name, logged.source_run_id) == ("model", job)

    model = Model(name="line", path=f"runs:/{job}/model", type="mlflow_model")
    made = client.models.create_or_update(model)
    assert "sklearn" in made.flavors and made.job_name == job


def test_a_model_of_no_job_has_no_run(connection):
    """What a notebook logs with the token of the daemon belongs to nothing that runs."""
    import mlflow

    tracking = mlflow.MlflowClient(connection.tracking_uri)
    experiment = tracking.create_experiment("models")
    logged = tracking.create_logged_model(experiment, name="model")
    assert not logged.source_run_id
