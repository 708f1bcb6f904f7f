"""A disk that is really full: writes are refused as such, and nothing is half there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time

import pytest
import requests

from aml_magics.local import daemon
from aml_magics.local.daemon import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION

SCOPE = daemon.workspace_id(DEFAULT_SUBSCRIPTION, DEFAULT_RESOURCE_GROUP, "small")
KIB = 1 << 10
DISK = 24 * KIB * KIB
LARGE = 512 * KIB
ENDS = ("Completed", "Failed", "Canceled")


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a file system can be mounted by root only: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Workspace:
    """Requests to a daemon whose home is on the small disk."""

    def __init__(self, disk):
        self.home, self.filler = disk / "home", disk / "filler"
        self.address = daemon.ensure(self.home)
        self.ask("GET", f"{SCOPE}/models")  # waits for MLflow
        store = self.ask("GET", f"{SCOPE}/datastores/workspaceblobstore").json()["properties"]
        self.account = store["accountName"]
        self.blobs = f"/blob/{self.account}/{store['containerName']}"
        self.mlflow = f"/mlflow/v1.0{SCOPE}/api/2.0"

    def ask(self, verb, path, body=None):
        headers = {"Authorization": f"Bearer {self.address.token}"}
        options = {"data" if isinstance(body, bytes) else "json": body}
        url = self.address.url + path
        return requests.request(verb, url, headers=headers, timeout=60, **options)

    def fill(self):
        """Leave no byte."""
        with self.filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (KIB * KIB, KIB, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def leave(self, size):
        os.truncate(self.filler, self.filler.stat().st_size - size)

    def files(self):
        folders = (self.home / name for name in ("storage", "incoming", "blocks"))
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def workspace(disk):
    workspace = Workspace(disk)
    yield workspace
    daemon.stop(workspace.home)


LONG = "x" * LARGE
DATA = {"dataUri": "azureml://datastores/workspaceblobstore/paths/x", "dataType": "uri_file"}
JOB = {"jobType": "Command", "command": "true", "experimentName": "e", "description": LONG}
# What is written: request, and where it is read if that is elsewhere.
WRITES = {
    "blob": lambda w: ("PUT", f"{w.blobs}/folder/new", b"x" * LARGE),
    "block": lambda w: ("PUT", f"{w.blobs}/n?comp=block&blockid=eA==", b"x" * LARGE),
    "version": lambda w: (
        "PUT",
        f"{SCOPE}/data/new/versions/1",
        {"properties": {**DATA, "description": LONG}},
    ),
    "datastore": lambda w: (
        "PUT",
        f"{SCOPE}/datastores/new",
        {
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": "a",
                "containerName": "c",
                "description": LONG,
            }
        },
    ),
    "job": lambda w: ("PUT", f"{SCOPE}/jobs/new", {"properties": JOB}),
    "experiment": lambda w: (
        "POST",
        f"{w.mlflow}/mlflow/experiments/create",
        {"name": "new", "tags": [{"key": f"k{n}", "value": "x" * 4000} for n in range(100)]},
    ),
    "artifact": lambda w: (
        "PUT",
        f"{w.mlflow}/mlflow-artifacts/artifacts/{w.account}/azureml/new",
        b"x" * LARGE,
    ),
}


def test_a_full_disk_refuses_writes_and_recovers(workspace):
    kept = workspace.ask("PUT", f"{SCOPE}/data/old/versions/1", {"properties": DATA})
    assert kept.status_code == 201
    assert workspace.ask("PUT", f"{workspace.blobs}/old", b"old").status_code == 201
    before = workspace.files()
    for room in (0, 64 * KIB, 256 * KIB):
        workspace.fill()
        workspace.leave(room)
        check_refused(workspace)
        assert workspace.files() == before
        check_as_before(workspace)
    workspace.filler.unlink()
    for name, write in WRITES.items():
        answer = workspace.ask(*write(workspace))
        assert answer.status_code in (200, 201), (name, answer.text[:300])
    assert daemon.find(workspace.home) == workspace.address
    assert job_end(workspace) == "Completed"


def check_refused(workspace):
    for name, write in WRITES.items():
        answer = workspace.ask(*write(workspace))
        assert answer.status_code == 507, (name, answer.text[:300])
        assert re.search("disk is full|disk I/O error|No space left", answer.text), name


def check_as_before(workspace):
    for path in ("data/new/versions/1", "datastores/new", "jobs/new"):
        assert workspace.ask("GET", f"{SCOPE}/{path}").status_code == 404, path
    listed = workspace.ask("GET", f"{workspace.blobs}?restype=container&comp=list").text
    assert ("<Name>old</Name>" in listed, "new" in listed) == (True, False)
    assert workspace.ask("GET", f"{workspace.blobs}/old").content == b"old"
    assert workspace.ask("GET", f"{SCOPE}/data/old/versions/1").json()["name"] == "1"


def job_end(workspace):
    deadline, path = time.monotonic() + 60, f"{SCOPE}/jobs/new"
    while (status := workspace.ask("GET", path).json()["properties"]["status"]) not in ENDS:
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def test_an_upload_that_fills_the_disk_leaves_the_old_blob(workspace):
    """One that is too large for the disk breaks off; its blocks are not lost for another try."""
    blob = f"{workspace.blobs}/old"
    assert workspace.ask("PUT", blob, b"old").status_code == 201
    assert workspace.ask("PUT", blob, b"x" * DISK).status_code == 507
    for block in ("YQ==", "Yg=="):
        answer = workspace.ask("PUT", f"{blob}?comp=block&blockid={block}", b"x" * 6 * KIB * KIB)
        assert answer.status_code == 201
    before = workspace.files()
    workspace.fill()
    workspace.leave(KIB * KIB)
    list_ = b"<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>"
    assert workspace.ask("PUT", f"{blob}?comp=blocklist", list_).status_code == 507
    assert workspace.ask("GET", blob).content == b"old"
    assert workspace.files() == before
    workspace.filler.unlink()
    assert workspace.ask("PUT", f"{blob}?comp=blocklist", list_).status_code in (201, 507)


def test_a_workspace_does_not_start_on_a_full_disk_and_says_why(workspace):
    workspace.ask("PUT", f"{SCOPE}/data/old/versions/1", {"properties": DATA})
    assert daemon.stop(workspace.home)
    workspace.fill()
    with pytest.raises(daemon.DaemonError, match="no space left"):
        daemon.ensure(workspace.home)
    workspace.filler.unlink()
    workspace.address = daemon.ensure(workspace.home)
    assert workspace.ask("GET", f"{SCOPE}/data/old/versions/1").json()["name"] == "1"
