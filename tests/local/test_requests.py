"""What deployments ask for their requests and probes, and what a scored request may be."""

import json
import threading
import warnings
from collections import Counter

import psutil
import pytest
import requests

from tests.conftest import wait_until

SLOW = """
import os, time
from pathlib import Path

def init():
    pass

def run(raw_data):
    Path(os.environ["SEEN"]).open("a").write(".")
    time.sleep(float(raw_data))
    return os.getpid()
"""


@pytest.fixture
def slow(client, tmp_path):
    """Deploy a script that takes as many seconds as it is asked to."""
    from azure.ai.ml.entities import (
        CodeConfiguration,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
    )

    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "score.py").write_text(SLOW)
    (tmp_path / "seen").touch()
    endpoint = ManagedOnlineEndpoint(name="slow", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()

    def call(name="blue", **options):
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name="slow",
            code_configuration=CodeConfiguration(code=str(folder), scoring_script="score.py"),
            environment_variables={"SEEN": str(tmp_path / f"seen-{name}")},
            instance_type="Standard_DS3_v2",
            instance_count=1,
            **options,
        )
        client.online_deployments.begin_create_or_update(deployment).result()

    yield call
    client.online_endpoints.begin_delete("slow").result()


@pytest.fixture
def send(client):
    """Score and return status, answer and deployment."""

    def call(seconds, deployment="blue"):
        endpoint = client.online_endpoints.get("slow")
        key = client.online_endpoints.get_keys("slow").primary_key
        headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": deployment}
        if deployment is None:
            del headers["azureml-model-deployment"]
        return requests.post(endpoint.scoring_uri, str(seconds), headers=headers, timeout=60)

    return call


