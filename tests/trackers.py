"""Tracking servers that are not ours: MLflow's own, and one that has as little as Azure's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from aml_magics.session import AccessToken, Connection, Session


class Anyone:
    def get_token(self, *scopes, **options):
        return AccessToken("any", int(time.time()) + 3600)


def session(url):
    """A session on a tracking server, with nothing else behind it."""
    names = ("00000000-0000-0000-0000-000000000000", "tests", "plain")
    metadata = {"resource_manager": url}
    return Session(Connection(*names, Anyone(), "Local", metadata, {}), url, url)


@contextmanager
def mlflow_server(folder, workers=1):
    """MLflow's own server on a database in a folder: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--workers", str(workers)]
    options += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=folder,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        _await(server, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait()
        log.close()


def _await(server, url):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError("MLflow's server did not start")


@contextmanager
def as_little_as_azure(url):
    """A server before another: no pages' endpoints, small pages, metrics left out of searches."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = forwarded(url, self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


_http = threading.local()


def forwarded(url, verb, path, body):
    if "/ajax-api/" in path:
        return 404, b'{"error": {"code": "NotFound", "message": "no such operation"}}'
    asked = json.loads(body) if body else {}
    pages = [asked.get("max_results", 0), *map(int, _page_sizes(path))]
    if max(pages) >= 1000:
        return 400, b'{"error": {"code": "UserError", "message": "max_results: less than 1000"}}'
    if not hasattr(_http, "session"):
        _http.session = requests.Session()
    headers = {"Content-Type": "application/json"}
    answer = _http.session.request(verb, url + path, data=body, headers=headers, timeout=60)
    if not path.endswith("/runs/search"):
        return answer.status_code, answer.content
    document = answer.json()
    for run in document.get("runs", []):
        run["data"]["metrics"] = run["data"].get("metrics", [])[:1]
    return answer.status_code, json.dumps(document).encode()


def _page_sizes(path):
    query = path.partition("?")[2].split("&")
    return [pair.partition("=")[2] for pair in query if pair.startswith("max_results=")]
