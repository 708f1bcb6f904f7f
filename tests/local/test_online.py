"""An endpoint is a real process: deployed by the unmodified SDK, scored over HTTP."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from aml_magics.local import daemon
from tests.conftest import wait_until

TRAIN = """
import sys
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=500).fit(x, y)
signature = mlflow.models.infer_signature(x, model.predict(x))
mlflow.sklearn.save_model(model, sys.argv[1], signature=signature)
"""
# What a user's script does, word for word; the workspace's names come from the command line.
DEPLOY = """
import json, os, sys
from azure.ai.ml import MLClient
from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, Model
from azure.identity import DefaultAzureCredential

client = MLClient(DefaultAzureCredential(), os.environ["AZURE_SUBSCRIPTION_ID"], "group", "online")
model = client.models.create_or_update(
    Model(path=sys.argv[1], name="iris", version="1", type="mlflow_model"))
endpoint = ManagedOnlineEndpoint(name="iris-endpoint", auth_mode="key")
client.online_endpoints.begin_create_or_update(endpoint).result()
for name in ("blue", "green"):
    client.online_deployments.begin_create_or_update(ManagedOnlineDeployment(
        name=name, endpoint_name=endpoint.name, model=model, instance_type="Standard_DS3_v2",
        instance_count=1, environment_variables={"COLOUR": name})).result()
endpoint.traffic = {"blue": 100}
client.online_endpoints.begin_create_or_update(endpoint).result()

with open("request.json", "w") as file:
    json.dump({"input_data": [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 5.0, 1.8]]}, file)
keys = client.online_endpoints.get_keys(endpoint.name)
client.online_endpoints.begin_regenerate_keys(endpoint.name, key_type="secondary").result()
shown = client.online_endpoints.get(endpoint.name)
print("RESULT", json.dumps({
    "invoked": client.online_endpoints.invoke(endpoint.name, request_file="request.json"),
    "green": client.online_endpoints.invoke(
        endpoint.name, request_file="request.json", deployment_name="green"),
    "primary": keys.primary_key,
    "new_secondary": client.online_endpoints.get_keys(endpoint.name).secondary_key
        != keys.secondary_key,
    "state": shown.provisioning_state,
    "traffic": shown.traffic,
    "scoring_uri": shown.scoring_uri,
    "names": [e.name for e in client.online_endpoints.list()],
    "deployments": sorted(d.name for d in client.online_deployments.list(endpoint.name)),
    "logs": client.online_deployments.get_logs("blue", endpoint.name, lines=100),
}))
"""
DELETE = """
import os
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), os.environ["AZURE_SUBSCRIPTION_ID"], "group", "online")
client.online_endpoints.begin_delete("iris-endpoint").result()
print("RESULT", [e.name for e in client.online_endpoints.list()])
"""
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 5.0, 1.8]]
COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a trained MLflow model."""
    folder = tmp_path_factory.mktemp("model") / "iris"
    command = [sys.executable, "-c", TRAIN, str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder.parent, timeout=120)
    return folder


