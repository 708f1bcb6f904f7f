"""A real JupyterLab in a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aml_magics.local import daemon

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
TOKEN = "widgets"  # of a server on this machine's loopback that lives as long as the tests
SETTINGS = {
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def start_lab(folder, home):
    """Start JupyterLab in a folder; returns its process and address."""
    for name, values in SETTINGS.items():
        file = folder / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "IdentityProvider.token": TOKEN,
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "LabApp.expose_app_in_browser": True,
    }
    folders = {
        f"JUPYTER_{kind}_DIR": folder / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")
    }
    environment = {
        **{key: value for key, value in os.environ.items() if key not in {"CI", "AML_WIDGETS"}},
        **{key: str(value) for key, value in folders.items()},
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "AML_LOCAL_HOME": str(home),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(f"{address}/api?token={TOKEN}"), (folder / "lab.log").read_text)
    return process, address


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def wait_for(condition, why, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


class Lab:
    """JupyterLab on a folder of its own, and pages of a browser on it."""

    def __init__(self, folder, address, browser):
        self.folder = folder
        self.address = address
        self.browser = browser
        self.console = []  # what the pages have logged

    def write(self, name, *sources):
        """A notebook of these cells."""
        cells = [new_code_cell(source) for source in sources]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        path = self.folder / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
        return path

    def open(self, name, kernel=True):
        """A page on a notebook, with its kernel or without."""
        context = self.browser.new_context(
            viewport={"width": 1200, "height": 1500}, accept_downloads=True
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: self.console.append(message.text))
        page.goto(f"{self.address}/lab?token={TOKEN}&reset")
        page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        page.evaluate(
            "options => jupyterapp.commands.execute('docmanager:open', options)",
            {"path": f"{name}.ipynb", **({} if kernel else {"kernel": None})},
        )
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        if kernel:
            page.wait_for_function(
                "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
            )
        return page

    def run(self, page):
        """Run all cells, to their end."""
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")

    def save(self, page):
        page.evaluate("jupyterapp.commands.execute('docmanager:save')")

    def saved(self, name):
        """A notebook as it is in its file."""
        return nbformat.read(self.folder / f"{name}.ipynb", as_version=4)

    def copy(self, name, copy, without=""):
        """The same notebook under another name, its metadata without a key."""
        target = self.folder / f"{copy}.ipynb"
        shutil.copy(self.folder / f"{name}.ipynb", target)
        if without:
            content = json.loads(target.read_text())
            del content["metadata"][without]
            target.write_text(json.dumps(content))

    def trust(self, name):
        """As a person's own notebook is: its outputs are shown as they are."""
        environment = {**os.environ, "JUPYTER_DATA_DIR": str(self.folder / "data")}
        command = [sys.executable, "-m", "jupyter", "trust", str(self.folder / f"{name}.ipynb")]
        subprocess.run(command, check=True, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab and Chromium, started once for a module; no process is left.

    Playwright has an event loop running until it is closed, in which others cannot run theirs.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="make .venv/.browser installs it"
    )
    pytest.importorskip("jupyterlab", reason="make .venv/.browser installs it")
    if not CHROMIUM:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    folder = tmp_path_factory.mktemp("lab")
    home = tmp_path_factory.mktemp("lab home")
    process, address = start_lab(folder, home)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            yield Lab(folder, address, browser)
            browser.close()
    finally:
        process.terminate()
        process.wait(30)
        daemon.stop(home)


@pytest.fixture
def shot(lab, request):
    """Keep a picture of a page where AML_SCREENSHOTS names a folder."""
    folder = os.environ.get("AML_SCREENSHOTS")

    def take(page, name):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take
