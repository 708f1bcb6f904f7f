"""Parallel jobs: mini-batches of an input through an entry script, by drivers/parallel.py."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aml_magics.local import drivers
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body
from aml_magics.local.wire import bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

DRIVER = Path(drivers.__file__).with_name("parallel.py")
MLFLOW = Path(drivers.__file__).with_name("mlflow_scoring.py")
_INPUT = re.compile(r"\$\{\{\s*inputs\.([\w.\-]+)\s*\}\}")
_BARE = re.compile(r"""(?<!["'])(\$\{\{[^{}]+\}\})(?!["'])""")
# Properties of the job → options of the driver, given when they are set.
_OPTIONS = {
    "miniBatchSize": "--mini-batch-size",
    "maxConcurrencyPerInstance": "--concurrency",
    "errorThreshold": "--error-threshold",
    "miniBatchErrorThreshold": "--mini-batch-error-threshold",
    "loggingLevel": "--logging-level",
}


def check(local: Local, job: Job, asked: Body) -> None:
    """Refuse a parallel job that could not run.

    Raises: ArmError 400.
    """
    task = asked.get("task") or {}
    if not task.get("entryScript") and not task.get("model"):
        raise bad_request("The parallel job has no task with an entry_script or a model.")
    name = input_name(asked)
    if name not in (asked.get("inputs") or {}):
        raise bad_request(f"The input_data {asked.get('inputData')!r} is no input of the job.")


def input_name(job: Body) -> str:
    """The input whose data is cut into mini-batches."""
    match = _INPUT.fullmatch(str(job.get("inputData") or "").strip())
    return match[1] if match else ""


def as_command(job: Body) -> Body:
    """The properties of a parallel job as those of a command job."""
    if not job["task"].get("entryScript"):
        job = _of_model(job)
    task, name = job["task"], input_name(job)
    retries, resources = job.get("retrySettings") or {}, job.get("resources") or {}
    found = {option: job.get(key) for key, option in _OPTIONS.items()}
    found["--max-retries"] = retries.get("maxRetries")
    found["--timeout"] = retries.get("timeout")
    found["--instances"] = resources.get("instanceCount")
    found["--entry-script"] = task["entryScript"]
    if job.get("partitionKeys"):
        found["--partition-keys"] = json.dumps(job["partitionKeys"])
    parts = ["exec", "python", shlex.quote(str(DRIVER)), f'--input-data "${{{{inputs.{name}}}}}"']
    given = {option: value for option, value in found.items() if value not in (None, "")}
    parts += [f"{option} {shlex.quote(str(value))}" for option, value in given.items()]
    if job["inputs"][name]["jobInputType"] == "mltable":
        parts.append("--table")
    for key, option in (("appendRowTo", "--append-row-to"), ("output", "--output-folder")):
        if task.get(key):
            parts.append(f"{option} {_quoted(task[key])}")
    arguments = " ".join((task.get("programArguments") or "").split())
    return {**job, "command": f"{' '.join(parts)} -- {_quoted(arguments)}"}


def _of_model(job: Body) -> Body:
    """A task of type model: an MLflow model in place of an entry script."""
    # Clients write azureml:NAME:VERSION, which is data where inputs are concerned.
    uri = re.sub(r"^azureml:([^:/]+):([^:/]+)$", r"models:/\1/\2", job["task"]["model"])
    model = {"jobInputType": "mlflow_model", "uri": uri}
    variables = {**(job.get("environmentVariables") or {}), "AML_BATCH_MODEL": "${{inputs._model}}"}
    return {
        **job,
        "inputs": {**job["inputs"], "_model": model},
        "environmentVariables": variables,
        "task": {**job["task"], "entryScript": str(MLFLOW)},
    }


def _quoted(text: str) -> str:
    """Text for a shell whose placeholders stay one word, whatever they stand for."""
    return _BARE.sub(r'"\1"', text)
