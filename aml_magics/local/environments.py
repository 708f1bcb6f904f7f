"""Environments of jobs: what they ask for becomes a cached virtual environment, built by uv.

What cannot be had is said in the build log, never passed over: an image is not run here, and a
Python that is not to be had is replaced by the workspace's own. Each build has a folder of its
own, which counts once it is named in the file `complete`: one that was cut short never does.
"""

from __future__ import annotations

import fcntl
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local import files, pins, specifications, uris
from aml_magics.local.builds import COMPLETE
from aml_magics.local.specifications import BuildFailed, Specification
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

__all__ = ["BuildFailed"]

_UV = (sys.executable, "-m", "uv")
# An index that a file adds is one of several, as for pip: what fits best is taken.
_RESOLVE = ("--index-strategy", "unsafe-best-match")
# What every conda environment has, and older packages import without asking for it.
_ALWAYS = ("pip", "setuptools")
_PKG_RESOURCES = "setuptools<81"  # later ones are without pkg_resources
_POLL = 0.2  # seconds between looks at whether another job has built it


class Log(NamedTuple):
    """What a build tells and asks.

    `say`: takes a line for the job's build log; `run`: runs a command with its output in that
    log and returns its exit code; `check`: raises when the job is to end.
    """

    say: Callable[[str], None]
    run: Callable[[list[str]], int]
    check: Callable[[], None]


def interpreter(
    local: Local,
    ws: Workspace,
    id: str,  # noqa: A002 (ARM's word)
    log: Log,
    also: tuple[str, ...] = (),
) -> Path:
    """The Python that a job's environment means, built when it is new.

    Args:
        id: of the environment, "" for a job without one.
        also: requirements that are installed beside its own.
    Raises: BuildFailed.
    """
    spec = _specification(local, ws, _properties(local, ws, id, log), log)
    if spec is None:
        log.say(f"Using the workspace's own interpreter, Python {platform.python_version()}.")
        return Path(sys.executable)
    for remark in spec.remarks:
        log.say(remark)
    return _cached(local, spec._replace(requirements=(*spec.requirements, *also)), log)


def _properties(local: Local, ws: Workspace, id_: str, log: Log) -> Body:
    row = uris.asset(local, ws, id_, "environments") if id_ else None
    if row:
        return row.properties
    _, _, name = id_.rpartition("/environments/")
    if id_ and not _is_curated(id_):
        raise BuildFailed(f"There is no environment {name or id_}.")
    if id_:
        log.say(f"Environment {name or id_} is curated: its image is not run here.")
    return {}


def _is_curated(id_: str) -> bool:
    """Azure's own environments: those of its registry, and AzureML-… of every workspace."""
    name = id_.rpartition("/environments/")[2].removeprefix("azureml:").lower()
    return id_.startswith("azureml://registries/azureml/") or name.startswith("azureml-")


def _specification(local: Local, ws: Workspace, facts: Body, log: Log) -> Specification | None:
    """What is to be installed, or None for nothing."""
    if image := facts.get("image"):
        log.say(f"Image {image}: images are not run on the local workspace.")
    if facts.get("condaFile"):
        return specifications.conda(facts["condaFile"])
    build = facts.get("build")
    if not build:
        return None
    try:
        folder = uris.local_path(local, ws, build["contextUri"])
    except ArmError as exc:
        raise BuildFailed(f"The build context is not there: {exc}") from exc
    return specifications.context(folder, build.get("dockerfilePath") or "Dockerfile")


# The cache


def _cached(local: Local, spec: Specification, log: Log) -> Path:
    folder = local.home / "environments" / spec.key
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock"), log):
        python = found(folder)
        if python:
            log.say(f"Environment {spec.key}: built before, taken from the cache.")
            (folder / COMPLETE).touch()  # when it was last used
            return python
        for rest in folder.iterdir():
            shutil.rmtree(rest, ignore_errors=True)
        place = folder / secrets.token_hex(4)
        _build(place, spec, log, fits=not local.strict)
        files.write_atomically(folder / COMPLETE, place.name.encode())
        return place / "bin" / "python"


def found(folder: Path) -> Path | None:
    """The Python of an environment's folder, if it has been built whole."""
    try:
        python = folder / (folder / COMPLETE).read_text() / "bin" / "python"
    except FileNotFoundError:
        return None
    return python if python.exists() else None


@contextmanager
def _alone(path: Path, log: Log) -> Iterator[None]:
    """Hold a lock; while another job does, wait for it, or leave when told to."""
    with path.open("a") as file:
        is_told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_told:
                    log.say(f"Environment {path.stem}: another job builds it, waiting for that.")
                is_told = True
                log.check()
                time.sleep(_POLL)
        yield


