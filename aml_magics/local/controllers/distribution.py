"""Distributed jobs: how many processes there are, and what each is told about the others."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

from aml_magics.local.controllers.run import Failed
from aml_magics.local.drivers import distribute
from aml_magics.local.store import Body

HOST = "127.0.0.1"
_MPIRUN = ("--allow-run-as-root", "--oversubscribe", "-np")


def command(plain: list[str], job: Body, folder: Path, logs: Path) -> list[str]:
    """The command that runs a job's processes; `plain` itself for a job that has just one.

    Args: folder: where what the processes are told is written; logs: where each writes its own.
    Raises: Failed: there is no such distribution here.
    """
    asked = job.get("distribution")
    if not asked:
        return plain
    kind = str(asked.get("distributionType") or asked.get("type") or "").lower()
    instances = int((job.get("resources") or {}).get("instanceCount") or 1)
    if kind == "mpi" and (mpirun := shutil.which("mpirun")):
        return [mpirun, *_MPIRUN, str(_count(asked) * instances), *plain]
    if kind not in _VARIABLES:
        raise Failed(f"The local workspace does not run jobs with distribution {kind}.")
    specification = folder / "processes.json"
    processes = _VARIABLES[kind](asked, instances)
    text = json.dumps({"command": plain, "logs": str(logs), "processes": processes})
    specification.write_text(text, "utf-8")
    return [sys.executable, "-I", distribute.__file__, str(specification)]


def _count(asked: Body) -> int:
    return int(asked.get("processCountPerInstance") or 1)


def _pytorch(asked: Body, instances: int) -> list[dict[str, str]]:
    """Source: the variables of torch.distributed's env:// initialization."""
    count, port = _count(asked), free_port()
    shared = {"MASTER_ADDR": HOST, "MASTER_PORT": str(port), "WORLD_SIZE": str(count * instances)}
    return [
        {
            **shared,
            "RANK": str(rank),
            "NODE_RANK": str(rank // count),
            "LOCAL_RANK": str(rank % count),
            "LOCAL_WORLD_SIZE": str(count),
        }
        for rank in range(count * instances)
    ]


def _mpi(asked: Body, instances: int) -> list[dict[str, str]]:
    """What Open MPI tells its processes, where there is no mpirun to do so."""
    count = _count(asked)
    size = {"OMPI_COMM_WORLD_SIZE": str(count * instances)}
    return [
        {
            **size,
            "OMPI_COMM_WORLD_RANK": str(rank),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(rank % count),
            "OMPI_COMM_WORLD_LOCAL_SIZE": str(count),
            "AZ_BATCH_MASTER_NODE": f"{HOST}:{free_port()}",
        }
        for rank in range(count * instances)
    ]


def _tensorflow(asked: Body, instances: int) -> list[dict[str, str]]:
    """Source: the form of TF_CONFIG that tf.distribute reads."""
    counts = {
        "worker": int(asked.get("workerCount") or instances),
        "ps": int(asked.get("parameterServerCount") or 0),
    }
    cluster = {kind: [f"{HOST}:{free_port()}" for _ in range(n)] for kind, n in counts.items() if n}
    tasks = [{"type": kind, "index": i} for kind in cluster for i in range(len(cluster[kind]))]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


_VARIABLES = {"pytorch": _pytorch, "mpi": _mpi, "tensorflow": _tensorflow}
