"""A Jupyter kernel seen as a front end sees it: what it prints, and when that arrives."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jupyter_client.manager import start_new_kernel

from aml_magics.local import daemon

QUIET = ["--log-level=ERROR"]


class Line(NamedTuple):
    """A line of output and when it arrived, in seconds of ``time.time``."""

    text: str
    arrived: float


class Kernel:
    """A new kernel, shut down at the end of the ``with`` block."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.manager, self.client = start_new_kernel(env=environment, extra_arguments=QUIET)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str) -> str:
        """Execute a cell and return what it printed."""
        return "\n".join(line.text for line in self.lines(code))

    def lines(self, code: str) -> Iterator[Line]:
        """Execute a cell and yield the lines it prints as they arrive.

        Raises: RuntimeError: the cell raised.
        """
        request = self.client.execute(code)
        unfinished = ""
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                *whole, unfinished = (unfinished + content["text"]).split("\n")
                now = time.time()
                yield from (Line(text, now) for text in whole)
            elif kind == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return


@contextmanager
def logged_in(home: Path) -> Iterator[Kernel]:
    """Yield a kernel logged in to a workspace of its own, which is stopped at the end."""
    try:
        with Kernel({**os.environ, "AML_LOCAL_HOME": str(home)}) as kernel:
            kernel.run("%load_ext aml_magics\n%aml login --local")
            yield kernel
    finally:
        daemon.stop(home)
