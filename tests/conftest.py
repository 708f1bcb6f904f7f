"""One daemon for the session on a home with a space in its path, and homes of one's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from aml_magics.local import daemon

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Interrupts come through, even where a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """A running daemon that all tests of the session share."""
    home = tmp_path_factory.mktemp("shared home")
    yield daemon.ensure(home)
    daemon.stop(home)


@pytest.fixture
def home(tmp_path):
    """A home whose daemon may be started, killed and stopped; none is left."""
    yield tmp_path / "own home"
    daemon.stop(tmp_path / "own home")


@pytest.fixture(scope="session")
def aml_local(address):
    """Run ``aml-local`` on the shared daemon, or on ``home=``, as a person does."""

    def call(*arguments, home=address.home, **environment):
        return subprocess.run(
            [sys.executable, "-m", "aml_magics.local.cli", *map(str, arguments)],
            env={**os.environ, "AML_LOCAL_HOME": str(home), **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


@pytest.fixture(autouse=True)
def endpoint_headers(monkeypatch):
    """The SDK keeps the deployment that was invoked last for the next call, to any endpoint."""
    if module := sys.modules.get("azure.ai.ml.constants._endpoint"):
        fields = module.EndpointInvokeFields
        monkeypatch.setattr(fields, "DEFAULT_HEADER", dict(fields.DEFAULT_HEADER))


class Token:
    """Logs in with a token that is there already."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *scopes, **options):
        from azure.core.credentials import AccessToken

        return AccessToken(self.token, int(time.time()) + 3600)


@pytest.fixture
def connection(address, monkeypatch):
    """A workspace that no other test knows, its variables set in this process."""
    return connect(address, monkeypatch)


def connect(address, monkeypatch):
    """Name a new workspace of a daemon, and set its variables."""
    names = ("00000000-0000-0000-0000-000000000000", "tests", f"ws-{uuid4().hex[:8]}")
    found = daemon.door(address, *names)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def client(connection):
    """The unmodified SDK on that workspace."""
    return client_of(connection)


def client_of(connection):
    from azure.ai.ml import MLClient

    scope = connection.tracking_uri.split("/")
    names = scope[scope.index("subscriptions") + 1], scope[scope.index("resourceGroups") + 1]
    options = {"cloud": connection.cloud, "cloud_metadata": connection.cloud_metadata}
    credential = Token(connection.token)
    return MLClient(credential, *names, scope[-1], show_progress=False, **options)


@pytest.fixture(scope="session")
def strict_address(tmp_path_factory):
    """A daemon that makes nothing on demand, as Azure does not."""
    home = tmp_path_factory.mktemp("strict home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AML_LOCAL_STRICT", "1")
        address = daemon.ensure(home)
    yield address
    daemon.stop(home)


@pytest.fixture
def strict_client(strict_address, monkeypatch):
    """The unmodified SDK on a workspace that is not there yet."""
    return client_of(connect(strict_address, monkeypatch))


@pytest.fixture
def client_without(home, monkeypatch, tmp_path):
    """The unmodified SDK on a workspace of one's own whose interpreter lacks a package."""

    def call(package):
        text = f"import sys\nsys.modules[{package!r}] = None\n"
        (tmp_path / "sitecustomize.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return client_of(connect(daemon.ensure(home), monkeypatch))

    return call


@pytest.fixture
def arm(address, connection):
    """Send a request past the SDK; a path that begins with `./` is inside the workspace."""
    scope = connection.tracking_uri.partition("/mlflow/v1.0")[2]

    def send(verb, path, body=None, **headers):
        url = address.url + (scope + path[1:] if path.startswith(".") else path)
        headers = {"Authorization": f"Bearer {connection.token}", **headers}
        options = {"data" if isinstance(body, bytes) else "json": body}
        return requests.request(verb, url, headers=headers, timeout=30, **options)

    return send


def wait_until(condition, seconds=60):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
