"""Services of a job: what looks into it while it runs, on ports of the loopback address."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aml_magics.local.controllers.distribution import HOST, free_port
from aml_magics.local.store import Body

OWN = ("Tracking", "Studio")  # the workspace's, which every job has


class Service(NamedTuple):
    """A kind of service: the program that is it, its arguments and its page."""

    program: str
    arguments: Callable[[int, str, Path], list[str]]
    page: str


def _jupyter(port: int, token: str, folder: Path) -> list[str]:
    return [
        "--no-browser",
        "--allow-root",
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}",
    ]


def _tensorboard(port: int, token: str, folder: Path) -> list[str]:
    return ["--host", HOST, "--port", str(port), "--logdir", str(folder)]


SERVICES = {
    "JupyterLab": Service("jupyter-lab", _jupyter, "/lab?token={token}"),
    "TensorBoard": Service("tensorboard", _tensorboard, "/"),
}


def started(asked: Body, programs: Path, folder: Path, logs: Path) -> tuple[list[str], Body]:
    """The lines of shell that start a job's services, and what is told of each.

    Args:
        asked: services by name, as ARM has them.
        programs: folder of the programs of the job's environment; folder: the job's own.
        logs: folder for what the services print.
    """
    lines, told = [], {}
    for name, service in asked.items():
        kind = str(service.get("jobServiceType"))
        about: Body = {
            "type": kind,
            "port": None,
            "status": "Failed",
            "endpoint": None,
            "error": None,
        }
        row = SERVICES.get(kind)
        if row is None:
            about["error"] = _error(f"The local workspace offers no {kind}.")
        elif not (programs / row.program).exists():
            about["error"] = _error(f"{row.program} is not installed in the job's environment.")
        else:
            line, more = _start(row, service, programs, folder)
            lines.append(f"{line} > {shlex.quote(str(logs / f'{name}.txt'))} 2>&1 &")
            about |= more
        told[name] = about
    return lines, told


def _error(message: str) -> Body:
    return {"error": {"code": "UserError", "message": message}}


def _start(row: Service, service: Body, programs: Path, folder: Path) -> tuple[str, Body]:
    port, token = free_port(), secrets.token_urlsafe(24)
    place = folder / str((service.get("properties") or {}).get("logDir") or "")
    line = shlex.join([str(programs / row.program), *row.arguments(port, token, place)])
    endpoint = f"http://{HOST}:{port}{row.page.format(token=token)}"
    facts: dict[str, Any] = {"port": port, "status": "Running", "endpoint": endpoint}
    return line, facts
