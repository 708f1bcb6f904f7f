"""Environments of jobs: a conda or pip specification becomes a cached virtual environment.

What cannot be had is said in the build log, never passed over: an image is not run here, and a
Python that is not on this machine is replaced by the workspace's own.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from aml_magics.local import files

if TYPE_CHECKING:
    from aml_magics.local.app import Local

Say = Callable[[str], None]
Run = Callable[[list[str]], int]

_CONDA_ONLY = {"python", "pip", "_libgcc_mutex", "ca-certificates", "cudatoolkit", "openssl"}
_PYPI_NAME = {"pytorch": "torch", "py-xgboost": "xgboost", "matplotlib-base": "matplotlib"}
_CONDA = re.compile(r"(?:[\w.-]+::)?(?P<name>[\w.-]+)\s*(?P<version>.*)")


class BuildFailed(Exception):
    """An environment could not be built; the build log says why."""


class Specification(NamedTuple):
    """What to install: a Python version ("" = any) and lines of a requirements file."""

    python: str
    requirements: tuple[str, ...]

    @property
    def key(self) -> str:
        text = "\n".join((self.python or platform.python_version(), *self.requirements))
        return sha256(text.encode()).hexdigest()[:16]


def specification(conda_file: str) -> Specification:
    """Read a conda environment file.

    Its conda packages are taken from PyPI too: `numpy=1.26` is asked for as `numpy==1.26.*`.

    Raises: BuildFailed: it is not a conda file.
    """
    document = mapping(conda_file)
    python, lines = "", []
    for entry in document.get("dependencies") or []:
        if isinstance(entry, dict):
            lines += [str(line) for line in entry.get("pip") or []]
            continue
        match = _CONDA.fullmatch(str(entry).strip())
        name, version = (match["name"], match["version"]) if match else (str(entry), "")
        if name == "python":
            python = version.lstrip("=").removesuffix(".*")
        elif name not in _CONDA_ONLY:
            lines.append(_PYPI_NAME.get(name, name) + _pip_version(version))
    return Specification(python, tuple(lines))


def mapping(conda_file: str) -> dict[str, Any]:
    """The document that a conda file is.

    Raises: BuildFailed: it is none.
    """
    try:
        document = yaml.safe_load(conda_file)
    except yaml.YAMLError as exc:
        raise BuildFailed(f"The conda file is not YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise BuildFailed("The conda file holds no mapping with dependencies.")
    return document


def _pip_version(version: str) -> str:
    """`=1.2` → `==1.2.*`, `=1.2.3=py39_0` → `==1.2.3`; comparisons stay as they are."""
    if not version.startswith("=") or version.startswith("=="):
        return version
    number, _, build = version[1:].partition("=")
    return f"=={number}" if build or number.endswith("*") else f"=={number}.*"


def interpreter(local: Local, environment: dict[str, Any] | None, say: Say, run: Run) -> Path:
    """The Python that a job's environment means, built when it is new.

    Args:
        environment: properties of the environment version, None for a job without one.
        say: takes a line for the job's build log.
        run: runs a command with its output in the build log; returns the exit code.
    Raises: BuildFailed.
    """
    own = Path(sys.executable)
    facts = environment or {}
    if image := facts.get("image"):
        say(f"Image {image}: images are not run on the local workspace.")
    if facts.get("build"):
        raise BuildFailed("Environments from a build context are not built here yet.")
    if not facts.get("condaFile"):
        say(f"Using the workspace's own interpreter, Python {platform.python_version()}.")
        return own
    return _virtual_environment(local, specification(facts["condaFile"]), say, run)


def _virtual_environment(local: Local, spec: Specification, say: Say, run: Run) -> Path:
    folder = local.home / "environments" / spec.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder.with_suffix(".lock")):  # built once, whoever asks for it
        if (folder / "complete").exists():
            say(f"Environment {spec.key}: built before, taken from the cache.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            _build(folder, spec, say, run)
            (folder / "complete").touch()
    return folder / "bin" / "python"


def _build(folder: Path, spec: Specification, say: Say, run: Run) -> None:
    say(f"Environment {spec.key}: building with uv.")
    uv = [*_uv(), "venv", "--quiet", "--no-project", "--python"]
    if run([*uv, spec.python or sys.executable, str(folder)]):
        if not spec.python:
            raise BuildFailed("The virtual environment could not be made.")
        say(f"Python {spec.python} is not to be had here: using {platform.python_version()}.")
        if run([*uv, sys.executable, str(folder)]):
            raise BuildFailed("The virtual environment could not be made.")
    if not spec.requirements:
        return
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(spec.requirements) + "\n", "utf-8")
    install = ["pip", "install", "--compile-bytecode", "--python", str(folder / "bin" / "python")]
    if run([*_uv(), *install, "--requirements", str(wanted)]):
        raise BuildFailed("Its packages could not be installed.")


def _uv() -> list[str]:
    return [sys.executable, "-m", "uv"]
