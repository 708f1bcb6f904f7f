"""AutoML jobs and steps on tables through the unmodified SDK: searches that really train."""

import json
import os
import signal
import time
from importlib.util import find_spec

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from azure.ai.ml import Input, Output, automl, dsl, load_job
from azure.ai.ml.constants import AssetTypes
from azure.core.exceptions import HttpResponseError

from aml_magics.local import daemon
from tests.conftest import client_of, connect

pytestmark = pytest.mark.skipif(not find_spec("flaml"), reason="needs the extra `automl`")


@pytest.fixture
def table(tmp_path):
    """A folder with an MLTable of a DataFrame."""

    def call(name, frame):
        folder = tmp_path / name
        folder.mkdir()
        frame.to_csv(folder / "rows.csv", index=False)
        reader = {"read_delimited": {"delimiter": ",", "encoding": "utf8"}}
        about = {"paths": [{"file": "./rows.csv"}], "transformations": [reader]}
        (folder / "MLTable").write_text(json.dumps(about))
        return Input(type=AssetTypes.MLTABLE, path=str(folder))

    return call


def flowers(rows=120, seed=0):
    """Two kinds told apart by length and colour; a gap, a date and an id beside."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, rows)
    length = kind * 2.0 + random.normal(size=rows)
    length[0] = np.nan
    return pd.DataFrame(
        {
            "length": length,
            "colour": np.where(kind + random.normal(scale=0.5, size=rows) > 0.5, "red", "blue"),
            "seen": pd.date_range("2024-01-01", periods=rows).astype(str),
            "id": [f"plant-{n}" for n in range(rows)],
            "kind": np.where(kind == 1, "rose", "iris"),
        }
    )


def prices(rows=150):
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(rows, 3)), columns=["a", "b_c", "d"])
    return frame.assign(price=3 * frame["a"] - frame["b_c"] + random.normal(scale=0.1, size=rows))


def sales():
    """Two shops with a weekly rhythm."""
    days = np.arange(90)
    shops = [
        pd.DataFrame(
            {
                "day": pd.date_range("2024-01-01", periods=90).astype(str),
                "shop": shop,
                "sold": level + 5 * np.sin(2 * np.pi * days / 7),
            }
        )
        for shop, level in (("north", 10.0), ("south", 40.0))
    ]
    return pd.concat(shops)


@pytest.fixture
def best_of(client):
    """The best trial of a search, as programs find it: by a tag of the parent's run."""

    def call(job):
        mlflow.set_tracking_uri(client.workspaces.get(client.workspace_name).mlflow_tracking_uri)
        runs = mlflow.tracking.MlflowClient()
        parent = runs.get_run(job.name)
        return parent, runs.get_run(parent.data.tags["automl_best_child_run_id"])

    return call


def test_a_classification_keeps_its_trials_and_its_best_model(
    client, run, table, best_of, tmp_path
):
    job = automl.classification(
        compute="cpu",
        experiment_name="flowers",
        training_data=table("training", flowers()),
        test_data=table("test", flowers(40, seed=5)),
        target_column_name="kind",
        primary_metric="AUC_weighted",
        n_cross_validations=3,
        outputs={"best_model": Output(type="mlflow_model", name="flowers", version="7")},
    )
    job.set_limits(max_trials=3, timeout_minutes=10, trial_timeout_minutes=5)
    job.set_training(allowed_training_algorithms=["LightGBM", "LogisticRegression", "RandomForest"])
    done = run(job, 240)
    assert done.status == "Completed"

    trials = {child.name: child for child in client.jobs.list(parent_job_name=done.name)}
    assert sorted(trials) == [f"{done.name}_{number}" for number in range(3)]
    assert {child.status for child in trials.values()} == {"Completed"}
    trial = client.jobs.get(f"{done.name}_0")
    assert trial.properties["run_algorithm"] == "LightGBM"
    assert 0.5 < float(trial.properties["score"]) <= 1

    parent, best = best_of(done)
    assert best.data.tags["mlflow.parentRunId"] == done.name
    assert best.info.run_id in trials
    assert parent.data.metrics["AUC_weighted"] == best.data.metrics["AUC_weighted"]
    assert float(client.jobs.get(best.info.run_id).properties["score"]) == pytest.approx(
        max(float(client.jobs.get(name).properties["score"]) for name in trials)
    )
    assert best.data.params
    assert best.data.metrics["AUC_weighted"] > 0.8
    assert best.data.metrics["test_accuracy"] > 0.7

    rows = flowers(20, seed=9).drop(columns="kind")
    for uri in (f"runs:/{best.info.run_id}/outputs/mlflow-model", "models:/flowers/7"):
        model = mlflow.sklearn.load_model(uri)
        assert set(model.predict(rows)) <= {"rose", "iris"}
        assert model.predict_proba(rows).shape == (20, 2)


