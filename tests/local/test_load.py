"""Under load, while deployments change: no request is lost."""

import os
import threading
import warnings
from collections import Counter
from pathlib import Path

import psutil
import pytest
import requests

from tests.conftest import wait_until

CLIENTS = 6
ROWS = {"input_data": [[0.0], [1.0]]}


@pytest.fixture
def model(tmp_path):
    """The folder of a small MLflow model."""
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    line = LinearRegression().fit(frame, [1.0, 3.0, 5.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        signature = mlflow.models.infer_signature(frame, line.predict(frame))
        mlflow.sklearn.save_model(line, tmp_path / "line", signature=signature)
    return tmp_path / "line"


@pytest.fixture
def deploy(client, model):
    """Create or change a deployment; the endpoint is made with the first."""
    from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, Model

    endpoint = ManagedOnlineEndpoint(name="busy", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    registered = client.models.create_or_update(
        Model(name="line", version="1", path=str(model), type="mlflow_model")
    )

    def call(name, count=1, **variables):
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name="busy",
            model=registered.id,
            instance_type="Standard_DS3_v2",
            instance_count=count,
            environment_variables=variables,
        )
        client.online_deployments.begin_create_or_update(deployment).result()

    yield call
    client.online_endpoints.begin_delete("busy").result()


@pytest.fixture
def traffic(client):
    def call(mirror=None, **shares):
        endpoint = client.online_endpoints.get("busy")
        endpoint.traffic, endpoint.mirror_traffic = shares, mirror or {}
        return client.online_endpoints.begin_create_or_update(endpoint).result()

    return call


class Load:
    """Clients that score again and again, and count the answers by status and deployment."""

    def __init__(self, uri, key):
        self._uri, self._headers = uri, {"Authorization": f"Bearer {key}"}
        self.answers, self.over = Counter(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.is_set():
                self._one(session)

    def _one(self, session):
        answer = session.post(self._uri, json=ROWS, headers=self._headers, timeout=120)
        good = answer.status_code == 200 and answer.json() == pytest.approx([1.0, 3.0])
        status = answer.status_code if good or answer.status_code != 200 else "wrong"
        self.answers[status, answer.headers.get("azureml-model-deployment")] += 1

    def lost(self):
        return sum(n for (status, _), n in self.answers.items() if status != 200)


@pytest.fixture
def load(client):
    def call():
        endpoint = client.online_endpoints.get("busy")
        return Load(endpoint.scoring_uri, client.online_endpoints.get_keys("busy").primary_key)

    return call


def servers(address, deployment):
    """The processes that serve a deployment of this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "name"]):
        command = process.info["cmdline"] or []
        place = f"{address.home}{os.sep}online"
        is_ours = any(part.startswith(place) and f"/busy/{deployment}/" in part for part in command)
        if is_ours and process.info["name"] != "sh" and "--socket" in command:
            found.append(process)
    return found


def test_updates_and_scaling_lose_no_request(address, client, deploy, traffic, load):
    deploy("blue")
    traffic(blue=100)
    (first,) = servers(address, "blue")
    with load() as under:
        deploy("blue", count=2)
        wait_until(lambda: len(servers(address, "blue")) == 2)
        assert first in servers(address, "blue")  # what serves already stays
        deploy("blue", COLOUR="new")
        wait_until(lambda: len(servers(address, "blue")) == 1)
        assert first not in servers(address, "blue")
        deploy("green")
        traffic(blue=50, green=50)
        wait_until(lambda: under.answers[200, "green"] > 5)
        traffic(green=100)
        client.online_deployments.begin_delete("blue", "busy").result()
    assert under.lost() == 0, under.answers
    assert not servers(address, "blue")


def test_a_home_keeps_no_sockets_of_what_has_ended(address, deploy, traffic):
    deploy("blue")
    traffic(blue=100)
    (blue,) = servers(address, "blue")
    path = Path([part for part in blue.cmdline() if part][-1])
    assert path.is_socket()
    deploy("blue", COLOUR="new")
    wait_until(lambda: not path.exists())


def test_kubernetes_endpoints_and_deployments_serve_alike(client, model, tmp_path):
    from azure.ai.ml.entities import (
        KubernetesOnlineDeployment,
        KubernetesOnlineEndpoint,
        Model,
    )

    endpoint = KubernetesOnlineEndpoint(name="cluster", compute="k8s", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    deployment = KubernetesOnlineDeployment(
        name="blue",
        endpoint_name="cluster",
        model=Model(name="line", version="1", path=str(model), type="mlflow_model"),
        instance_count=1,
    )
    client.online_deployments.begin_create_or_update(deployment).result()
    request = tmp_path / "request.json"
    request.write_text('{"input_data": [[1.0]]}')
    answer = client.online_endpoints.invoke(
        "cluster", request_file=str(request), deployment_name="blue"
    )
    assert float(answer.strip("[]")) == pytest.approx(3.0)
    assert isinstance(client.online_endpoints.get("cluster"), KubernetesOnlineEndpoint)
    shown = client.online_deployments.get("blue", "cluster")
    assert isinstance(shown, KubernetesOnlineDeployment)
    client.online_endpoints.begin_delete("cluster").result()


KILLS, PLACES = 8, 4


@pytest.mark.slow
def test_kills_lose_no_request_but_those_in_the_killed_process(address, deploy, traffic, load):
    deploy("blue")
    traffic(blue=100)
    with load() as under:
        for _ in range(KILLS):
            (process,) = servers(address, "blue")
            before = under.answers[200, "blue"]
            wait_until(lambda before=before: under.answers[200, "blue"] > before + 50)
            process.kill()
            wait_until(lambda old=process: servers(address, "blue") not in ([old], []))
    lost = {status: n for (status, _), n in under.answers.items() if status != 200}
    assert set(lost) <= {502} and under.lost() <= KILLS * PLACES, under.answers
