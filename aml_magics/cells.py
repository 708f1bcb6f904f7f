"""A notebook cell as a job: what its body is, what goes into its snapshot, how inputs reach it."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aml_magics import cell_runner
from aml_magics.cell_runner import VARIABLES, saved
from aml_magics.errors import BadCommand, BadInput

__all__ = ["VARIABLES", "Origin", "input_of", "is_yaml", "python_job", "saved", "tags", "typed"]

YAML_KEYS = ("command", "type", "jobs", "trial", "$schema")
RUNNER = "run_cell.py"
REMOTE = ("azureml:", "http://", "https://", "wasbs://", "abfss://", "adl://")
# Text that bash leaves alone between double quotes, which is how it reaches the cell.
PLAIN_TEXT = re.compile(r"[^\"$`\\!\n]*")


class Origin(NamedTuple):
    """Where a submitted cell stands; empty where the front end does not tell."""

    notebook: str = ""
    cell_id: str = ""


def is_yaml(body: str) -> bool:
    """Whether a body is a job in YAML: a mapping with one of YAML_KEYS. Otherwise it is Python."""
    keys = "|".join(re.escape(key) for key in YAML_KEYS)
    if not re.search(rf"^({keys})\s*:", body, re.MULTILINE):
        return False
    try:
        content = yaml.safe_load(body)
    except yaml.YAMLError:
        return not _is_python(body)
    if not isinstance(content, dict) or not any(key in content for key in YAML_KEYS):
        return False
    return all(re.fullmatch(r"\$?\w+", str(key)) for key in content)  # "def f()" is no field


def typed(body: str, job_type: str) -> str:
    """The YAML of a job of a type, which the body may leave out.

    Raises: BadInput: the body is no YAML, or that of another type of job.
    """
    try:
        content = yaml.safe_load(body)
    except yaml.YAMLError:
        content = {}  # the SDK says where it breaks
    if not isinstance(content, dict):
        raise BadInput(
            f"the cell of a {job_type} is its YAML", hint="%%aml job runs a cell that is Python"
        )
    given = content.get("type", job_type)
    if given != job_type:
        raise BadInput(f"the cell is a job of type {given}, no {job_type}", hint="%%aml job")
    if "type" in content or not content:
        return body
    return yaml.safe_dump({"type": job_type, **content}, sort_keys=False)


def python_job(
    body: str,
    folder: Path,
    inputs: list[Any],
    *,
    outputs: list[str],
    files: list[str],
    namespace: Mapping[str, Any],
) -> dict[str, Any]:
    """Lay out a cell's snapshot in a folder and describe the command job that runs it.

    Args: inputs: words of ``-i``: ``name=value`` or a notebook variable's ``name``.
        outputs: variables of the cell to keep as artifacts of the run.
    Returns: ``command``, ``code`` and ``inputs`` of a command job.
    Raises: BadCommand, BadInput: an input, output or file that cannot be used, or a cell that is
        not Python.
    """
    _check_python(body)
    (folder / cell_runner.CELL).write_text(body, encoding="utf-8")
    shutil.copyfile(cell_runner.__file__, folder / RUNNER)
    for name in files:
        _copy(name, folder)
    arguments, job_inputs = [], {}
    for word in inputs:
        name, value = input_of(word, namespace)
        kind = _kind(value)
        if kind == "file":
            _save(folder / VARIABLES, name, value)
            continue
        job_inputs[name] = value
        arguments.append(f'{name}:{kind}="${{{{inputs.{name}}}}}"')
    arguments += [f"--keep={_identifier(name)}" for name in outputs]
    command = " ".join(["python", RUNNER, *arguments])
    return {"type": "command", "command": command, "code": str(folder), "inputs": job_inputs}


def input_of(word: Any, namespace: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and value of one ``-i``: a literal, a notebook variable or an Input mapping.

    Raises: BadCommand: no such variable. BadInput: no such file.
    """
    name, equals, text = str(word).partition("=")
    name = _identifier(name)
    if not equals:
        return name, _variable(name, namespace)
    if re.fullmatch(r"\$[^\W\d]\w*", text):
        return name, _variable(text[1:], namespace)
    return name, _literal_or_path(text)


def tags(body: str, origin: Origin) -> dict[str, str]:
    """Where a submit comes from: git commit, notebook, cell and a hash of the cell's source."""
    commit = _git("rev-parse", "HEAD")
    found = {
        "git_commit": commit,
        "git_dirty": str(bool(_git("status", "--porcelain"))).lower() if commit else "",
        "notebook": origin.notebook,
        "cell_id": origin.cell_id,
        "cell_sha256": hashlib.sha256(body.encode()).hexdigest() if body else "",
    }
    return {key: value for key, value in found.items() if value}


def _variable(name: str, namespace: Mapping[str, Any]) -> Any:
    if name not in namespace:
        raise BadCommand(f"no variable '{name}' in the notebook", hint=f"-i {name}=VALUE")
    value = namespace[name]
    if isinstance(value, os.PathLike):
        return _local_path(os.fspath(value))
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _literal_or_path(text: str) -> Any:
    """A typed literal, or an Input for an asset, a URI or a file or folder that exists."""
    if text.startswith(REMOTE):
        return {"type": "uri_folder" if text.endswith("/") else "uri_file", "path": text}
    if text.startswith(("./", "../", "/", "~")):
        return _local_path(text)
    if ("/" in text or "." in text) and Path(text).exists():
        return _local_path(text)
    if text in {"true", "false"}:
        return text == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _local_path(text: str) -> dict[str, str]:
    path = Path(text).expanduser()
    if not path.exists():
        raise BadInput(f"no such file or folder: {text}", hint="-i NAME=PATH_OF_A_FILE")
    kind = "uri_folder" if path.is_dir() else "uri_file"
    return {"type": kind, "path": str(path.resolve())}


def _kind(value: Any) -> str:
    """How a value reaches the cell: as an argument of one of these types, or as a file."""
    if isinstance(value, dict) and set(value) == {"type", "path"}:
        return "path"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "str" if value and PLAIN_TEXT.fullmatch(value) else "file"
    return {int: "int", float: "float"}.get(type(value), "file")


def _save(folder: Path, name: str, value: Any) -> None:
    """Write a value where the runner finds it."""
    folder.mkdir(exist_ok=True)
    try:
        content, suffix = cell_runner.packed(value)
    except Exception as exc:
        raise BadInput(f"variable '{name}' cannot be sent: {exc}", "save it to a file") from exc
    (folder / f"{name}.{suffix}").write_bytes(content)


def _copy(name: str, folder: Path) -> None:
    source = Path(name).expanduser()
    if not source.exists():
        raise BadInput(f"no such file: {name}", hint="--file PATH adds it to the job's folder")
    if source.is_dir():
        shutil.copytree(source, folder / source.name)
    else:
        shutil.copy2(source, folder / source.name)


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise BadCommand(f"'{name}' cannot be a variable's name", hint="-i NAME=VALUE, -o NAME")
    return name


def _is_python(body: str) -> bool:
    try:
        ast.parse(body)
    except SyntaxError:
        return False
    return True


def _check_python(body: str) -> None:
    try:
        ast.parse(body)
    except SyntaxError as exc:
        line = (exc.text or "").strip()
        hint = "a job's cell is plain Python: no % or ! lines" if line[:1] in {"%", "!"} else line
        raise BadInput(f"the cell does not parse: line {exc.lineno}: {exc.msg}", hint) from exc


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
