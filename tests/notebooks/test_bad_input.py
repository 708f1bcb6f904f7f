"""A cell that fails stops its notebook, says why in a few lines and what to type next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

LOAD = "%load_ext aml_magics"
LOGIN = f"{LOAD}\n%aml login --local"
GONE = "\n".join(
    [
        "import os, pathlib",
        "os.environ['AML_LOCAL_HOME'] = str(pathlib.Path(f'home-{os.getpid()}').absolute())",
        LOGIN,
        "from aml_magics.local import daemon",
        "assert daemon.stop()",
    ]
)
NEXT_CELL = "import pathlib; pathlib.Path('next-cell-ran').touch()"

# what is wrong: (first cell, bad cell, error, words its lines hold)
BAD = {
    "bad flag": (LOAD, "%aml job list --max-result 3", "BadCommand", "'--max-results'"),
    "unknown verb": (LOAD, "%aml job craete", "BadCommand", "did you mean 'job create'?"),
    "not logged in": (LOAD, "%aml job list", "NotLoggedIn", "%aml login"),
    "missing file": (LOGIN, "%aml job create -f missing.yml", "BadInput", "missing.yml"),
    "no YAML": (LOGIN, "%%aml job\ncommand: 'echo\ncode: src", "BadInput", "line"),
    "not the schema": (LOGIN, "%%aml job\ntype: comand\ncommand: echo", "BadInput", "type"),
    "job fails": (LOGIN, "%%aml job\nprint('so far')\nraise SystemExit(3)", "JobFailed", "so far"),
    "unknown asset": (LOGIN, "%aml data show -n nothing -v 1", "NotFound", "nothing"),
    "daemon gone": (GONE, "%aml job list", "WorkspaceUnreachable", "%aml login --local"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_cell_stops_the_notebook(case, home, notebook):
    first, bad, error, words = BAD[case]
    source = notebook(first, bad, NEXT_CELL)
    with ThreadPoolExecutor(2) as pool:
        papermill, nbconvert = pool.map(
            lambda tool: home.run(tool, source, source.parent), ("papermill", "nbconvert")
        )

    assert papermill.exit_code and nbconvert.exit_code
    assert not (source.parent / "next-cell-ran").exists()
    (shown,) = [output for output in papermill.outputs if output.output_type == "error"]
    assert shown.ename == error
    lines = "\n".join(shown.traceback).splitlines()
    assert len(lines) <= 5 and any(line.startswith("hint: ") for line in lines), lines
    assert words in "\n".join(lines)
    assert error in nbconvert.stderr and words in nbconvert.stderr
