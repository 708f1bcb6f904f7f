"""Execute notebooks in place on a new local workspace, and keep of each run what belongs in git.

Usage: python .ci/execute.py NOTEBOOK...
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from aml_magics.local import daemon


def execute(path: Path) -> None:
    """Run every cell in the notebook's own folder and write the outputs into the file."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,  # how a log arrived in pieces is no one's concern
    ).execute()
    nbformat.write(without_run_metadata(notebook), path)


def without_run_metadata(notebook: NotebookNode) -> NotebookNode:
    """Drop timings and versions, which would make every diff long."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["AML_LOCAL_HOME"] = folder
        try:
            for path in paths:
                execute(Path(path))
        finally:
            daemon.stop(home)


if __name__ == "__main__":
    main(sys.argv[1:])
