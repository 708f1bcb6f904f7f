"""What the processes of a deployment are started with: interpreter, folder, command, variables."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from aml_magics.local import daemon, environments, processes, registry, uris
from aml_magics.local.store import Body, Resource

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.wire import Workspace

SERVER_LOG, INITIALIZER_LOG = "log.txt", "storage-initializer.txt"
LOG_LIMIT_BYTES = 10_000_000
LOG_TAIL_BYTES = 1 << 20
SCORING = "aml_magics.local.scoring"
SCRIPT_SERVER = "azureml-inference-server-http"
# A model's own environment has MLflow; this is what else the server of MLflow models takes.
MODEL_SERVER = "uvicorn>=0.20"
# Azure sets these itself, and shows them among the variables that were asked for.
OWN_VARIABLES = ("AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT", "AZUREML_MODEL_DIR")
_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of the daemon
_DRIVER = Path(__file__).parents[1] / "drivers" / "scoring_script.py"


class NotReady(Exception):
    """A deployment cannot serve; the text says why."""


class Plan(NamedTuple):
    """How each instance is started; the path of its socket comes last.

    `key`: what it serves; `imports`: what it imports first, if that is known.
    """

    key: str
    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    imports: tuple[str, ...] = ()


def folder(local: Local, id: str) -> Path:  # noqa: A002 (ARM's word)
    """Where a deployment has its logs."""
    *_, endpoint, _, deployment = id.lower().split("/")
    return local.home / "online" / local.workspace_of(id).account / endpoint / deployment


def key(properties: Body) -> str:
    """The same for deployments that serve the same in the same way."""
    asked = dict(properties.get("environmentVariables") or {})
    for name in OWN_VARIABLES:
        asked.pop(name, None)
    names = ("model", "codeConfiguration", "environmentId")
    text = dumps([*map(properties.get, names), asked], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def variables(local: Local, id: str, properties: Body) -> dict[str, str]:  # noqa: A002
    """The variables by which a scoring script finds code and model, laid out as on Azure."""
    place, code = folder(local, id) / key(properties), properties.get("codeConfiguration")
    found = {}
    if code:
        found["AML_APP_ROOT"] = str(place / "app")
        found["AZUREML_ENTRY_SCRIPT"] = code["scoringScript"]
    if model := properties.get("model"):
        found["AZUREML_MODEL_DIR"] = str(place / "azureml-models" / model_name(model))
    return found


def plan(local: Local, row: Resource, check: Callable[[], None]) -> Plan:
    """Put model and code in their places, and see to the interpreter.

    Args: check: raises when the deployment is not wanted any more.
    Raises: NotReady, ArmError.
    """
    properties, ws, place = row.properties, local.workspace_of(row.id), folder(local, row.id)
    own = place / key(properties)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = Initializer(place / INITIALIZER_LOG, check)
    found = variables(local, row.id, properties)
    model = _placed_model(local, ws, properties, found, log)
    ahead: tuple[str, ...] = ()
    if properties.get("codeConfiguration"):
        code = uris.local_path(local, ws, properties["codeConfiguration"]["codeId"])
        _copy(code, Path(found["AML_APP_ROOT"]))
        log.say(f"Code: {found['AML_APP_ROOT']}")
        python = log.interpreter(local, ws, properties)
        command = (str(python), str(_DRIVER))
        _check_has(python, "azureml_inference_server_http", SCRIPT_SERVER)
    else:
        python = log.interpreter(local, ws, properties, MODEL_SERVER)
        safe = ("-P",) if python == Path(sys.executable) else ()  # others may not know it
        command = (str(python), *safe, "-m", SCORING, "--model", str(model))
        _check_has(python, "mlflow", "mlflow")
        ahead = imports(model)
    env = _environment(local, python, {**(properties.get("environmentVariables") or {}), **found})
    cwd = Path(found["AML_APP_ROOT"]) if "AML_APP_ROOT" in found else own
    return Plan(own.name, (*command, "--socket"), cwd, env, ahead)


def imports(model: Path | None) -> tuple[str, ...]:
    """What the server of an MLflow model imports whatever its requests; nothing if not known."""
    try:
        text = model and (model / "MLmodel").read_text("utf-8")
        flavors = yaml.safe_load(text or "")["flavors"]
        loader = flavors["python_function"]["loader_module"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ()  # the server says what is wrong with it
    form = flavors.get("sklearn", {}).get("serialization_format")
    more = ["sklearn.ensemble", "sklearn.pipeline"] if loader == "mlflow.sklearn" else []
    more += ["skops.io"] if form == "skops" else []
    return ("mlflow.pyfunc", loader, *more, "uvicorn") if loader.startswith("mlflow.") else ()


def expect(local: Local, model: Path) -> None:
    """Import what the server of a model will, so that it starts at once if it is deployed soon."""
    python = Path(sys.executable)
    local.warm.expect(str(python), imports(model), _environment(local, python, {}))


def tail(path: Path, lines: int, since: int = 0) -> str:
    """The last lines of a log, of what was written after `since` bytes; "" when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(since, path.stat().st_size - LOG_TAIL_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


class Initializer:
    """Tells of what is done before the server starts, in a log of its own as on Azure."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._path, self._check = path, check

    def say(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def interpreter(self, local: Local, ws: Workspace, properties: Body, *also: str) -> Path:
        """The Python of the deployment's environment, `also` installed in it when it is built."""
        log = environments.Log(self.say, self._build_step, self._check)
        id_ = properties.get("environmentId") or ""
        try:
            return environments.interpreter(local, ws, id_, log, also)
        except environments.BuildFailed as exc:
            raise NotReady(f"{exc}\n{tail(self._path, 20)}") from exc

    def _build_step(self, command: list[str]) -> int:
        exit_file = self._path.with_suffix(".exit")
        exit_file.unlink(missing_ok=True)
        env = {"UV_SYSTEM_CERTS": "1", **os.environ}  # certificates of a proxy too, as for pip
        env.pop("VIRTUAL_ENV", None)
        handle = processes.start(
            command, cwd=self._path.parent, env=env, log=self._path, exit_file=exit_file
        )
        try:
            while not handle.wait(0.2):
                self._check()
        finally:
            handle.kill()
            processes.reap(handle)
        code = processes.exit_code(exit_file)
        return 1 if code is None else code


def model_name(model: str) -> str:
    """`NAME/VERSION` of a registered model, as the folder is called on Azure."""
    parts = model.rstrip("/").split("/")
    if "models" in parts[:-3] or parts[-4:-3] == ["models"]:
        return f"{parts[-3]}/{parts[-1]}"
    name, _, version = model.removeprefix("azureml:").partition(":")
    return f"{name}/{version}" if "/" not in model else "model/1"


def _placed_model(
    local: Local, ws: Workspace, properties: Body, found: dict[str, str], log: Initializer
) -> Path | None:
    """The model in the folder that AZUREML_MODEL_DIR names, under the name it was uploaded with."""
    if not properties.get("model"):
        return None
    source = registry.model_folder(local, ws, properties["model"])
    target = Path(found["AZUREML_MODEL_DIR"]) / source.name
    _copy(source, target)
    log.say(f"Model {properties['model'].rpartition('/models/')[2]}: {target}")
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder once: a script may write into its own, not into the asset."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, partial, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, partial)
    partial.rename(target)


def _check_has(python: Path, module: str, package: str) -> None:
    """Refuse an interpreter that lacks what serves: the reason is better than a traceback."""
    is_own = python == Path(sys.executable)
    if _finds(module) if is_own else _has(python, module):
        return
    if is_own:
        extra = "'aml-magics[serve]'" if package == SCRIPT_SERVER else package
        raise NotReady(f"It needs {package}: %pip install {extra}")
    raise NotReady(
        f"Its environment has no {package}: add that to the pip section of its conda file."
    )


def _finds(module: str) -> bool:
    importlib.invalidate_caches()  # it may have been installed since
    return importlib.util.find_spec(module) is not None


def _has(python: Path, module: str) -> bool:
    look = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    env = {name: value for name, value in os.environ.items() if name not in _PYTHONS}
    return processes.run([str(python), "-c", look], env) == 0


def _environment(local: Local, python: Path, asked: Body) -> dict[str, str]:
    kept = daemon.child_environment()
    path = kept.get("PATH", os.defpath)
    given = {key: str(value) for key, value in asked.items()}
    if python != Path(sys.executable):
        kept = {name: value for name, value in kept.items() if name not in _PYTHONS}
        kept["PYTHONPATH"] = str(_library(local))
    if "PYTHONPATH" in given and "PYTHONPATH" in kept:  # the server itself is imported from ours
        given["PYTHONPATH"] = f"{kept['PYTHONPATH']}{os.pathsep}{given['PYTHONPATH']}"
    return {**kept, "PYTHONUNBUFFERED": "1", "PATH": f"{python.parent}{os.pathsep}{path}", **given}


def _library(local: Local) -> Path:
    """A folder from which another Python imports this package and nothing else of ours."""
    place = local.home / "online" / "library"
    place.mkdir(parents=True, exist_ok=True)
    link, package = place / "aml_magics", Path(__file__).parents[2]
    if not (link.is_symlink() and link.readlink() == package):
        link.unlink(missing_ok=True)
        link.symlink_to(package)
    return place
