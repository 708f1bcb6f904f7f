"""Scoring scripts, served by Microsoft's own server and deployed by the unmodified SDK."""

import json
import textwrap

import pytest
import requests

SCORE = """
import json, os
from pathlib import Path
from beside import double

def init():
    global folder
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    print("init of", os.environ["COLOUR"])

def run(raw_data):
    values = json.loads(raw_data)["data"]
    if values == "fail":
        raise RuntimeError("told to fail")
    if values == "see":
        place = Path(os.environ["AML_APP_ROOT"])
        return {
            "model": [str(p.relative_to(folder)) for p in sorted(folder.rglob("*"))],
            "is_laid_out": folder.parts[-3:] == ("azureml-models", "numbers", "1"),
            "entry": Path(os.environ["AZUREML_ENTRY_SCRIPT"]).name,
            "cwd": Path.cwd() == place,
            "colour": os.environ["COLOUR"],
        }
    return [double(value) for value in values]
"""
RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    if request.method == "GET":
        return AMLResponse("got " + request.args["name"], 200)
    if request.headers.get("x-wanted") == "teapot":
        return AMLResponse("teapot", 418)
    data = request.get_data(False)
    return AMLResponse(str(len(data)), 201, {"x-own": "yes"})
"""
BROKEN = """
def init():
    raise ValueError("the model is gone")
def run(raw_data):
    return raw_data
"""


@pytest.fixture
def code(tmp_path):
    """A folder of code with these scripts."""
    folder = tmp_path / "code"
    (folder / "inner").mkdir(parents=True)
    (folder / "beside.py").write_text("def double(value):\n    return 2 * value\n")
    for name, text in {"score.py": SCORE, "raw.py": RAW, "inner/broken.py": BROKEN}.items():
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def deploy(client, code, tmp_path):
    """Deploy a script with all the traffic; gives the endpoint as the SDK shows it."""
    made = []

    def call(script, name="scripts", **options):
        made.append(name)
        return deployed(client, code, script, name, tmp_path, **options)

    yield call
    for name in made:
        client.online_endpoints.begin_delete(name).result()


def deployed(client, code, script, name, tmp_path, **options):
    from azure.ai.ml.entities import (
        CodeConfiguration,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
    )

    (tmp_path / "numbers").mkdir(exist_ok=True)
    (tmp_path / "numbers" / "weights.txt").write_text("1 2 3")
    endpoint = ManagedOnlineEndpoint(name=name, auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name=name,
        model=Model(name="numbers", version="1", path=str(tmp_path / "numbers")),
        code_configuration=CodeConfiguration(code=str(code), scoring_script=script),
        environment_variables={"COLOUR": "blue"},
        instance_type="Standard_DS3_v2",
        instance_count=1,
        **options,
    )
    client.online_deployments.begin_create_or_update(deployment).result()
    endpoint.traffic = {"blue": 100}
    return client.online_endpoints.begin_create_or_update(endpoint).result()


@pytest.fixture
def score(client):
    """Score past the SDK."""

    def call(endpoint, method="POST", path="", **options):
        key = client.online_endpoints.get_keys(endpoint.name).primary_key
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        url = endpoint.scoring_uri + path
        return requests.request(method, url, headers=headers, timeout=60, **options)

    return call


def test_a_script_is_deployed_and_scored_by_the_sdk(client, deploy, score, tmp_path):
    endpoint = deploy("score.py")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"data": [1, 2]}))
    assert client.online_endpoints.invoke("scripts", request_file=str(request)) == "[2, 4]"
    seen = score(endpoint, json={"data": "see"})
    assert seen.json() == {
        "model": ["numbers", "numbers/weights.txt"],
        "is_laid_out": True,
        "entry": "score.py",
        "cwd": True,
        "colour": "blue",
    }
    assert float(seen.headers["x-ms-run-fn-exec-ms"]) > 0
    assert seen.headers["azureml-model-deployment"] == "blue"

    failed = score(endpoint, json={"data": "fail"})
    assert failed.status_code == 424
    assert failed.headers["ms-azureml-model-error-statuscode"] == "500"
    logs = client.online_deployments.get_logs("blue", "scripts", lines=200)
    assert "init of blue" in logs and "told to fail" in logs
    prepared = client.online_deployments.get_logs(
        "blue", "scripts", lines=200, container_type="storage-initializer"
    )
    assert "numbers" in prepared and "told to fail" not in prepared

    shown = client.online_deployments.get("blue", "scripts").environment_variables
    assert shown["AZUREML_ENTRY_SCRIPT"] == "score.py"
    assert shown["AZUREML_MODEL_DIR"].endswith("/azureml-models/numbers/1")


def test_a_script_gets_requests_as_they_are(deploy, score):
    endpoint = deploy("raw.py", "raw-http")
    assert score(endpoint, "GET", "?name=iris").text == "got iris"
    stored = score(endpoint, data=b"\0" * 3_000_000)
    assert (stored.status_code, stored.text, stored.headers["x-own"]) == (201, "3000000", "yes")
    refused = score(endpoint, headers={"x-wanted": "teapot"})
    assert (refused.status_code, refused.text) == (424, "teapot")
    assert refused.headers["ms-azureml-model-error-statuscode"] == "418"
    large = score(endpoint, data=b"\0" * (10_500_000))
    assert large.status_code == 413 and "batch" in large.json()["error"]["message"]


def test_a_script_whose_init_fails_fails_its_deployment_with_the_log(client, deploy):
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match="the model is gone"):
        deploy("inner/broken.py", "broken-script")
    shown = client.online_deployments.get("blue", "broken-script")
    assert shown.provisioning_state == "Failed"


def test_a_script_that_is_not_in_the_code_is_refused(deploy, arm):
    deploy("score.py", "other-script")
    path = "./onlineEndpoints/other-script/deployments/blue"
    shown = arm("GET", path).json()
    shown["properties"]["codeConfiguration"]["scoringScript"] = "other.py"
    for script, reason in {"other.py": "no file other.py", "../x.py": "leaves"}.items():
        shown["properties"]["codeConfiguration"]["scoringScript"] = script
        refused = arm("PUT", path, shown)
        assert refused.status_code == 400
        assert reason in refused.json()["error"]["message"]
    assert arm("GET", path).json()["properties"]["provisioningState"] == "Succeeded"


def test_without_the_server_the_deployment_says_what_to_install(client_without, code, tmp_path):
    from azure.core.exceptions import HttpResponseError

    client = client_without("azureml_inference_server_http")
    with pytest.raises(HttpResponseError, match=r"pip install 'aml-magics\[serve\]'"):
        deployed(client, code, "score.py", "no-server", tmp_path)
    assert client.online_deployments.get("blue", "no-server").provisioning_state == "Failed"
