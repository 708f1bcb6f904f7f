"""AutoML jobs: what can run, and the command that searches, by drivers/automl.py."""

from __future__ import annotations

import importlib.util
import json
import shlex
from typing import TYPE_CHECKING

from aml_magics.local.controllers.run import Job
from aml_magics.local.drivers import automl
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

LOG = "trials.jsonl"  # in the job's folder
OUTPUTS: Body = {"best_model": {"jobOutputType": "mlflow_model"}}  # of every AutoML job
_TABLES = {"training": "trainingData", "validation": "validationData", "test": "testData"}
_PACKAGES = ("flaml", "lightgbm", "xgboost")


def check(local: Local, job: Job, asked: Body) -> None:
    """Refuse a search that could not run.

    Raises: ArmError 400; 501: its task or FLAML is not to be had here.
    """
    task = asked.get("taskDetails")
    if not isinstance(task, dict):
        raise bad_request("The AutoML job has no taskDetails.")
    check_task(local, job, asked)
    if not isinstance(task.get("trainingData"), dict) or not task["trainingData"].get("uri"):
        raise bad_request("The AutoML job has no training_data.")
    if not isinstance(task.get("targetColumnName"), str):
        raise bad_request("The AutoML job has no target_column_name.")


def check_task(local: Local, job: Job, asked: Body) -> None:
    """Refuse what is not of tables, or where FLAML is not installed.

    Raises: ArmError 501.
    """
    kind = str(asked["taskDetails"].get("taskType"))
    if kind.lower() not in automl.ALGORITHMS:
        known = ", ".join(automl.ALGORITHMS)
        message = f"The local workspace does not run AutoML tasks of type {kind}, only {known}."
        raise ArmError(501, "NotImplemented", message)
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        message = f"AutoML jobs need {' and '.join(missing)}, not installed here."
        hint = "Install them beside the workspace: pip install 'aml-magics[automl]'"
        raise ArmError(501, "NotImplemented", f"{message} {hint}")


def as_command(job: Body) -> Body:
    """The command that an AutoML job is; its tables become inputs."""
    task = job["taskDetails"]
    tables = {name: task[key] for name, key in _TABLES.items() if (task.get(key) or {}).get("uri")}
    settings = {key: value for key, value in task.items() if key not in _TABLES.values()}
    words = ("python", "-I", automl.__file__, json.dumps(settings), f"../{LOG}")
    places = [f'"{name}=${{{{inputs.{name}}}}}"' for name in tables]
    command = ["exec", *map(shlex.quote, words), '"${{outputs.best_model}}"', *places]
    return {**job, "command": " ".join(command), "inputs": tables, "environmentId": None}
