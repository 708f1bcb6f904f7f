"""What is told at the end of a run."""

from __future__ import annotations

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """How many recorded exchanges are answered, and why the others are not."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, ())]
    told = [value for one in reports for name, value in one.user_properties if name == "contract"]
    if told and terminalreporter.config.get_verbosity() >= -1:
        counts = Counter(told).most_common()
        terminalreporter.section(f"contract: {len(told)} recorded exchanges")
        for reason, count in counts:
            terminalreporter.line(f"{count:4} {reason}")
