"""How long after a job wrote a line the notebook shows it."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from kernel import Kernel, logged_in
from rows import Row

WRITER = """%%aml job
import random, time
for _ in range(60):
    time.sleep(random.uniform(0.1, 0.4))
    print("written", time.time(), flush=True)
"""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, logged_in(Path(folder) / "home") as kernel:
        delays = line_delays(kernel)
    median, p95 = statistics.median(delays), statistics.quantiles(delays, n=20)[-1]
    return [
        Row("log line written to shown, median", "s", median, None, None, "<= 0.5 s"),
        Row("log line written to shown, p95", "s", p95, None, None, ""),
    ]


def line_delays(kernel: Kernel) -> list[float]:
    """Seconds from writing to showing, for each line of the job."""
    return [
        line.arrived - float(line.text.split()[1])
        for line in kernel.lines(WRITER)
        if line.text.startswith("written")
    ]
