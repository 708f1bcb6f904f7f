"""How a job comes to be, whoever asks for it: a client, a pipeline, a sweep, a schedule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics.local import bodies, jobfields
from aml_magics.local.controllers import automl, graph, parallel, spark, transfer, trials
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body, Resource, now
from aml_magics.local.wire import ArmError, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

USER = "local"
DATASTORE = "workspaceblobstore"


class Kind(NamedTuple):
    """A type of job.

    `defaults`: what the service adds; `check`: raises ArmError for what cannot run;
    `has_files`: whether it has outputs of its own, those of its run named `default`; else they
    are where its child jobs put them; `run_type`, `orchestrator`: what run history calls it;
    `of_trials`: whether its named outputs are those of one of its child jobs, unknown before;
    `outputs`: those that it has always.
    """

    defaults: Body
    check: Callable[[Local, Job, Body], None]
    has_files: bool = True
    run_type: str = "azureml.scriptrun"
    orchestrator: str = "Execution"
    of_trials: bool = False
    outputs: Body = {}  # noqa: RUF012 (of a NamedTuple)


def create(
    local: Local,
    job: Job,
    asked: Body,
    parent: Resource | None = None,
    reused: Resource | None = None,
    *,
    ended: str = "",
    **notes: Any,
) -> Resource:
    """Check a job, keep it, and queue it.

    Args:
        parent: the job it is a child of.
        reused: a job that did the same: its outputs are taken over, nothing runs.
        ended: the status that it has ended in already, in another process.
        notes: what is remembered about it.
    Raises: ArmError: it cannot be run; nothing is kept then.
    """
    kind = check(local, job, asked)
    properties = _completed(kind, job, asked)
    if reused:
        _take_over(local, properties, reused)
    if ended:
        times = {"StartTimeUtc": now(), "EndTimeUtc": now()}
        properties.update(status=ended, properties={**times, **properties["properties"]})
    root = (local.store.noted(parent.id, "root") or parent.name) if parent else job.name
    lineage = {"mlflow.parentRunId": parent.name, "mlflow.rootRunId": root} if parent else {}
    tags = {**run_tags(properties), **lineage}
    run = local.mlflow.create_run(job.ws, job.name, properties["experimentName"], tags)
    if reused or ended:
        local.mlflow.end_run(job.ws, job.name, ended or "Completed")
    with local.store.transaction():
        parent_id = parent.id if parent else ""
        resource, _ = local.store.put(job.id, "jobs", {"properties": properties}, parent_id)
        for key, value in {"experiment": run, "root": root, **notes}.items():
            local.store.note(job.id, key, value)
    if not reused and not ended:
        local.jobs.submit(job)
    return resource


def check(local: Local, job: Job, asked: Body) -> Kind:
    """The type of a job.

    Raises: ArmError: it cannot be run.
    """
    kind = _kind(asked)
    jobfields.check(asked)
    kind.check(local, job, asked)
    return kind


def _take_over(local: Local, properties: Body, reused: Resource) -> None:
    """Make a job one that has ended with the outputs of an earlier one."""
    before = reused.properties["properties"]
    facts = {
        "azureml.isreused": "true",
        "azureml.reusedrunid": before.get("azureml.reusedrunid") or reused.name,
        "azureml.reusedpipelinerunid": local.store.noted(reused.id, "root"),
        "StartTimeUtc": now(),
        "EndTimeUtc": now(),
    }
    properties["properties"] = {**properties["properties"], **facts}
    properties.update(status="Completed", outputs=reused.properties["outputs"])


def _kind(asked: Body) -> Kind:
    name = asked.get("jobType")
    kind = KINDS.get(str(name))
    if kind is None:
        message = f"The local workspace does not run jobs of type {name}, only {', '.join(KINDS)}."
        raise ArmError(501, "NotImplemented", message)
    return kind


def _completed(kind: Kind, job: Job, asked: Body) -> Body:
    """What was asked for, with what the service adds."""
    given = {key: value for key, value in asked.items() if value is not None}
    asked_outputs = {**kind.outputs, **given.pop("outputs", {})}
    for name, own in kind.outputs.items():
        asked_outputs[name] = {**(asked_outputs[name] or {}), **own}
    outputs = {name: _output(kind, job, name, its or {}) for name, its in asked_outputs.items()}
    if kind.has_files:
        artifacts = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{job.name}"
        outputs["default"] = {**_OUTPUT, "uri": artifacts, "jobOutputType": "uri_folder"}
    own = {**_COMMON, "displayName": job.name, **kind.defaults}
    return bodies.job({**own, **given, "status": "Queued", "outputs": outputs})


def _output(kind: Kind, job: Job, name: str, asked: Body) -> Body:
    given = {key: value for key, value in asked.items() if value is not None}
    form = given.setdefault("jobOutputType", "uri_folder")
    is_its_own = kind.has_files and not kind.of_trials
    place = given.pop("uri", None) or (default_uri(form) if is_its_own else None)
    words = {"output_name": name, "default_datastore": DATASTORE}
    words |= {} if kind.of_trials else {"name": job.name}
    uri = place and re.sub(r"\$\{\{(\w+)\}\}", lambda m: words.get(m[1], m[0]), place)
    return {**_OUTPUT, "uri": uri, **given}


def default_uri(form: str, datastore: str = DATASTORE) -> str:
    """Where an output is put that names no place; `${{…}}` is filled in when its job is made."""
    end = "${{output_name}}" if form == "uri_file" else ""
    return (
        f"azureml://datastores/{datastore}/paths/azureml/${{{{name}}}}/${{{{output_name}}}}/{end}"
    )


def run_tags(properties: Body) -> dict[str, str]:
    """The tags of a job's MLflow run."""
    tags: dict[str, Any] = {
        **(properties.get("tags") or {}),
        "mlflow.runName": properties["displayName"],
        "mlflow.user": USER,
        "mlflow.source.type": "JOB",
    }
    if properties.get("description"):
        tags["mlflow.note.content"] = properties["description"]
    return {key: str(value) for key, value in tags.items()}


