"""The daemon's own process: one application behind an http and a TLS port."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvicorn
import uvloop
from starlette.types import ASGIApp

import aml_magics
from aml_magics.local import files, tls
from aml_magics.local.daemon import Address, read_address, write_address
from aml_magics.local.doors import direct, through_doors

log = logging.getLogger(__name__)
IDLE_SECONDS = 8 * 3600.0
HEAD_START_SECONDS = 0.05
GRACE_SECONDS = 1  # clients keep connections open that they do not use


class Local(Protocol):
    """What runs besides answering requests: controllers, jobs, MLflow."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def is_busy(self) -> bool:
        """Claim that something lives which must not end with an idle daemon."""
        ...


class Server(uvicorn.Server):
    """One of two servers in a process that handles its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    """Serve ``--home``; ``--ready`` is a file descriptor to write to once bound."""
    parser = argparse.ArgumentParser(prog="python -m aml_magics.local")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ready", type=int)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aml_magics").setLevel(logging.INFO)
    serve(options.home, options.ready)


def serve(home: Path, ready: int | None = None) -> None:
    """Serve ``home`` until SIGTERM or a long idle time; return at once if it is being served.

    ``AML_LOCAL_IDLE`` is that time in seconds, 0 for none.
    """
    lock = files.hold_lock(home / "daemon.lock")
    if lock is None:
        return
    with lock:
        from aml_magics.local import app, processes

        processes.keep_files_private()
        address, sockets = _bind(home)
        application, local = app.create(home, address)
        front = through_doors(application, direct(address.url, address.secure_url))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(front, local, address, sockets, ready))


def _bind(home: Path) -> tuple[Address, list[socket.socket]]:
    """Listen where, and keep the token that, running jobs know from an earlier daemon."""
    last = read_address(home)
    urls = (last.url, last.secure_url) if last else ("", "")
    sockets = [_listen(urlsplit(url).port or 0) for url in urls]
    plain, secure = (sock.getsockname()[1] for sock in sockets)
    token = last.token if last else secrets.token_urlsafe(32)
    address = Address(
        url=f"http://127.0.0.1:{plain}",
        secure_url=f"https://127.0.0.1:{secure}",
        token=token,
        pid=os.getpid(),
        home=home,
        version=aml_magics.__version__,
    )
    return address, sockets


def _listen(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.bind(("127.0.0.1", 0))
    sock.listen(2048)
    return sock


async def _run(
    app: ASGIApp, local: Local, address: Address, sockets: list[socket.socket], ready: int | None
) -> None:
    idle = float(os.environ.get("AML_LOCAL_IDLE") or IDLE_SECONDS)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a handler: jobs would inherit SIG_IGN
    plain = _server(app)
    async with asyncio.TaskGroup() as group:
        group.create_task(plain.serve(sockets=sockets[:1]))
        _announce(address, ready)
        await _first_answer(plain)
        certificate = await asyncio.to_thread(tls.certificate, address.home)
        secure = _server(app, ssl_certfile=str(certificate))
        group.create_task(secure.serve(sockets=sockets[1:]))
        local.start()
        watch = group.create_task(_stop_when_idle(stopping, local, (plain, secure), idle))
        await stopping.wait()
        watch.cancel()
        plain.should_exit = secure.should_exit = True
    await asyncio.to_thread(local.stop)
    log.info("stopped")


def _announce(address: Address, ready: int | None) -> None:
    write_address(address)
    log.info("serving at %s and %s, version %s", *address[:2], address.version)
    if ready is not None:
        os.write(ready, b"\n")
        os.close(ready)


async def _first_answer(server: Server) -> None:
    """Let who waits for this daemon be answered, before certificates and MLflow take the time."""
    deadline = asyncio.get_running_loop().time() + HEAD_START_SECONDS
    while not server.server_state.total_requests and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)


def _server(app: ASGIApp, **options: Any) -> Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing is between a client and the loopback
        timeout_graceful_shutdown=GRACE_SECONDS,
        **options,
    )
    return Server(config)


async def _stop_when_idle(
    stopping: asyncio.Event, local: Local, servers: tuple[Server, ...], limit: float
) -> None:
    loop = asyncio.get_running_loop()
    seen, since = -1, loop.time()
    while limit > 0 and loop.time() - since < limit:
        await asyncio.sleep(min(60.0, limit / 4))
        requests = sum(server.server_state.total_requests for server in servers)
        if requests != seen or local.is_busy():
            seen, since = requests, loop.time()
    if limit > 0:
        stopping.set()