def at_once(count, call):
    """The answers of so many calls begun together."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_too_slow_and_too_many_are_refused_as_on_azure(slow, send):
    from azure.ai.ml.entities import OnlineRequestSettings

    settings = OnlineRequestSettings(
        request_timeout_ms=2000, max_concurrent_requests_per_instance=1, max_queue_wait_ms=500
    )
    slow(request_settings=settings)
    assert send(0).status_code == 200
    late = send(4)
    assert late.status_code == 408 and "request_timeout_ms" in late.json()["error"]["message"]
    wait_until(lambda: send(0).status_code == 200)  # it finishes what nobody waits for
    statuses = Counter(answer.status_code for answer in at_once(5, lambda: send(1.5)))
    assert statuses == {200: 1, 429: 4}


def test_the_default_timeout_counts_for_the_answer_and_not_for_the_queue(slow, send):
    """As Azure's 5 s; a laptop's requests wait until one is answered, and none is refused."""
    slow()
    late = send(7)
    assert late.status_code == 408 and "within 5 s" in late.json()["error"]["message"]
    wait_until(lambda: send(0).status_code == 200)
    assert {answer.status_code for answer in at_once(8, lambda: send(1))} == {200}


def test_a_share_is_mirrored_and_nobody_sees_its_answers(client, slow, send, tmp_path):
    slow("blue")
    slow("green")
    endpoint = client.online_endpoints.get("slow")
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 100}, {"green": 50}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    answers = [send(0, None) for _ in range(60)]
    assert {answer.headers["azureml-model-deployment"] for answer in answers} == {"blue"}
    assert len({answer.text for answer in answers}) == 1
    seen = tmp_path / "seen-green"
    wait_until(lambda: seen.exists() and len(seen.read_text()) >= 10)
    assert len(seen.read_text()) <= 50


def limited(**changed):
    from azure.ai.ml.entities import OnlineRequestSettings

    asked = {"max_concurrent_requests_per_instance": 1, "max_queue_wait_ms": 500, **changed}
    return OnlineRequestSettings(**asked)


def test_who_has_waited_in_vain_makes_room(slow, send, tmp_path):
    slow(request_settings=limited(request_timeout_ms=30_000))
    busy = threading.Thread(target=lambda: send(5))
    busy.start()
    wait_until((tmp_path / "seen-blue").exists)
    refused = [send(0) for _ in range(3)]
    busy.join()
    assert {one.status_code for one in refused} == {429}
    assert all(one.elapsed.total_seconds() >= 0.4 for one in refused)


def test_who_waits_for_a_deleted_deployment_is_told_so(client, slow, send, tmp_path):
    slow(request_settings=limited(request_timeout_ms=90_000, max_queue_wait_ms=90_000))
    seen, answers = tmp_path / "seen-blue", []
    threads = [threading.Thread(target=lambda: answers.append(send(45))) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(seen.exists)
    client.online_deployments.begin_delete("blue", "slow").result()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) in ([502, 503], [404, 502])


DEPLOYMENTS = "./onlineEndpoints/slow/deployments"
METRICS = "./onlineEndpoints/slow/providers/Microsoft.Insights/metrics"


@pytest.fixture
def capital(arm, slow):
    """A deployment named Blue; the SDK would write that in lower case."""
    slow("blue")
    properties = arm("GET", f"{DEPLOYMENTS}/blue").json()["properties"]
    assert arm("DELETE", f"{DEPLOYMENTS}/blue").status_code == 202
    assert arm("PUT", f"{DEPLOYMENTS}/Blue", {"properties": properties}).status_code == 201
    wait_until(lambda: "Succeeded" in arm("GET", f"{DEPLOYMENTS}/Blue").text)


def test_a_deployment_has_its_name_in_any_case(arm, capital, send):
    shown = arm("GET", "./onlineEndpoints/slow").json()
    shown["properties"]["traffic"] = {"Blue": 100}
    assert arm("PUT", "./onlineEndpoints/slow", shown).status_code == 201
    answers = [send(0, name) for name in (None, "bLUE")]
    assert {one.headers["azureml-model-deployment"] for one in answers} == {"Blue"}
    query = "?metricnames=RequestsPerMinute&$filter=deployment eq 'blue'"
    (series,) = arm("GET", METRICS + query).json()["value"][0]["timeseries"]
    assert series["metadatavalues"][0]["value"] == "Blue"

    assert arm("DELETE", f"{DEPLOYMENTS}/BLUE").status_code == 400
    shown["properties"]["mirrorTraffic"] = {"BLUE": 10}
    refused = arm("PUT", "./onlineEndpoints/slow", shown)
    assert refused.status_code == 400 and "mirror it to another" in refused.text
    shown["properties"] |= {"traffic": {}, "mirrorTraffic": {}}
    assert arm("PUT", "./onlineEndpoints/slow", shown).status_code == 201
    assert arm("DELETE", f"{DEPLOYMENTS}/BLUE").status_code == 202
    assert arm("GET", METRICS + query).json()["value"][0]["timeseries"] == []


def test_only_questions_are_mirrored(arm, slow, send, tmp_path):
    """Not what a client reads about the endpoint: its swagger.json, or whether it is there."""
    slow("blue")
    slow("green")
    shown = arm("GET", "./onlineEndpoints/slow").json()
    shown["properties"] |= {"traffic": {"blue": 100}, "mirrorTraffic": {"green": 50}}
    assert arm("PUT", "./onlineEndpoints/slow", shown).status_code == 201
    sent = send(0, None).request
    headers = {"Authorization": sent.headers["Authorization"]}
    for _ in range(30):
        requests.get(sent.url, headers=headers, timeout=60)
    seen = tmp_path / "seen-green"
    before = len(seen.read_text()) if seen.exists() else 0
    assert before <= 1
    wait_until(lambda: send(0, None) and seen.exists() and len(seen.read_text()) > before)
    assert len(seen.read_text()) < 30


def test_a_process_that_does_not_answer_is_replaced(slow, send):
    from azure.ai.ml.entities import ProbeSettings

    probe = ProbeSettings(initial_delay=1, period=1, timeout=1, failure_threshold=2)
    slow(
        liveness_probe=probe,
        request_settings=limited(request_timeout_ms=60_000, max_queue_wait_ms=60_000),
    )
    first = int(send(0).text)
    assert send(50).status_code == 502  # it hangs, and is ended
    assert int(send(0).text) != first
    wait_until(lambda: not psutil.pid_exists(first))


def test_what_is_never_ready_fails_with_its_log(client, slow, tmp_path):
    from azure.ai.ml.entities import ProbeSettings
    from azure.core.exceptions import HttpResponseError

    (tmp_path / "code" / "score.py").write_text(
        "import time\ndef init():\n    print('warming', flush=True)\n    time.sleep(600)\n"
        "def run(raw_data):\n    return 1\n"
    )
    probe = ProbeSettings(initial_delay=1, period=1, timeout=1, failure_threshold=5)
    with pytest.raises(HttpResponseError, match=r"not ready within 6 s(.|\n)*warming"):
        slow(readiness_probe=probe)
    assert client.online_deployments.get("blue", "slow").provisioning_state == "Failed"


@pytest.mark.parametrize("mode", ["key", "aml_token", "aad_token"])
def test_what_opens_an_endpoint(client, mode):
    """What the SDK gets opens it; without a deployment that is answered with 404."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    name = f"by-{mode.replace('_', '-')}"
    endpoint = ManagedOnlineEndpoint(name=name, auth_mode=mode)
    client.online_endpoints.begin_create_or_update(endpoint).result()
    uri = client.online_endpoints.get(name).scoring_uri

    def status():
        found = client.online_endpoints.get_keys(name)
        given = found.primary_key if mode == "key" else found.access_token
        return given, opens(given)

    def opens(given):
        headers = {"Authorization": f"Bearer {given}"}
        return requests.post(uri, "{}", headers=headers, timeout=60).status_code

    given, before = status()
    assert before == 404 and opens(given + "x") == 401
    if mode == "key":
        client.online_endpoints.begin_regenerate_keys(name, key_type="primary").result()
        assert opens(given) == 401 and status()[1] == 404
    client.online_endpoints.begin_delete(name).result()
    assert opens(given) == 404