@pytest.fixture(scope="module")
def script(aml_local, tmp_path_factory):
    """Run a program under ``aml-local run`` and return what it prints after RESULT."""
    folder = tmp_path_factory.mktemp("script")

    def run(source, *arguments):
        path = folder / "program.py"
        path.write_text(f"import os; os.chdir({str(folder)!r})\n{source}")
        done = aml_local("run", "--", sys.executable, path, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("RESULT ")[2]

    return run


@pytest.fixture(scope="module")
def deployed(script, model):
    """What the script saw that deployed two deployments, one with all the traffic."""
    return json.loads(script(DEPLOY, model))


@pytest.fixture(scope="module")
def arm(address):
    """Requests to ARM in the workspace of the deployments, as JSON in and out."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {address.token}"
    scope = daemon.workspace_id(daemon.DEFAULT_SUBSCRIPTION, "group", "online")
    session.verify = daemon.door(address, "s", "g", "w").environment["REQUESTS_CA_BUNDLE"]

    def call(method, path, body=None):
        url = path if path.startswith("https:") else f"{address.secure_url}{scope}{path}"
        return session.request(method, url, json=body)

    yield call
    session.close()


@pytest.fixture
def score(arm, deployed):
    """Score at the direct door with the endpoint's key, or as told."""
    uri = arm("GET", "/onlineEndpoints/iris-endpoint").json()["properties"]["scoringUri"]

    def call(input_data=FLOWERS, key=deployed["primary"], deployment=None, body=None):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if deployment:
            headers["azureml-model-deployment"] = deployment
        payload = {"input_data": input_data} if body is None else body
        return requests.post(uri, json=payload, headers=headers, timeout=60)

    return call


def servers(address):
    """Processes that serve models for this home, by deployment."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            ours = any(part.startswith(str(address.home)) for part in command)
            if ours and "aml_magics.local.scoring" in command and process.name() != "sh":
                place = next(part for part in command if part.startswith(str(address.home)))
                found[place.partition("/iris-endpoint/")[2].partition("/")[0]] = process
    return found


def test_the_sdk_deploys_and_scores(deployed):
    assert deployed["invoked"] == deployed["green"] == "[0,2]"
    assert deployed["state"] == "Succeeded"
    assert deployed["traffic"] == {"blue": 100, "green": 0}
    assert deployed["scoring_uri"] == ("https://iris-endpoint.eastus.inference.ml.azure.com/score")
    assert deployed["names"] == ["iris-endpoint"]
    assert deployed["deployments"] == ["blue", "green"]
    assert deployed["new_secondary"] is True
    assert "Model loaded" in deployed["logs"]


def test_each_deployment_is_a_process_of_its_own(deployed, address):
    blue, green = servers(address)["blue"], servers(address)["green"]
    assert blue.pid != green.pid


@pytest.mark.parametrize("key", [None, "", "wrong", "é"])
def test_without_the_key_there_is_no_answer(score, key):
    refused = score(key=key.encode().decode("latin-1") if key else key)
    assert refused.status_code == 401
    assert "error" in refused.json()


def test_the_daemons_own_token_is_not_a_key(score, address):
    assert score(key=address.token).status_code == 401


@pytest.mark.parametrize(
    "input_data",
    [
        {"columns": COLUMNS, "index": [0, 1], "data": FLOWERS},
        {"columns": COLUMNS[::-1], "data": [row[::-1] for row in FLOWERS]},
        [dict(zip(COLUMNS, row, strict=True)) for row in FLOWERS],
        dict(zip(COLUMNS, map(list, zip(*FLOWERS, strict=True)), strict=True)),
        FLOWERS,
    ],
    ids=["split", "split in another order", "records", "columns", "rows"],
)
def test_all_forms_of_input_data_are_read(score, input_data):
    answer = score(input_data)
    assert (answer.status_code, answer.json()) == (200, [0, 2])
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert float(answer.headers["x-ms-run-fn-exec-ms"]) > 0


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, "400", "input_data"),
        ([], "400", "input_data"),
        ({"input_data": "x"}, "400", "object or list"),
        ({"input_data": FLOWERS, "params": [1]}, "400", "params"),
        ({"input_data": [[1, 2]]}, "400", "4 columns"),
        ({"input_data": [{"a": 1}]}, "400", "missing inputs"),
        ({"input_data": {"columns": COLUMNS, "data": [["x"] * 4]}}, "400", "float"),
        ({"input_data": []}, "500", "minimum of 1"),
    ],
)
def test_bad_input_is_said_to_be(score, body, status, message):
    answer = score(body=body)
    assert answer.status_code == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == status
    assert answer.headers["ms-azureml-model-error-reason"] == "model_error"
    assert message in answer.json()["error"]["message"]
    assert answer.headers["azureml-model-deployment"] == "blue"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("PUT", "", 405),
        ("POST", "", 405),
        ("DELETE", "score", 405),
        ("PUT", "swagger.json", 405),
    ],
)
def test_an_endpoint_says_that_it_is_healthy(arm, deployed, method, path, status):
    uri = arm("GET", "/onlineEndpoints/iris-endpoint").json()["properties"]["scoringUri"]
    url = uri.removesuffix("score") + path
    headers = {"Authorization": f"Bearer {deployed['primary']}"}
    answer = requests.request(method, url, headers=headers, timeout=60)
    assert answer.status_code == status
    assert answer.text == ("Healthy" if method == "GET" else answer.text)
    assert status == 200 or method not in answer.headers["Allow"].split(", ")
    assert requests.request(method, url, timeout=60).status_code == 401


def test_a_deployment_can_be_asked_for_by_name(score):
    assert score(deployment="green").headers["azureml-model-deployment"] == "green"
    assert score(deployment="red").status_code == 404


def test_the_process_answers_only_through_the_endpoint(deployed, address):
    """It listens on a socket in a folder that is its user's, and on no port."""
    blue = servers(address)["blue"]
    assert not [c for c in blue.net_connections() if c.status == "LISTEN"]
    path = Path([part for part in blue.cmdline() if part][-1])
    assert path.is_socket() and path.parent.stat().st_mode & 0o077 == 0


def test_traffic_is_split_by_its_weights(arm, score):
    shown = arm("GET", "/onlineEndpoints/iris-endpoint").json()
    for traffic, served in [
        ({"blue": 50, "green": 50}, {"blue", "green"}),
        ({"blue": 100}, {"blue"}),
    ]:
        shown["properties"]["traffic"] = traffic
        assert arm("PUT", "/onlineEndpoints/iris-endpoint", shown).status_code == 201
        assert {score().headers["azureml-model-deployment"] for _ in range(30)} == served


@pytest.mark.parametrize(
    ("path", "properties", "status", "message"),
    [
        ("/onlineEndpoints/iris-endpoint", {"traffic": {"blue": 60}}, 400, "60 %"),
        ("/onlineEndpoints/iris-endpoint", {"traffic": {"red": 100}}, 400, "does not exist"),
        ("/onlineEndpoints/iris-endpoint", {"traffic": {"blue": "all"}}, 400, "percents"),
        ("/onlineEndpoints/x", {"authMode": "Key"}, 400, "not valid"),
        ("/onlineEndpoints/other", {"authMode": "password"}, 400, "none of"),
        ("/onlineEndpoints/none/deployments/blue", {"model": "m"}, 404, "none not found"),
        ("/onlineEndpoints/iris-endpoint/deployments/red", {}, 400, "no model"),
        ("/onlineEndpoints/iris-endpoint/deployments/red", {"model": "azureml:x:1"}, 404, "x"),
        (
            "/onlineEndpoints/iris-endpoint/deployments/red",
            {"model": "azureml:iris:1", "codeConfiguration": {"scoringScript": "s.py"}},
            400,
            "codeId",
        ),
        (
            "/onlineEndpoints/iris-endpoint/deployments/red",
            {"model": "azureml:iris:1", "requestSettings": {"requestTimeout": "long"}},
            400,
            "requestTimeout",
        ),
        ("/onlineEndpoints/iris-endpoint", {"mirrorTraffic": {"blue": 60}}, 400, "50 %"),
        (
            "/onlineEndpoints/iris-endpoint",
            {"traffic": {"blue": 100}, "mirrorTraffic": {"blue": 10}},
            400,
            "mirror it to another",
        ),
    ],
)
def test_what_cannot_be_is_refused(arm, deployed, path, properties, status, message):
    answer = arm("PUT", path, {"location": "eastus", "properties": properties})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


MONITOR = "/onlineEndpoints/iris-endpoint/providers/Microsoft.Insights/metrics"


def test_requests_are_counted_as_azure_monitor_shows_them(arm, score):
    """By deployment and by class of the status, minute by minute."""
    for body in ({}, None, None):
        score(body=body, deployment="green")
    query = "?metricnames=RequestsPerMinute&interval=PT1M&$filter="
    split = "deployment eq 'green' and statusCodeClass eq '*'"
    (metric,) = arm("GET", MONITOR + query + split).json()["value"]
    assert metric["unit"] == "Count" and metric["name"]["value"] == "RequestsPerMinute"
    sums = {}
    for series in metric["timeseries"]:
        names = [one["name"]["value"] for one in series["metadatavalues"]]
        assert names == ["deployment", "statuscodeclass"] and len(series["data"]) == 60
        values = [one["value"] for one in series["metadatavalues"]]
        sums[tuple(values)] = sum(point["average"] for point in series["data"])
    assert sums[("green", "2xx")] >= 2 and sums[("green", "4xx")] >= 1
    latencies = arm("GET", MONITOR + "?metricnames=RequestLatency,RequestLatency_P99").json()
    mean, highest = (one["timeseries"][0]["data"] for one in latencies["value"])
    pairs = [(a["average"], b["average"]) for a, b in zip(mean, highest, strict=True) if len(a) > 1]
    assert pairs and all(0 < low <= high for low, high in pairs)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (MONITOR.replace("iris-", "no-"), 404, "not found"),
        (f"{MONITOR}?interval=PT5M", 400, "PT1M"),
        (f"{MONITOR}?metricnames=Joy", 400, "RequestsPerMinute"),
        (f"{MONITOR}?metricnames=RequestLatency&$filter=statusCode eq '200'", 400, "statuscode"),
        (f"{MONITOR}?$filter=deployment eq 'a' or deployment eq 'b'", 400, "$filter"),
        (f"{MONITOR}?aggregation=Total", 400, "averages"),
        (f"{MONITOR}?timespan=yesterday", 400, "BEGIN/END"),
        (f"{MONITOR}?timespan=2026-01-02T00:00:00Z/2026-01-01T00:00:00Z", 400, "30 days"),
    ],
)
def test_what_monitor_cannot_tell_is_refused(arm, deployed, path, status, message):
    answer = arm("GET", path)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["blue", "BLUE"])
