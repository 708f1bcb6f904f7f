"""What an environment asks for: conda files, requirements files and build contexts, read.

All of it becomes a Python version and the lines of one requirements file, since packages come from
PyPI here. What is taken otherwise than it was written is a remark for the build log.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet

RECIPE = 2  # of how environments are made: with another one, all of them are made anew


class BuildFailed(Exception):
    """An environment could not be built; the build log says why."""


class Specification(NamedTuple):
    """What to install.

    `python`: "" for any, `3.8`, or `>=3.9,<3.12`; `requirements`: lines of a requirements file.
    """

    python: str = ""
    requirements: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for environments that are the same, whatever they are called."""
        own = (RECIPE, platform.python_version(), platform.machine())
        text = json.dumps([own, self.python, self.requirements])
        return sha256(text.encode()).hexdigest()[:16]

    def is_for(self, version: str) -> bool:
        """Whether a Python of this version will do."""
        asked = f"=={self.python}.*" if self.python[:1].isdigit() else self.python
        try:
            return SpecifierSet(asked).contains(version)
        except InvalidSpecifier as exc:
            raise BuildFailed(f"The conda file asks for python{self.python}: {exc}") from exc


# Packages of conda that are no Python, and what PyPI has under another name.
_NO_PYTHON = re.compile(
    r"_.*|lib(?!rosa|svm|clang).*|.*_linux-64|blas|mkl|nomkl|ca-certificates|certifi-win32|conda.*"
    r"|cuda.*|cudnn|nccl|openmpi|mpich|openssl|pip|python_abi|pytorch-(?:cuda|mutex)|r-.*|readline"
    r"|sqlite|tk|xz|zlib|git|curl|wget|make|gcc|gxx|ffmpeg|graphviz|openjdk|nodejs",
    re.IGNORECASE,
)
_ON_PYPI = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "matplotlib-base": "matplotlib",
    "tensorflow-gpu": "tensorflow",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "psycopg2": "psycopg2-binary",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "ruamel_yaml": "ruamel.yaml",
    "seaborn-base": "seaborn",
    "dask-core": "dask",
    "msgpack-python": "msgpack",
}
_CONDA = re.compile(r"(?:[\w./-]+::)?(?P<name>[\w.-]+)(?:\[[^\]]*\])?\s*(?P<version>[^\[#]*)")
_FILE_OPTION = re.compile(r"(?:-r|-c|--requirement|--constraint)[\s=]*(?P<path>\S+)")
_LOCAL = re.compile(r"(?:-e\b|--editable\b|\.{1,2}/|\.{1,2}(?:\[|$)|/|~/)")
_USUAL = (
    *("conda.yaml", "conda.yml", "conda_dependencies.yaml", "conda_dependencies.yml"),
    *("environment.yaml", "environment.yml", "requirements.txt"),
)


def conda(text: str) -> Specification:
    """Read a conda environment file.

    Its conda packages are taken from PyPI too: `numpy=1.26` is asked for as `numpy==1.26.*`.

    Raises: BuildFailed: it is none, or names files that are not uploaded with it.
    """
    python, lines, left_out = "", [], []
    for entry in mapping(text).get("dependencies") or []:
        if isinstance(entry, dict):
            lines += list(requirements("\n".join(str(line) for line in entry.get("pip") or [])))
            continue
        match = _CONDA.fullmatch(str(entry).strip())
        if match is None:
            raise BuildFailed(f"The conda file asks for {entry!r}, which names no package.")
        name, version = match["name"].lower(), match["version"].strip()
        if name == "python":
            python = _python(version)
        elif not _NO_PYTHON.fullmatch(name):
            lines.append(_ON_PYPI.get(name, name) + _pip_version(version))
        elif name != "pip":
            left_out.append(str(entry))
    remark = f"Left out, as they are no Python packages: {', '.join(left_out)}."
    return Specification(python, tuple(lines), (remark,) if left_out else ())


