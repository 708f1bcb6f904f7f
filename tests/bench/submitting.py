"""From submitting a trivial cell to its first log line in the notebook, against a bare process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from kernel import Kernel, logged_in
from rows import Row, compare

CODE = "print('first line', flush=True)"
CELL = f"%%aml job\n{CODE}"


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, logged_in(Path(folder) / "home") as kernel:
        script = Path(folder) / "script.py"
        script.write_text(CODE)
        row = compare(
            "submit to first log line",
            "s",
            partial(job_line, kernel),
            partial(process_line, script),
            pairs=7,
            goal="<= 1.0 s more",
        )
    return [row]


def job_line(kernel: Kernel) -> float:
    """Seconds from sending the cell to the arrival of the job's first line."""
    start = time.time()
    arrived = [line.arrived for line in kernel.lines(CELL) if line.text == "first line"]
    return arrived[0] - start


def process_line(script: Path) -> float:
    """Seconds from starting a Python process to its first line."""
    start = time.time()
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        return time.time() - start
