"""The local workspace under the unmodified SDK, against bare SQLite and copytree.

Of each piece of work: how long it takes with the SDK, what the daemon does of it (its CPU time),
and how that compares with the SDK's own CPU time.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psutil
import requests
from rows import Row

from aml_magics.local import daemon

NAMES = (daemon.DEFAULT_SUBSCRIPTION, daemon.DEFAULT_RESOURCE_GROUP, "bench")
URI = "azureml://datastores/workspaceblobstore/paths/{}"
CREATED, LISTED, FILES, LARGE_BYTES = 1000, 10_000, 1000, 500_000_000
MIB = 1 << 20


class Measured(NamedTuple):
    """Seconds: on the clock, and of CPU in the daemon and in this process."""

    wall: float
    server: float
    client: float


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, workspace(Path(folder) / "home") as found:
        return [row for what in WORK for row in rows_of(what, Path(folder), *found)]


def rows_of(what: str, folder: Path, address: daemon.Address, client: Any) -> list[Row]:
    prepare, work, floor = WORK[what]
    inputs = prepare(folder, address, client)
    base = clock(lambda: floor(folder, inputs))
    process = psutil.Process(address.pid)
    before, cpu = sum(process.cpu_times()[:2]), time.process_time()
    wall = clock(lambda: work(client, inputs))
    server = sum(process.cpu_times()[:2]) - before
    own = time.process_time() - cpu
    return [
        Row(f"{what}: SDK", "s", wall, base, wall / base, ""),
        Row(f"{what}: server's CPU", "s", server, base, server / base, ""),
        Row(f"{what}: server's CPU to SDK's own", "s", server, own, server / own, "<= 1.0"),
    ]


def clock(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def workspace(home: Path) -> Iterator[tuple[daemon.Address, Any]]:
    """A daemon of its own and the SDK's client, both warm."""
    address = daemon.ensure(home)
    connection = daemon.door(address, *NAMES)
    os.environ.update(connection.environment)
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken

    class Token:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(connection.token, int(time.time()) + 3600)

    options = {"cloud": connection.cloud, "cloud_metadata": connection.cloud_metadata}
    client = MLClient(Token(), *NAMES, show_progress=False, **options)
    list(client.models.list())  # waits for MLflow
    try:
        yield address, client
    finally:
        daemon.stop(home)


# Work: what it needs, what the SDK does, and the floor


def no_inputs(folder: Path, address: daemon.Address, client: Any) -> str:
    return f"d{uuid4().hex[:8]}"


def create(client: Any, name: str) -> None:
    from azure.ai.ml.entities import Data

    for number in range(CREATED):
        path = URI.format(number)
        client.data.create_or_update(Data(name=name, version=str(number), path=path))


def insert(folder: Path, name: str, count: int = CREATED) -> sqlite3.Connection:
    """One row with a commit on disk for each version."""
    db = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE resources (id TEXT PRIMARY KEY, body TEXT)")
    for number in range(count):
        body = {"dataUri": URI.format(number), "dataType": "uri_file", "tags": {}, "properties": {}}
        db.execute("INSERT INTO resources VALUES (?, ?)", (f"{name}/{number}", json.dumps(body)))
    return db


class Versions(NamedTuple):
    name: str
    db: sqlite3.Connection


def versions(folder: Path, address: daemon.Address, client: Any) -> Versions:
    name = no_inputs(folder, address, client)
    url = f"{address.url}{daemon.workspace_id(*NAMES)}/data/{name}/versions"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {address.token}"
        for number in range(LISTED):
            properties = {"dataUri": URI.format(number), "dataType": "uri_file"}
            answer = session.put(f"{url}/{number}", json={"properties": properties}, timeout=60)
            answer.raise_for_status()
    return Versions(name, insert(folder, name, LISTED))


def list_all(client: Any, inputs: Versions) -> None:
    assert sum(1 for _ in client.data.list(inputs.name)) == LISTED


def select(folder: Path, inputs: Versions) -> None:
    rows = inputs.db.execute("SELECT body FROM resources").fetchall()
    assert len([json.loads(body) for (body,) in rows]) == LISTED


def many_files(folder: Path, address: daemon.Address, client: Any) -> Path:
    source = folder / f"many {uuid4().hex[:8]}"
    for number in range(FILES):
        path = source / f"{number % 20}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(KILOBYTES))
    return source


KILOBYTES = 4096


def large_file(folder: Path, address: daemon.Address, client: Any) -> Path:
    source = folder / f"large {uuid4().hex[:8]}"
    source.mkdir()
    piece = os.urandom(MIB)
    with (source / "large.bin").open("wb") as file:
        for _ in range(LARGE_BYTES // MIB):
            file.write(piece)
    return source


def snapshot(client: Any, source: Path) -> None:
    """A component's code goes up as the snapshot of a job's does."""
    from azure.ai.ml import command

    component = command(
        name=source.name.replace(" ", "_"),
        command="true",
        code=str(source),
        environment="azureml:AzureML-x@latest",
    ).component
    component.name = source.name.replace(" ", "_")
    client.components.create_or_update(component)


def copy(folder: Path, source: Path) -> None:
    shutil.copytree(source, folder / f"copy of {source.name}")


WORK: dict[str, tuple[Callable[..., Any], Callable[..., None], Callable[..., Any]]] = {
    f"create {CREATED:,} data versions": (no_inputs, create, insert),
    f"list {LISTED:,} data versions": (versions, list_all, select),
    f"snapshot of {FILES:,} files": (many_files, snapshot, copy),
    f"snapshot of {LARGE_BYTES // 1_000_000} MB": (large_file, snapshot, copy),
}