@pytest.mark.slow
def test_a_model_is_served_by_the_environment_it_asks_for(client, tmp_path):
    """Its own interpreter, in which packages have other versions than the daemon's."""
    import pandas as pd
    from azure.ai.ml.entities import (
        Environment,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
    )
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        signature = mlflow.models.infer_signature(frame, [0.0])
        line = LinearRegression().fit(frame, [1.0, 3.0, 5.0])
        mlflow.sklearn.save_model(line, tmp_path / "line", signature=signature)
    packages = ["mlflow-skinny", "pandas<3", "scikit-learn", "skops"]
    conda = {"name": "own", "dependencies": ["python=3.11", "pip", {"pip": packages}]}
    (tmp_path / "conda.yaml").write_text(json.dumps(conda))
    endpoint = ManagedOnlineEndpoint(name="own", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="own",
        model=Model(name="line", version="1", path=str(tmp_path / "line"), type="mlflow_model"),
        environment=Environment(conda_file=str(tmp_path / "conda.yaml"), image="ubuntu"),
        instance_type="Standard_DS3_v2",
        instance_count=1,
    )
    client.online_deployments.begin_create_or_update(deployment).result()
    (tmp_path / "request.json").write_text('{"input_data": [[3.0]]}')
    answer = client.online_endpoints.invoke(
        "own", request_file=str(tmp_path / "request.json"), deployment_name="blue"
    )
    assert json.loads(answer) == pytest.approx([7.0])
    logs = client.online_deployments.get_logs("blue", "own", lines=100)
    assert "Other package versions than the model asks for" in logs
    assert "mlflow is missing" in logs  # mlflow-skinny has another name
    client.online_endpoints.begin_delete("own").result()