def mapping(text: str) -> dict[str, Any]:
    """A conda file as a mapping.

    Raises: BuildFailed: it is none.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise BuildFailed(f"The conda file is not YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise BuildFailed("The conda file holds no mapping with dependencies.")
    return document


def requirements(text: str, folder: Path | None = None) -> Iterator[str]:
    """The lines of a requirements file; files that it names are those of `folder`.

    Raises: BuildFailed: a line names what is not uploaded with it.
    """
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if match := _FILE_OPTION.fullmatch(line):
            yield from _included(line, match["path"], folder)
        elif _LOCAL.match(line):
            what = f"The environment asks for {line!r}, a path on another machine"
            raise BuildFailed(f"{what}: put the code into the job's snapshot instead.")
        elif line:
            yield line


def _included(line: str, path: str, folder: Path | None) -> Iterator[str]:
    found = _below(folder, path)
    if found is None:
        what = f"The environment asks for {line!r}, and that file is not uploaded with it"
        raise BuildFailed(f"{what}: list its packages, or use a build context.")
    if line.startswith(("-c", "--constraint")):
        raise BuildFailed(f"Constraints are not read here: {line!r}.")
    yield from requirements(found.read_text("utf-8"), found.parent)


def _below(folder: Path | None, path: str) -> Path | None:
    """A file of a folder, whose path in an image may be another."""
    if folder is None:
        return None
    for candidate in (folder / path.lstrip("/"), folder / Path(path).name):
        if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    return None


def context(folder: Path, dockerfile: str) -> Specification:
    """What a build context asks for: the files and packages that its Dockerfile installs.

    Raises: BuildFailed: it installs none that is known here.
    """
    path = _below(folder, dockerfile)
    text = path.read_text("utf-8").replace("\\\n", " ") if path else ""
    files = [found for word in _words(text) if (found := _below(folder, word))]
    files = [file for file in dict.fromkeys(files) if _is_list(file)]
    files = files or [folder / name for name in _USUAL if (folder / name).is_file()]
    parts = [_read(file) for file in files]
    packages = tuple(requirements("\n".join(_pip_installs(text))))
    if not parts and not packages:
        what = f"The build context has no requirements file or conda file, and {dockerfile}"
        raise BuildFailed(f"{what} has no pip install: nothing tells what to install.")
    named = [file.relative_to(folder).as_posix() for file in files]
    named += ["its pip install"] if packages else []
    remark = f"{dockerfile} is not run here. Taken from the build context: {', '.join(named)}."
    lines = [line for part in parts for line in part.requirements]
    python = next((part.python for part in parts if part.python), "")
    remarks = (remark, *(each for part in parts for each in part.remarks))
    return Specification(python, (*lines, *packages), remarks)


def _words(dockerfile: str) -> Iterable[str]:
    return re.findall(r"[\w./-]+\.(?:txt|ya?ml)\b", dockerfile)


def _is_list(file: Path) -> bool:
    """Whether a file lists packages, by its name and content."""
    if file.suffix == ".txt":
        return "require" in file.name.lower() or file.name == "packages.txt"
    return bool(re.search(r"^dependencies:", file.read_text("utf-8"), re.MULTILINE))


def _read(file: Path) -> Specification:
    text = file.read_text("utf-8")
    if file.suffix != ".txt":
        return conda(text)
    return Specification(requirements=tuple(requirements(text, file.parent)))


def _pip_installs(dockerfile: str) -> Iterator[str]:
    """Packages that `pip install` in a RUN line names, as lines of a requirements file."""
    for arguments in re.findall(r"\bpip3?\s+install\s+([^\n;&|]*)", dockerfile):
        words = iter(shlex.split(arguments))
        for word in words:
            if word in _INDEX_OPTIONS:
                yield f"{word} {next(words, '')}"
            elif word in _FILE_OPTIONS:
                next(words, "")  # read as a file of the context
            elif not word.startswith("-") and not _LOCAL.match(word) and "$" not in word:
                yield word


_INDEX_OPTIONS = ("--extra-index-url", "--index-url", "-i", "--find-links", "-f")
_FILE_OPTIONS = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "--target", "-t")


def _python(version: str) -> str:
    """The Python that a conda file asks for: `=3.8.13` → `3.8`, `>=3.8` as it is."""
    match = re.fullmatch(r"={0,2}\s*(\d+\.\d+)(?:\.[\d*]+)?(?:=.*)?", version)
    return match[1] if match else version.replace(" ", "")


def _pip_version(version: str) -> str:
    """`=1.2` → `==1.2.*`, `=1.2.3=py39_0` → `==1.2.3`; comparisons stay as they are."""
    if not version.startswith("=") or version.startswith("=="):
        return version if version[:1] in "<>=!~" else f"=={version}"
    number, _, build = version[1:].partition("=")
    return f"=={number}" if build or number.endswith("*") else f"=={number}.*"
