"""Deployments that are changed, broken or deleted while they are being made, without a daemon."""

import os
import sys
import threading
from types import SimpleNamespace

import psutil
import pytest

from aml_magics.local import warm
from aml_magics.local.controllers import instances, online, serving
from aml_magics.local.deployments import REQUEST_SETTINGS
from aml_magics.local.store import Store
from tests.conftest import wait_until

WORKSPACE = "/subscriptions/s/workspaces/w"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints/line"
BLUE = f"{ENDPOINT}/deployments/Blue"
# It needs its model only to start.
SERVER = """
import http.server, pathlib, socketserver, sys
pathlib.Path(sys.argv[1]).read_text()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        print("x" * 99, flush=True)
socketserver.ThreadingUnixStreamServer(sys.argv[-1], Handler).serve_forever()
"""
PROBE = {"initialDelay": "PT10S", "period": "PT10S", "failureThreshold": 3}


@pytest.fixture
def local(tmp_path):
    """What deployments need of the daemon."""
    store = Store(tmp_path / "workspace.db")
    (tmp_path / "model").touch()
    yield SimpleNamespace(
        home=tmp_path,
        store=store,
        warm=warm.Warm(),
        workspace_of=lambda id_: SimpleNamespace(account="account"),
    )
    store.close()


@pytest.fixture
def meanwhile(local, monkeypatch):
    """What happens while a deployment is prepared: to be replaced by a test."""
    hooks = SimpleNamespace(preparing=lambda: None)

    def plan(local, row, check):
        hooks.preparing()
        place = serving.folder(local, row.id)
        place.mkdir(parents=True, exist_ok=True)
        command = (sys.executable, "-c", SERVER, str(local.home / "model"))
        return serving.Plan(row.properties["key"], command, place, dict(os.environ))

    monkeypatch.setattr(serving, "plan", plan)
    return hooks


@pytest.fixture
def told():
    return []


@pytest.fixture
def kept(local, meanwhile, told):
    deployments = online.Online(local, told.append)
    yield deployments
    deployments.stop()


def put(local, key="one"):
    probes = {"readinessProbe": PROBE, "livenessProbe": PROBE}
    properties = {"key": key, "provisioningState": "Updating", **probes}
    body = {"properties": {**properties, "requestSettings": REQUEST_SETTINGS}}
    local.store.put(ENDPOINT, "onlineEndpoints", {"properties": {}})
    local.store.put(BLUE, online.KIND, {**body, "sku": {"capacity": 1}})


def state(local):
    return local.store.get(BLUE).properties["provisioningState"]


def processes(local):
    """The ids of the model servers of this home."""
    found = [one.info for one in psutil.process_iter(["cmdline", "pid"])]
    start = [sys.executable, "-c", SERVER, str(local.home / "model")]  # not the shell before it
    return [one["pid"] for one in found if (one["cmdline"] or [])[:4] == start]


def deployed(local, kept, key="one"):
    put(local, key)
    kept.deploy(BLUE)
    wait_until(lambda: state(local) != "Updating")
    assert state(local) == "Succeeded"


@pytest.mark.parametrize("deleted", [WORKSPACE, ENDPOINT, BLUE.upper()])
def test_what_is_deleted_leaves_nothing(local, kept, told, deleted):
    deployed(local, kept)
    assert processes(local) and kept.keeps(BLUE)
    local.store.delete(deleted)
    told.clear()
    kept.remove_below(deleted)
    assert not processes(local) and not kept.keeps(BLUE)
    assert BLUE in told  # for those who wait in its queue
    assert not serving.folder(local, BLUE).exists()


def test_an_endpoint_whose_name_begins_alike_goes_on(local, kept):
    deployed(local, kept)
    kept.remove_below(ENDPOINT.removesuffix("ne"))
    assert kept.keeps(BLUE) and processes(local)


@pytest.mark.parametrize("model", ["good", "broken"])
def test_a_deployment_whose_row_is_gone_is_not_kept(local, kept, meanwhile, model):
    """As by a deletion just before its keeper began."""
    if model == "broken":
        (local.home / "model").unlink()
    meanwhile.preparing = lambda: local.store.delete(ENDPOINT)
    put(local)
    kept.deploy(BLUE)
    wait_until(lambda: not kept.keeps(BLUE) and kept.live() == 0)
    wait_until(lambda: not processes(local))


def test_what_is_deployed_again_during_its_removal_is_served(local, kept, monkeypatch):
    deployed(local, kept)
    (first,) = processes(local)
    local.store.delete(BLUE)
    let_go = online.Keeper.let_go

    def deploy_again(keeper):
        let_go(keeper)
        put(local)
        kept.deploy(BLUE)

    with monkeypatch.context() as patch:
        patch.setattr(online.Keeper, "let_go", deploy_again)
        kept.remove_below(BLUE)
    wait_until(lambda: state(local) == "Succeeded")
    assert kept.keeps(BLUE) and first not in processes(local) and processes(local)


def test_a_broken_deployment_does_not_succeed_again(local, kept):
    deployed(local, kept)
    (local.home / "model").unlink()
    psutil.Process(processes(local)[0]).kill()
    wait_until(lambda: kept.instances(BLUE)[0].server is None)
    put(local)
    kept.deploy(BLUE)
    wait_until(lambda: state(local) != "Updating")
    assert state(local) == "Failed"


def test_a_deletion_does_not_wait_for_requests_to_the_instances_before(local, kept):
    deployed(local, kept)
    (before,) = kept.instances(BLUE)
    assert before.acquire(1)  # a request that never ends
    deployed(local, kept, "two")
    wait_until(lambda: not before.acquire(2))  # it takes no more
    assert len(processes(local)) == 2
    local.store.delete(BLUE)
    removal = threading.Thread(target=kept.remove_below, args=(BLUE,))
    removal.start()
    removal.join(60)
    assert not removal.is_alive() and not processes(local)


def test_a_path_of_its_own_does_not_hide_the_server(local, tmp_path, monkeypatch):
    """Another interpreter finds the server by a path: what is asked for comes after that."""
    asked = {"PYTHONPATH": str(tmp_path / "mine")}
    other = serving._environment(local, tmp_path / "bin" / "python", asked)
    assert other["PYTHONPATH"].split(os.pathsep) == [
        str(tmp_path / "online/library"),
        *asked.values(),
    ]
    monkeypatch.setenv("PYTHONPATH", "/of/the/daemon")
    own = serving._environment(local, serving.Path(sys.executable), asked)
    assert own["PYTHONPATH"].endswith(f"/of/the/daemon{os.pathsep}{tmp_path}/mine")


def test_a_log_is_shortened_while_its_process_runs(local, kept, monkeypatch):
    """Each probe adds a line; the process goes on in the file that it has open."""
    monkeypatch.setattr(instances, "LOG_LIMIT_BYTES", 1000)
    monkeypatch.setitem(PROBE, "period", "PT0.1S")
    deployed(local, kept)
    log = serving.folder(local, BLUE) / serving.SERVER_LOG
    (running,) = kept.instances(BLUE)
    server = running.server
    wait_until(log.with_suffix(".1.txt").exists)
    for _ in range(20):
        instances.answers(server.socket, 1.0)
    wait_until(lambda: 0 < log.stat().st_size <= 1000)
    assert running.server == server and log.read_text().startswith("x")