def _check_command(local: Local, job: Job, asked: Body) -> None:
    if not isinstance(asked.get("command"), str) or not asked["command"].strip():
        raise bad_request("The job has no command.")


def _check_sweep(local: Local, job: Job, asked: Body) -> None:
    trials.check(job, asked)


_OUTPUT: Body = {"description": None, "mode": "ReadWriteMount"}
_COMMON: Body = {
    "description": None,
    "tags": {},
    "properties": {},
    "experimentName": "Default",
    "computeId": None,
    "isArchived": False,
    "identity": None,
    "componentId": None,
    "notificationSetting": None,
    "inputs": {},
}
_RESOURCES: Body = {"instanceCount": 1, "instanceType": None, "properties": {}}
_COMMAND: Body = {
    "codeId": None,
    "environmentId": None,
    "environmentVariables": {},
    "distribution": None,
    "limits": None,
    "parameters": {},
    "queueSettings": None,
    "autologgerSettings": None,
    "resources": _RESOURCES,
}
_SWEEP: Body = {
    "searchSpace": {},
    "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
    "objective": None,
    "limits": None,
    "earlyTermination": None,
    "queueSettings": None,
    "resources": _RESOURCES,
    "trial": {},
}
_PIPELINE: Body = {"jobs": {}, "settings": {}, "sourceJobId": None}
_AUTOML: Body = {
    "environmentId": None,
    "environmentVariables": {},
    "queueSettings": None,
    "resources": _RESOURCES,
    "taskDetails": None,
}
_SPARK: Body = {
    "codeId": None,
    "environmentId": None,
    "environmentVariables": {},
    "entry": None,
    "args": None,
    "conf": {},
    "pyFiles": None,
    "jars": None,
    "files": None,
    "archives": None,
    "queueSettings": None,
    "resources": None,
}
KINDS: dict[str, Kind] = {
    "Command": Kind(_COMMAND, _check_command),
    "DataTransfer": Kind(_COMMAND, transfer.check),
    "Parallel": Kind(_COMMAND, parallel.check),
    "AutoML": Kind(_AUTOML, automl.check, True, "automl", "AutoML", outputs=automl.OUTPUTS),
    "Spark": Kind(_SPARK, spark.check),
    "Pipeline": Kind(_PIPELINE, graph.check, False, "azureml.PipelineRun", "Pipeline"),
    "Sweep": Kind(_SWEEP, _check_sweep, True, "hyperdrive", "HyperDrive", of_trials=True),
}
