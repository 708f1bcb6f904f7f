"""``%load_ext aml_magics`` against an extension that imports only IPython."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

from kernel import Kernel
from rows import Row, compare

IN_A_PROCESS = """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_line_magic("load_ext", {!r})
"""
IN_A_KERNEL = """
import time
start = time.process_time()
get_ipython().run_line_magic("load_ext", {!r})
print(1000 * (time.process_time() - start))
"""
NAMES = ("aml_magics", "bare_extension")


def measure() -> list[Row]:
    processes = [partial(in_a_process, name) for name in NAMES]
    kernels = [partial(in_a_kernel, name) for name in NAMES]
    return [
        compare("load, as a process", "ms CPU", *processes, pairs=15, goal="<= 1.15x"),
        compare("load, in a running kernel", "ms CPU", *kernels, pairs=7, goal="<= 20 ms"),
    ]


def in_a_process(extension: str) -> float:
    """CPU time in milliseconds of a new process that only loads the extension."""
    before = children_cpu()
    subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS.format(extension)], env=environment(), check=True
    )
    return 1000 * (children_cpu() - before)


def in_a_kernel(extension: str) -> float:
    """CPU time in milliseconds of ``%load_ext`` in a new Jupyter kernel."""
    with Kernel(environment()) as kernel:
        return float(kernel.run(IN_A_KERNEL.format(extension)))


def environment() -> dict[str, str]:
    """This environment, with this folder importable as well."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