def test_a_deployment_with_traffic_is_not_deleted(arm, deployed, name):
    answer = arm("DELETE", f"/onlineEndpoints/iris-endpoint/deployments/{name}")
    assert answer.status_code == 400
    assert "traffic" in answer.json()["error"]["message"]


def test_tokens_open_an_endpoint_that_asks_for_them(arm, deployed, address):
    path = "/onlineEndpoints/by-token"
    arm("PUT", path, {"properties": {"authMode": "amltoken"}})
    assert arm("POST", f"{path}/listKeys").status_code == 400
    token = arm("POST", f"{path}/token").json()
    uri = arm("GET", path).json()["properties"]["scoringUri"]
    headers = {"Authorization": f"Bearer {token['accessToken']}"}
    assert requests.post(uri, json={}, timeout=60).status_code == 401
    answer = requests.post(uri, json={}, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NoDeployment")
    outside = requests.get(address.url + "/subscriptions", headers=headers, timeout=60)
    assert outside.status_code == 401
    assert arm("DELETE", path).status_code == 202


def test_a_model_that_does_not_load_fails_its_deployment_with_the_log(arm, deployed, address):
    uri = arm("GET", "/models/iris/versions/1").json()["properties"]["modelUri"]
    place = uri.partition("/paths/")[2]
    (folder,) = (address.home / "storage").glob(f"*/*/{place}")
    broken = folder.with_name("broken")
    broken.mkdir()
    (broken / "MLmodel").write_text("flavors: {}\n")
    body = {"modelUri": uri.replace(f"/{folder.name}", "/broken"), "modelType": "mlflow_model"}
    assert arm("PUT", "/models/broken/versions/1", {"properties": body}).status_code == 201

    path = "/onlineEndpoints/iris-endpoint/deployments/broken"
    started = arm("PUT", path, {"properties": {"model": "azureml:broken:1"}})
    assert started.json()["properties"]["provisioningState"] == "Creating"
    operation = started.headers["Azure-AsyncOperation"]
    wait_until(lambda: arm("GET", operation).json()["status"] != "Creating")
    ended = arm("GET", operation).json()
    assert ended["status"] == "Failed"
    assert "python_function" in ended["error"]["message"]
    assert arm("DELETE", path).status_code == 202
    assert arm("GET", path).status_code == 404


def test_a_killed_process_is_started_again(score, address):
    blue = servers(address)["blue"]
    blue.kill()
    wait_until(lambda: score().status_code == 200)
    assert servers(address)["blue"].pid != blue.pid


def test_processes_survive_a_killed_daemon_and_are_found_again(score, address):
    before = servers(address)
    killed = psutil.Process(daemon.find(address.home).pid)
    killed.kill()
    killed.wait(30)
    assert daemon.ensure(address.home).url == address.url
    wait_until(lambda: score().status_code == 200)
    assert servers(address) == before


def test_a_stopped_daemon_leaves_no_process_and_serves_again_when_started(score, address):
    assert servers(address)
    daemon.stop(address.home)
    assert not servers(address)
    daemon.ensure(address.home)
    wait_until(lambda: score().status_code == 200)


def test_deleting_the_endpoint_ends_its_processes(score, script, address):
    assert servers(address)
    assert script(DELETE).strip() == "[]"
    assert not servers(address)
    assert score().status_code == 404
