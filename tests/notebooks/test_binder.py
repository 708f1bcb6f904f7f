"""What Binder does with ``binder/``: install, open the quickstart, run it."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

CHECKOUT = Path(__file__).parents[2]
BINDER = CHECKOUT / "binder"
# What repo2docker puts into an image before it reads binder/.
BASE_IMAGE = ["jupyterlab", "notebook", "ipykernel"]
QUICKSTART = "notebooks/01_quickstart.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of a clean virtual environment with binder's requirements, bytecode included."""
    folder = tmp_path_factory.mktemp("binder") / "venv"
    python = folder / "bin" / "python"
    requirements = ["--requirements", str(BINDER / "requirements.txt")]
    uv("venv", "--python", sys.executable, str(folder))
    uv("pip", "install", "--compile-bytecode", "--python", str(python), *BASE_IMAGE, *requirements)
    return python


def uv(*arguments):
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], cwd=CHECKOUT, check=True)


def test_the_package_takes_the_python_of_the_image():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert version in SpecifierSet(project["requires-python"])


def test_the_checkout_is_installed_and_not_a_release(python, tmp_path):
    code = "import aml_magics; print(aml_magics.__file__)"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == CHECKOUT / "aml_magics" / "__init__.py"


@pytest.mark.parametrize("application", ["jupyter-lab", "jupyter-notebook", "jupyter-server"])
def test_it_opens_the_quickstart(python, application):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = f"--no-browser --allow-root --port={port} --IdentityProvider.token=".split()
    command = [BINDER / "start", python.with_name(application), *options]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as jupyter:
        try:
            assert first_redirect(port).rstrip("?") == f"/lab/tree/{QUICKSTART}"
        finally:
            jupyter.terminate()


def first_redirect(port):
    """Where the server's root leads, once it answers."""
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().headers["Location"]
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "Jupyter does not answer"
            time.sleep(0.1)
        finally:
            connection.close()


def test_the_quickstart_runs_there(python, home, tmp_path):
    shutil.copytree(CHECKOUT / "notebooks", tmp_path / "notebooks")
    run = home.run("nbconvert", tmp_path / QUICKSTART, tmp_path / "notebooks", python=python)
    assert run.exit_code == 0, run.stderr
    assert "breast-cancer" in run.text_of("register")
