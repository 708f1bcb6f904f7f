"""Updates of a deployment that fail: what served goes on, and comes back with the next daemon."""

import contextlib
import gc
import os
import signal
import warnings

import psutil
import pytest
import requests

from aml_magics.local import daemon
from tests.conftest import client_of, connect, wait_until

ANSWERS = "def init():\n    pass\ndef run(raw_data):\n    return 'first'\n"
BROKEN = "import no_such_package\n" + ANSWERS


@pytest.fixture
def update(home, monkeypatch, tmp_path):
    """Deploy a script of this text in place of what was there; gives the client."""
    from azure.ai.ml.entities import (
        CodeConfiguration,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
    )

    client = client_of(connect(daemon.ensure(home), monkeypatch))
    endpoint = ManagedOnlineEndpoint(name="updated", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()

    def call(name, text, wait=True, **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        deployment = ManagedOnlineDeployment(
            name="blue",
            endpoint_name="updated",
            code_configuration=CodeConfiguration(code=str(folder), scoring_script=f"{name}.py"),
            instance_type="Standard_DS3_v2",
            instance_count=1,
            **options,
        )
        begun = client.online_deployments.begin_create_or_update(deployment)
        return begun.result() if wait else begun

    call.client = client
    yield call
    call.client = client = None
    with warnings.catch_warnings():  # the SDK closes no connection that a killed daemon has cut
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def answer(update):
    """What the deployment answers now, if it does."""
    endpoint = update.client.online_endpoints.get("updated")
    key = update.client.online_endpoints.get_keys("updated").primary_key
    headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": "blue"}

    def call():
        return requests.post(endpoint.scoring_uri, "1", headers=headers, timeout=60).text

    return call


def shown(update):
    found = update.client.online_deployments.get("blue", "updated")
    return found.provisioning_state, found.code_configuration.scoring_script


def kill(home):
    """End the daemon by force; its model servers live on."""
    process = psutil.Process(daemon.find(home).pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)


def test_after_a_failed_update_what_served_goes_on(update, answer, home):
    from azure.core.exceptions import HttpResponseError

    update("first", ANSWERS)
    cause = "Its process ended: ModuleNotFoundError: No module named 'no_such_package'"
    with pytest.raises(HttpResponseError, match=cause):
        update("second", BROKEN)
    assert shown(update) == ("Failed", "first.py") and "first" in answer()
    kill(home)
    daemon.ensure(home)
    assert "first" in answer()
    daemon.stop(home)  # ends the model servers too: another one has to start
    daemon.ensure(home)
    wait_until(lambda: "first" in answer())
    assert shown(update) == ("Failed", "first.py")
    update("third", ANSWERS.replace("first", "third"))
    assert shown(update) == ("Succeeded", "third.py") and "third" in answer()


def test_an_update_that_fails_after_the_daemon_was_killed_is_taken_back(update, answer, home):
    update("first", ANSWERS)
    slow = "import time\ntime.sleep(3)\n" + BROKEN
    update("second", slow, wait=False)
    kill(home)
    daemon.ensure(home)
    wait_until(lambda: shown(update) == ("Failed", "first.py"))
    wait_until(lambda: "first" in answer())


def test_stop_ends_what_a_killed_daemon_left_behind(update, home, aml_local, tmp_path):
    """Its model servers and the processes of its jobs."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    update("first", ANSWERS)
    mark = tmp_path / "pid"
    line = f"echo $$ > '{mark}.new' && mv '{mark}.new' '{mark}' && sleep 600"
    environment = Environment(image="none.invalid/none")
    job = command(command=line, environment=environment, compute="cpu")
    update.client.jobs.create_or_update(job)
    wait_until(mark.exists)
    first, servers = int(mark.read_text()), below(home)
    assert first in servers
    kill(home)
    assert below(home) == servers and len(servers) > 3
    assert aml_local("stop", home=home).stdout == "stopped\n"
    assert below(home) == set()
    assert aml_local("stop", home=home).stdout == "not running\n"


def below(home):
    """Processes that were started for this home, by the file their exit code goes to."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("AML_EXIT", "").startswith(f"{home}/"):
                found.add(process.pid)
    return found


def test_a_failed_deployment_gets_no_traffic(update):
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match="no_such_package"):
        update("first", BROKEN)
    endpoints = update.client.online_endpoints
    endpoint = endpoints.get("updated")
    endpoint.traffic = {"blue": 100}
    with pytest.raises(HttpResponseError, match="blue has failed: update it"):
        endpoints.begin_create_or_update(endpoint).result()
    update("first", ANSWERS)
    endpoints.begin_create_or_update(endpoint).result()
    with pytest.raises(HttpResponseError, match="no_such_package"):
        update("second", BROKEN)  # which the first answers for
    assert endpoints.begin_create_or_update(endpoint).result().traffic == {"blue": 100}


@pytest.mark.parametrize(
    ("properties", "sku", "message"),
    [
        ({"instanceType": "x"}, 1, "'x' is no VM size"),
        ({"instanceType": "Standard_"}, 1, "no VM size"),
        ({"instanceType": 3}, 1, "no VM size"),
        ({"instanceType": "Standard_DS3_v2"}, 0, "from 1 to 50"),
        ({"instanceType": "Standard_DS3_v2"}, 51, "from 1 to 50"),
    ],
)
def test_machines_that_azure_does_not_have_are_refused(arm, properties, sku, message):
    arm("PUT", "./onlineEndpoints/sizes", {"properties": {"authMode": "Key"}})
    path = "./onlineEndpoints/sizes/deployments/blue"
    body = {"properties": {"model": "azureml:x:1", **properties}, "sku": {"capacity": sku}}
    refused = arm("PUT", path, body)
    assert refused.status_code == 400 and message in refused.json()["error"]["message"]
    assert arm("GET", path).status_code == 404
    kept = arm("GET", "./onlineEndpoints/sizes").json()["properties"]
    assert (kept["provisioningState"], kept["traffic"]) == ("Succeeded", {})


@pytest.mark.parametrize("size", ["Standard_NC24ads_A100_v4", "standard_e4-2ds_v4", "LOCAL", None])
def test_machines_that_azure_has_are_not_refused(arm, size):
    arm("PUT", "./onlineEndpoints/sizes", {"properties": {"authMode": "Key"}})
    properties = {"model": "azureml:x:1", "instanceType": size}
    refused = arm("PUT", "./onlineEndpoints/sizes/deployments/blue", {"properties": properties})
    assert refused.status_code == 404 and "x" in refused.json()["error"]["message"]
