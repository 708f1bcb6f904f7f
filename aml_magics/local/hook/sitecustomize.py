"""Lead Azure's host names to the local workspace, in this process (see ``aml_magics.local.run``).

Python imports this by itself at its start. Only the standard library: the program's interpreter
need not have aml_magics installed.
"""

import fnmatch
import importlib.machinery
import importlib.util
import os
import socket
import sys
from typing import Any

HOSTS = os.environ.get("AML_LOCAL_CLOUD_HOSTS", "").split()
PORT = int(os.environ.get("AML_LOCAL_TLS_PORT") or 443)

_resolve = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
    """Resolve as always, except Azure's hosts at the port of https."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host or ""
    ours = any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in HOSTS)
    if ours and port in (443, "443", "https"):
        return _resolve("127.0.0.1", PORT, *args, **options)
    return _resolve(host, port, *args, **options)


def run_next() -> None:
    """Run the ``sitecustomize`` that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib costs 5 ms)
    others = [path for path in sys.path if os.path.abspath(path) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


socket.getaddrinfo = getaddrinfo
run_next()
