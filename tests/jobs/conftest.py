"""Jobs submitted with the unmodified SDK and followed to their end."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

TRAIN = """
import sys
import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

x = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
model = LinearRegression().fit(x, 2 * x["x"])
signature = mlflow.models.infer_signature(x, model.predict(x))
mlflow.sklearn.save_model(model, sys.argv[1], signature=signature)
"""
STATES = ("Completed", "Failed", "Canceled")


@pytest.fixture
def ended(client):
    """Wait for a job's end and return it."""

    def call(job, seconds=120):
        deadline = time.monotonic() + seconds
        while (found := client.jobs.get(job.name)).status not in STATES:
            assert time.monotonic() < deadline, f"{job.name} is still {found.status}"
            time.sleep(0.1)
        return found

    return call


@pytest.fixture
def run(client, ended):
    """Submit a job and return it as it ended."""
    return lambda job, seconds=120: ended(client.jobs.create_or_update(job), seconds)


@pytest.fixture
def children(client):
    """Child jobs of a job by display name."""
    return lambda job: {c.display_name: c for c in client.jobs.list(parent_job_name=job.name)}


@pytest.fixture
def read(client, tmp_path):
    """Text of a file of an output of a job, downloaded."""

    def call(job, output, name="text"):
        folder = tmp_path / f"{job.name}-{output}"
        client.jobs.download(job.name, download_path=folder, output_name=output)
        return (folder / "named-outputs" / output / name).read_text()

    return call


@pytest.fixture
def details(address, connection):
    """What run history tells of a job."""
    import requests

    def call(job):
        scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]
        url = f"{address.url}/history/v1.0{scope}/runs/{job.name}/details"
        headers = {"Authorization": f"Bearer {connection.token}"}
        return requests.get(url, headers=headers, timeout=30).json()

    return call


@pytest.fixture
def why(details):
    """Why a job failed, as run history tells it."""

    def call(job):
        error = details(job)["error"]
        return error["error"]["message"] if error else ""

    return call


@pytest.fixture(scope="session")
def doubler(tmp_path_factory):
    """An MLflow model that doubles its column x."""
    folder = tmp_path_factory.mktemp("models") / "doubler"
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN, str(folder)], check=True)
    return folder