def test_a_regression_step_takes_its_tables_from_the_pipeline(client, run, why, table, tmp_path):
    (tmp_path / "tell.py").write_text(
        "import sys, mlflow, pandas as pd\n"
        "from pathlib import Path\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "row = pd.DataFrame({'a': [2.0], 'b_c': [1.0], 'd': [0.0]})\n"
        "Path(sys.argv[2], 'text').write_text(str(model.predict(row)[0]))\n"
    )
    train = {
        "type": "automl",
        "task": "regression",
        "primary_metric": "r2_score",
        "target_column_name": "price",
        "training_data": "${{parent.inputs.rows}}",
        "validation_data": "${{parent.inputs.held_out}}",
        "featurization": {"mode": "custom", "column_name_and_types": {"b_c": "Numeric"}},
        "limits": {"max_trials": 2, "timeout_minutes": 5},
        "training": {
            "enable_stack_ensemble": False,
            "allowed_training_algorithms": ["elastic_net", "light_gbm"],
        },
        "outputs": {"best_model": {"type": "mlflow_model"}},
    }
    tell = {
        "type": "command",
        "code": str(tmp_path / "tell.py"),
        "command": "python tell.py ${{inputs.model}} ${{outputs.text}}",
        "environment": {"image": "none.invalid/none"},
        "inputs": {
            "model": {
                "type": "mlflow_model",
                "path": "${{parent.jobs.train.outputs.best_model}}",
            }
        },
        "outputs": {"text": "${{parent.outputs.text}}"},
    }
    inputs = {
        name: {"type": "mltable", "path": table(name, frame).path}
        for name, frame in (("rows", prices()), ("held_out", prices(40)))
    }
    pipeline = {
        "type": "pipeline",
        "settings": {"default_compute": "azureml:cpu"},
        "inputs": inputs,
        "outputs": {"text": {"type": "uri_folder"}},
        "jobs": {"train": train, "tell": tell},
    }
    (tmp_path / "pipeline.yml").write_text(json.dumps(pipeline))
    done = run(load_job(tmp_path / "pipeline.yml"), 300)
    assert done.status == "Completed", why(done)
    client.jobs.download(done.name, download_path=tmp_path / "made", output_name="text")
    (text,) = (tmp_path / "made").rglob("text/text")
    assert 3.5 < float(text.read_text()) < 6.5


def test_a_forecast_follows_each_series(run, table, best_of):
    frame = sales()
    is_past = frame["day"] < "2024-03-25"
    job = automl.forecasting(
        compute="cpu",
        training_data=table("training", frame[is_past]),
        target_column_name="sold",
        primary_metric="normalized_root_mean_squared_error",
        n_cross_validations=2,
    )
    job.set_forecast_settings(
        time_column_name="day",
        forecast_horizon=6,
        time_series_id_column_names=["shop"],
        frequency="D",
    )
    job.set_limits(max_trials=2, timeout_minutes=10)
    job.set_training(allowed_training_algorithms=["ElasticNet", "RandomForest"])
    done = run(job, 240)
    assert done.status == "Completed"
    _, best = best_of(done)
    assert best.data.metrics["normalized_root_mean_squared_error"] < 0.1
    model = mlflow.sklearn.load_model(f"runs:/{best.info.run_id}/outputs/mlflow-model")
    found, _ = model.forecast(frame[~is_past].drop(columns="sold"))
    assert np.abs(found - frame[~is_past]["sold"]).max() < 4


def test_a_search_outlives_its_daemon(home, monkeypatch, table):
    address = daemon.ensure(home)
    client = client_of(connect(address, monkeypatch))
    job = automl.regression(
        training_data=table("training", prices()), target_column_name="price", compute="cpu"
    )
    job.set_limits(max_trials=12, timeout_minutes=10)
    job = client.jobs.create_or_update(job)
    until(lambda: list(client.jobs.list(parent_job_name=job.name)))
    os.kill(address.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(address.pid)], timeout=10)

    names = (client.subscription_id, client.resource_group_name, client.workspace_name)
    client = client_of(daemon.door(daemon.ensure(home), *names))
    until(lambda: client.jobs.get(job.name).status in ("Completed", "Failed"))
    done = client.jobs.get(job.name)
    assert done.status == "Completed"
    trials = [child.name for child in client.jobs.list(parent_job_name=job.name)]
    assert sorted(trials) == sorted(f"{job.name}_{number}" for number in range(12))
    assert done.tags["automl_best_child_run_id"] in trials


def until(is_so, seconds=180):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_tasks_of_images_and_texts_are_refused_by_name(client, table):
    job = automl.text_classification(
        training_data=table("training", flowers()),
        validation_data=table("validation", flowers()),
        target_column_name="kind",
        compute="cpu",
    )
    with pytest.raises(HttpResponseError, match="TextClassification") as refused:
        client.jobs.create_or_update(job)
    assert refused.value.status_code == 501


def test_where_flaml_is_missing_jobs_and_steps_are_refused(client_without, table):
    client = client_without("flaml")
    rows = table("training", prices())

    @dsl.pipeline(default_compute="cpu")
    def pipeline(rows):
        automl.regression(
            training_data=rows, target_column_name="price", outputs={"best_model": Output()}
        )

    job = automl.regression(training_data=rows, target_column_name="price", compute="cpu")
    for asked in (job, pipeline(rows)):
        with pytest.raises(HttpResponseError, match=r"'aml-magics\[automl\]'") as refused:
            client.jobs.create_or_update(asked)
        assert refused.value.status_code == 501


@pytest.mark.parametrize(
    ("column", "algorithms", "reason"),
    [
        ("cost", None, "has no column cost: a, b_c, d, price"),
        ("price", ["DecisionTree"], "No algorithm is left to train"),
    ],
)
def test_a_search_fails_with_its_reason(run, why, table, column, algorithms, reason):
    job = automl.regression(
        training_data=table("training", prices()), target_column_name=column, compute="cpu"
    )
    job.set_training(allowed_training_algorithms=algorithms)
    done = run(job)
    assert done.status == "Failed"
    assert reason in why(done)
