"""Run the processes of a distributed job side by side; the first that fails ends all.

Usage: distribute.py SPECIFICATION, a JSON file: `command`, a list; `logs`, a folder; `processes`, a
list of variables for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

LAST_LINES = 10


def main(specification: str) -> int:
    asked = json.loads(Path(specification).read_text("utf-8"))
    logs = [_log(Path(asked["logs"]), rank) for rank in range(len(asked["processes"]))]
    children = [
        _start(asked["command"], variables, log)
        for variables, log in zip(asked["processes"], logs, strict=True)
    ]
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        rank, code = _next_end(children, codes)
        codes[rank] = code
        if code:
            _tell(rank, code, logs[rank])
            for child in children:
                child.kill()
            return code if code > 0 else 128 - code
    return 0


def _log(folder: Path, rank: int) -> Path:
    """Where a process writes; clients stream the log of the first."""
    return folder / f"std_log_process_{rank:02}.txt"


def _start(command: list[str], variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        env = {**os.environ, **variables}
        return subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)


def _next_end(children: list[subprocess.Popen[bytes]], ended: dict[int, int]) -> tuple[int, int]:
    while True:
        for rank, child in enumerate(children):
            if rank not in ended and child.poll() is not None:
                return rank, child.returncode
        time.sleep(0.02)


def _tell(rank: int, code: int, log: Path) -> None:
    lines = log.read_bytes()[-8192:].decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    print(f"Process {rank} exited with {code}; its last lines ({log.name}):", *lines, sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
