"""The daemon's cold start to its first answered request, against a bare Starlette app."""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import Row, compare

from aml_magics.local import daemon

BARE_APP = Path(__file__).parent / "bare_app.py"


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        new_homes = (Path(folder) / str(number) for number in itertools.count())
        known_home = Path(folder) / "known"
        return [
            compare(what, "ms", start, bare_start, pairs=7, goal="<= 2x")
            for what, start in {
                "daemon start, new home": lambda: daemon_start(next(new_homes)),
                "daemon start, known home": lambda: daemon_start(known_home),
            }.items()
        ]


def daemon_start(home: Path) -> float:
    """Milliseconds from asking for a home's daemon to its first answer; it is then stopped."""
    start = time.perf_counter()
    address = daemon.ensure(home)
    try:
        wait_for_answer(address.url.removeprefix("http://"))
        return 1000 * (time.perf_counter() - start)
    finally:
        daemon.stop(home)


def bare_start() -> float:
    """Milliseconds from starting the bare app to its first answer; it is then stopped."""
    port = free_port()
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, str(BARE_APP), str(port)]) as app:
        try:
            wait_for_answer(f"127.0.0.1:{port}")
            return 1000 * (time.perf_counter() - start)
        finally:
            app.terminate()


def wait_for_answer(host: str) -> None:
    """Ask until the server answers."""
    while True:
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except ConnectionRefusedError:
            time.sleep(0.001)
        finally:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
