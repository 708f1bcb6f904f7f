"""A cell as a job: YAML or Python, its inputs, its snapshot."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aml_magics import cells
from aml_magics.errors import BadCommand, BadInput

BODIES = {
    "print(1)": False,
    "command: echo hello": True,
    "type: pipeline\njobs: {}": True,
    "$schema: x\ncommand: >-\n  python a.py\n  --b ${{inputs.c}}": True,
    "trial:\n  command: ls": True,
    "x: int = 1\ncommand: str = 'ls'\ndef f(): pass": False,
    "type = 'command'\n": False,
    "command: [unclosed": True,  # broken YAML, and no Python either
    "# command: ls\nprint(1)": False,
    "": False,
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_yaml_or_python(body):
    assert cells.is_yaml(body) is BODIES[body]


def test_inputs_are_typed_literals_paths_assets_or_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.csv").touch()
    Path("test").mkdir()
    namespace = {"rate": 0.1, "folder": Path("test")}
    expected = {
        "C=0.5": 0.5,
        "n=3": 3,
        "flag=true": True,
        "mode=test": "test",  # a folder of that name is not meant
        "name=a=b": "a=b",
        "rate": 0.1,
        "lr=$rate": 0.1,
        "data=data.csv": {"type": "uri_file", "path": str(tmp_path / "data.csv")},
        "data=test/": {"type": "uri_folder", "path": str(tmp_path / "test")},
        "folder": {"type": "uri_folder", "path": str(tmp_path / "test")},
        "data=azureml:d@latest": {"type": "uri_file", "path": "azureml:d@latest"},
        "url=https://x.org/d.csv": {"type": "uri_file", "path": "https://x.org/d.csv"},
    }

    assert {word: cells.input_of(word, namespace)[1] for word in expected} == expected


@pytest.mark.parametrize(
    ("word", "error"), [("nothing", BadCommand), ("a.b=1", BadCommand), ("a=./missing", BadInput)]
)
def test_a_wrong_input_is_refused(word, error):
    with pytest.raises(error):
        cells.input_of(word, {})


def run_cell(folder, body, inputs=(), namespace=None, files=()):
    """Run a cell's snapshot as the job's command does, literals filled in."""
    job = cells.python_job(
        body, folder, list(inputs), outputs=[], files=list(files), namespace=namespace or {}
    )
    command = job["command"].replace("python ", f"{shlex.quote(sys.executable)} ", 1)
    for name, value in job["inputs"].items():
        command = command.replace(f"${{{{inputs.{name}}}}}", str(value))
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False
    )


def test_inputs_are_variables_of_the_cell(tmp_path):
    namespace = {"names": ["a", "b"], "quoted": 'say "$HOME"', "shape": (2, 3), "nothing": None}
    done = run_cell(
        tmp_path,
        "print([C, n, flag, text, names, quoted, shape, nothing], __name__)",
        ["C=0.5", "n=3", "flag=true", "text=a b", *namespace],
        namespace,
    )

    values = [0.5, 3, True, "a b", ["a", "b"], 'say "$HOME"', (2, 3), None]
    assert done.stdout == f"{values} __main__\n"


def test_a_traceback_has_the_lines_of_the_cell_and_no_others(tmp_path):
    done = run_cell(tmp_path, "x = 1\n\nx / 0\n")

    assert done.returncode == 1
    assert done.stderr.splitlines()[1:3] == ['  File "cell.py", line 3, in <module>', "    x / 0"]


def test_a_cell_that_exits_keeps_its_code(tmp_path):
    assert run_cell(tmp_path, "import sys; sys.exit(7)").returncode == 7


def test_what_a_cell_defines_can_be_pickled(tmp_path):
    body = "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))).__name__)"

    assert run_cell(tmp_path, body).stdout == "A\n"


def test_named_files_go_with_the_cell_and_no_others(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("helper.py").write_text("answer = 42")
    Path("secret.txt").touch()
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    done = run_cell(snapshot, "import helper; print(helper.answer)", files=["helper.py"])

    assert done.stdout == "42\n"
    assert not (snapshot / "secret.txt").exists()


@pytest.mark.parametrize("body", ["print(1", "%time x", "!ls"])
def test_a_cell_that_is_not_python_is_refused_at_once(body, tmp_path):
    with pytest.raises(BadInput, match="line 1"):
        run_cell(tmp_path, body)


def test_tags_tell_where_a_submit_comes_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    clean = cells.tags("print(1)", cells.Origin("book.ipynb", "cell-1"))
    Path("new.txt").touch()
    dirty = cells.tags("print(1)", cells.Origin())

    assert len(clean["git_commit"]) == 40
    assert (clean["git_dirty"], dirty["git_dirty"]) == ("false", "true")
    assert (clean["notebook"], clean["cell_id"]) == ("book.ipynb", "cell-1")
    assert clean["cell_sha256"] == dirty["cell_sha256"]
    assert "notebook" not in dirty
