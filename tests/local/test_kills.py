"""The daemon is killed again and again while many write; what it acknowledged is there, whole."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest

from aml_magics.local import daemon
from aml_magics.local.daemon import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION

SCOPE = daemon.workspace_id(DEFAULT_SUBSCRIPTION, DEFAULT_RESOURCE_GROUP, "killed")
MLFLOW = f"/mlflow/v1.0{SCOPE}/api/2.0/mlflow"
URI = "azureml://datastores/workspaceblobstore/paths/{}"
ROUNDS = 9
ENDS = ("Completed", "Failed", "Canceled")


class Client:
    """One connection; what it asks is answered, refused, or lost with the daemon."""

    def __init__(self, address):
        parts = urlsplit(address.url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self.token = {
            "Authorization": f"Bearer {address.token}",
            "Content-Type": "application/json",
        }

    def ask(self, verb, path, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(verb, path, body, {**self.token, **headers})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise AssertionError(f"{verb} {path}: {answer.status} {content[:500]}")
        return dict(answer.headers.items()), content

    def get(self, path):
        return json.loads(self.ask("GET", path)[1])


class Writer:
    """Writes one kind of thing, numbered: `tried` was sent, `done` was acknowledged."""

    name = ""
    most = 10**9

    def __init__(self, blobs):
        self.blobs, self.tried, self.done = blobs, 0, set()

    def write(self, client):
        self.tried += 1
        self.put(client, self.tried)
        self.done.add(self.tried)

    def put(self, client, number): ...
    def check(self, client): ...


class Versions(Writer):
    def put(self, client, number):
        properties = {"dataUri": URI.format(number), "dataType": "uri_file"}
        client.ask("PUT", f"{SCOPE}/data/d/versions/{number}", {"properties": properties})

    def check(self, client):
        there, url = {}, f"{SCOPE}/data/d/versions?"
        while url:
            page = client.get(url)
            there.update((int(row["name"]), row["properties"]) for row in page["value"])
            url = page.get("nextLink", "").partition("://")[2].partition("/")[2]
            url = f"/{url}" if url else ""
        assert self.done <= there.keys() <= {*range(1, self.tried + 1)}
        for number, properties in there.items():
            assert properties["dataUri"].endswith(f"/paths/{number}")


class Updates(Writer):
    """The same resource over and over: its tags are of one write, and no older than the last."""

    def put(self, client, number):
        properties = {"dataUri": URI.format("x"), "dataType": "uri_file"}
        tags = dict.fromkeys(("a", "b"), str(number))
        body = {"properties": {**properties, "tags": tags}}
        client.ask("PUT", f"{SCOPE}/data/same/versions/1", body)

    def check(self, client):
        tags = client.get(f"{SCOPE}/data/same/versions/1")["properties"]["tags"]
        assert tags["a"] == tags["b"]
        assert max(self.done) <= int(tags["a"]) <= self.tried


class Blobs(Writer):
    """The same blob over and over: content, type and metadata are of one upload."""

    path = "folder/one"

    def put(self, client, number):
        meta = {"x-ms-meta-number": str(number), "x-ms-blob-content-type": f"text/{number}"}
        client.ask("PUT", f"{self.blobs}/{self.path}", self.content(number), **meta)

    def content(self, number):
        return f"{number},".encode() * (number % 7 * 5000 + 1)

    def check(self, client):
        headers, content = client.ask("GET", f"{self.blobs}/{self.path}")
        number = int(headers["x-ms-meta-number"])
        assert headers["content-type"] == f"text/{number}"
        assert content == self.content(number)
        assert max(self.done) <= number <= self.tried


class Blocks(Blobs):
    path = "folder/blocks"

    def put(self, client, number):
        content, half = self.content(number), len(self.content(number)) // 2
        url = f"{self.blobs}/{self.path}"
        client.ask("PUT", f"{url}?comp=block&blockid=YQ==", content[:half])
        client.ask("PUT", f"{url}?comp=block&blockid=Yg==", content[half:])
        meta = {"x-ms-meta-number": str(number), "x-ms-blob-content-type": f"text/{number}"}
        names = b"<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>"
        client.ask("PUT", f"{url}?comp=blocklist", names, **meta)


class Datastores(Writer):
    """Two rows each, and one default among all."""

    def put(self, client, number):
        secrets = {"secretsType": "AccountKey", "key": str(number)}
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": "a",
            "containerName": "c",
            "isDefault": True,
            "credentials": {"credentialsType": "AccountKey", "secrets": secrets},
        }
        client.ask("PUT", f"{SCOPE}/datastores/d{number}", {"properties": properties})

    def check(self, client):
        for number in self.done:
            found = client.ask("POST", f"{SCOPE}/datastores/d{number}/listSecrets")[1]
            assert json.loads(found)["key"] == str(number)
        default = client.get(f"{SCOPE}/datastores?isDefault=true")["value"]
        assert len(default) == 1
        assert int(default[0]["name"].removeprefix("d")) >= max(self.done)


class Models(Writer):
    """Kept in two databases, the workspace's and MLflow's."""

    most = 40

    def put(self, client, number):
        properties = {"modelUri": URI.format("model"), "modelType": "custom_model"}
        client.ask("PUT", f"{SCOPE}/models/m/versions/{number}", {"properties": properties})

    def check(self, client):
        ours = client.get(f"{SCOPE}/models/m/versions?$top=1000")["value"]
        asked = "/model-versions/search?filter=name%3D'm'&max_results=1000"
        theirs = client.get(MLFLOW + asked).get("model_versions", [])
        names = {int(row["name"]) for row in ours}
        assert self.done <= names <= {*range(1, self.tried + 1)}
        assert names == {int(row["version"]) for row in theirs}


class Metrics(Writer):
    run = ""

    def put(self, client, number):
        if not self.run:
            made = client.ask("POST", f"{MLFLOW}/experiments/create", {"name": f"e{number}"})[1]
            body = {"experiment_id": json.loads(made)["experiment_id"], "start_time": 1}
            made = client.ask("POST", f"{MLFLOW}/runs/create", body)[1]
            self.run = json.loads(made)["run"]["info"]["run_id"]
        point = {"key": "m", "value": number, "timestamp": number, "step": number}
        client.ask("POST", f"{MLFLOW}/runs/log-metric", {"run_id": self.run, **point})

    def check(self, client):
        asked = f"/metrics/get-history?run_id={self.run}&metric_key=m&max_results=20000"
        steps = {int(point["step"]) for point in client.get(MLFLOW + asked)["metrics"]}
        assert self.done <= steps <= {*range(1, self.tried + 1)}


class Jobs(Writer):
    most = 12

    def put(self, client, number):
        properties = {"jobType": "Command", "command": "true", "experimentName": "killed"}
        client.ask("PUT", f"{SCOPE}/jobs/j{number}", {"properties": properties})

    def check(self, client):
        deadline = time.monotonic() + 90
        for number in self.done:
            while client.get(f"{SCOPE}/jobs/j{number}")["properties"]["status"] not in ENDS:
                assert time.monotonic() < deadline, number
                time.sleep(0.05)
            info = client.get(f"{MLFLOW}/runs/get?run_id=j{number}")["run"]["info"]
            assert info["status"] in ("FINISHED", "FAILED")


KINDS = (Versions, Updates, Blobs, Blocks, Datastores, Models, Metrics, Jobs)
LOST = (ConnectionError, http.client.HTTPException, OSError)


def keep_writing(writer, address, errors):
    """Write until the daemon is gone."""
    client = Client(address)
    try:
        while writer.tried < writer.most:
            writer.write(client)
    except LOST:
        pass
    except Exception as exc:
        errors.append(exc)
    finally:
        client.connection.close()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kills(home):
    chance = random.Random(3)
    address = daemon.ensure(home)
    client = Client(address)
    place = client.get(f"{SCOPE}/datastores/workspaceblobstore")["properties"]
    blobs = f"/blob/{place['accountName']}/{place['containerName']}"
    client.ask("PUT", f"{blobs}/model", b"a model")
    client.connection.close()
    writers, errors = [kind(blobs) for kind in KINDS], []
    for number in range(ROUNDS):
        address = daemon.ensure(home)
        threads = [
            threading.Thread(target=keep_writing, args=(writer, address, errors))
            for writer in writers
        ]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.1, 0.6))
        if number % 3 == 2:  # once in a while late enough that MLflow is there, and writes too
            wait_for_mlflow(writers, errors)
            time.sleep(chance.uniform(0, 1))
        os.kill(address.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(address.pid)], timeout=10)
        for thread in threads:
            thread.join()
    assert not errors, str(errors[0])
    client = Client(daemon.ensure(home))
    for writer in writers:
        print(type(writer).__name__, len(writer.done), "of", writer.tried)
        assert writer.done, writer
        writer.check(client)
    names = {path.name for path in (home / "storage").rglob("*") if "user_logs" not in path.parts}
    assert not [name for name in names if name.startswith(".") or len(name) == 32]
    assert not list((home / "incoming").iterdir())
    client.connection.close()


def wait_for_mlflow(writers, errors, timeout=60):
    """Wait until one more metric was logged."""
    metrics = next(writer for writer in writers if isinstance(writer, Metrics))
    before, deadline = len(metrics.done), time.monotonic() + timeout
    while len(metrics.done) == before:
        assert not errors, str(errors[0])
        assert time.monotonic() < deadline
        time.sleep(0.01)
