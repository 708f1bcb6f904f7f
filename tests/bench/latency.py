"""How long after a job wrote a line the notebook shows it, against ``MLClient.jobs.stream``."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kernel import Line, logged_in
from rows import Row

WRITER = """
import random, time
for _ in range(60):
    time.sleep(random.uniform(0.1, 0.4))
    print("written", time.time(), flush=True)
"""
OURS = f"%%aml job\n{WRITER}"
DETACHED = f"%%aml job --no-wait --as job\n{WRITER}"
SDK_STREAM = """
from aml_magics import client, session
with client.calling(session.current()) as found:
    ml_client = found
ml_client.jobs.stream(job.name)
"""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, logged_in(Path(folder) / "home") as kernel:
        ours = delays(kernel.lines(OURS))
        kernel.run(DETACHED)
        baseline = delays(kernel.lines(SDK_STREAM))
    return [
        Row(f"log line written to shown, {name}", "s", mine, other, mine / other, goal)
        for name, mine, other, goal in (
            ("median", statistics.median(ours), statistics.median(baseline), "<= 0.5 s"),
            ("p95", p95(ours), p95(baseline), ""),
        )
    ]


def delays(lines: Iterable[Line]) -> list[float]:
    """Seconds from writing to showing, for each line that tells when it was written."""
    return [
        line.arrived - float(line.text.split()[1])
        for line in lines
        if line.text.startswith("written")
    ]


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]
