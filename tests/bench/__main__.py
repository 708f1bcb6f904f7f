"""Print ratios measured side by side in one run: ``python tests/bench [--json] [NAME...]``.

A pair (ours, baseline) is measured in turn, not in blocks, so that a machine that slows down
slows both; what is shown are medians.
"""

from __future__ import annotations

import argparse
import json

import comparing
import drawing
import enduring
import jobs
import latency
import loading
import predicting
import serving
import starting
import submitting
from rows import Row, as_table

BENCHMARKS = {
    "drawing": drawing.measure,
    "loading": loading.measure,
    "starting": starting.measure,
    "submitting": submitting.measure,
    "latency": latency.measure,
    "serving": serving.measure,
    "predicting": predicting.measure,
    "comparing": comparing.measure,
    "jobs": jobs.measure,
    "enduring": enduring.measure,
}
ONLY_NAMED = {"enduring"}  # it takes ten minutes


def main() -> None:
    options = arguments()
    names = options.names or [name for name in BENCHMARKS if name not in ONLY_NAMED]
    rows = [row for name in names for row in BENCHMARKS[name]()]
    print(as_json(rows) if options.json else as_table(rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    return options


def as_json(rows: list[Row]) -> str:
    return json.dumps([row._asdict() for row in rows], indent=2)


if __name__ == "__main__":
    main()