# Building


def _build(place: Path, spec: Specification, log: Log, *, fits: bool) -> None:
    """Make an environment.

    Args: fits: whether versions may be others where the Python is another.
    """
    log.say(f"Environment {place.parent.name}: building with uv.")
    is_own = spec.is_for(platform.python_version())
    is_asked = _make(place, sys.executable if is_own else spec.python, log)
    if not is_asked:
        own = platform.python_version()
        log.say(f"Python {spec.python} is not to be had here: using {own}.")
        shutil.rmtree(place, ignore_errors=True)
        if not _make(place, sys.executable, log):
            raise BuildFailed("The virtual environment could not be made.")
    lines = [*spec.requirements, *_always(spec.requirements)]
    wanted, options = lines, list[str]()
    if fits and not (is_asked and spec.python):
        wanted, options = _fitting(place, lines, log)
    listed = _listed(place, "requirements.txt", wanted)
    install = ["install", "--compile-bytecode", *options, *_together(place, wanted)]
    if _pip(place, [*install, "--requirements", listed], log):
        raise BuildFailed("Its packages could not be installed.")


def _make(place: Path, python: str, log: Log) -> bool:
    return not log.run([*_UV, "venv", "--quiet", "--no-project", "--python", python, str(place)])


def _pip(place: Path, arguments: list[str], log: Log) -> int:
    verb, *rest = arguments
    python = str(place / "bin" / "python")
    return log.run([*_UV, "pip", verb, *_RESOLVE, "--python", python, *rest])


def _always(lines: Iterable[str]) -> list[str]:
    names = {line.lower() for line in lines}
    return [
        _PKG_RESOURCES if name == "setuptools" else name
        for name in _ALWAYS
        if not any(line.startswith(name) for line in names)
    ]


# Versions that were fixed for another Python


def _fitting(place: Path, lines: list[str], log: Log) -> tuple[list[str], list[str]]:
    """The lines with versions that this Python has, and options to install them by.

    As they are where that will do; else the nearest versions that have wheels; else any later.
    """
    fixed = pins.pins(lines)
    wheels = _wheels_of(pin.name for pin in fixed.values())
    if not fixed or _resolves(place, lines, wheels, log):
        return lines, wheels
    log.say(f"Not all of these versions are to be had for Python {platform.python_version()}.")
    nearest = _nearest(place, lines, log)
    wheels = _wheels_of(fixed[line].name for line in nearest)
    for new in (nearest, {line: pin.at_least() for line, pin in fixed.items()}):
        wanted = [new.get(line, line) for line in lines]
        if _resolves(place, wanted, wheels, log):
            log.say(f"Taken instead: {'; '.join(pins.changed(lines, new))}.")
            return wanted, wheels
    raise BuildFailed("Its packages have no versions that go together on this Python.")


def _nearest(place: Path, lines: list[str], log: Log) -> dict[str, str]:
    """By line, the lowest version from the fixed one on that has a wheel, where there is one."""
    options = [line for line in lines if line.startswith("-")]
    how = ["--no-deps", "--only-binary", ":all:", "--resolution", "lowest", "-qq"]
    found = {}
    for line, pin in pins.pins(lines).items():
        if _resolves(place, [*options, pin.at_least()], how, log):
            version = pins.locked((place / "locked.txt").read_text("utf-8"))[pin.name]
            found[line] = pin.at(version)
    return found


def _resolves(place: Path, lines: list[str], options: list[str], log: Log) -> bool:
    """Whether there are versions for the lines; they are in `locked.txt` then."""
    asked, answer = _listed(place, "asked.txt", lines), place / "locked.txt"
    answer.unlink(missing_ok=True)
    options = ["--quiet", "--no-header", *options, *_together(place, lines)]
    return not _pip(place, ["compile", *options, "--output-file", str(answer), asked], log)


def _together(place: Path, lines: list[str]) -> list[str]:
    """Options by which an MLflow with a fixed version gets no other one's mlflow-skinny.

    Both have the same files, and early ones of either do not say that they go together.
    """
    fixed = [pin for pin in pins.pins(lines).values() if pin.name == "mlflow"]
    same = [f"mlflow-skinny{pin.line.specifier}" for pin in fixed]
    return ["--constraints", _listed(place, "constraints.txt", same)] if same else []


def _listed(place: Path, name: str, lines: list[str]) -> str:
    (place / name).write_text("\n".join(lines) + "\n", "utf-8")
    return str(place / name)


def _wheels_of(names: Iterable[str]) -> list[str]:
    return [word for name in names for word in ("--only-binary", name)]
