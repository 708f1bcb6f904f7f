"""What job a step of a pipeline is: one function for each type of step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aml_magics.local.controllers import automl, graph, spaces, spark, transfer
from aml_magics.local.controllers.graph import Node, Scope
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body
from aml_magics.local.submission import default_uri
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

# What a step may say otherwise than its component: names there → names in a job.
_SETTINGS = {
    "distribution": "distribution",
    "identity": "identity",
    "limits": "limits",
    "queue_settings": "queueSettings",
    "resources": "resources",
    "services": "services",
}
PRIORITIES = {"low": 1, "medium": 2, "high": 3}  # words in steps, numbers in jobs


def job_of(node: Node, scope: Scope, pipeline: Body) -> Body:
    """The job that a step is.

    Args: pipeline: properties of the pipeline's job.
    Raises: ArmError 400: an input is missing, or bound to nothing.
    """
    node = node._replace(body=graph.filled(node.body, scope))
    settings = pipeline.get("settings") or {}
    compute = node.body.get("computeId") or node.spec.get("compute")
    compute = compute or settings.get("default_compute") or pipeline.get("computeId")
    datastore = str(settings.get("default_datastore") or "").rpartition("/")[2]
    shared = {
        "displayName": node.body.get("display_name") or node.name,
        "experimentName": pipeline["experimentName"],
        "description": node.body.get("description") or node.spec.get("description"),
        "tags": node.body.get("tags") or {},
        "properties": node.body.get("properties") or {},
        "componentId": node.body.get("componentId"),
        "computeId": graph.setting(compute, scope),
        "inputs": graph.inputs(node, scope),
        "outputs": {
            name: _placed(output, datastore.removeprefix("azureml:"))
            for name, output in graph.outputs(node, scope).items()
        },
    }
    return {**shared, **STEPS[node.kind](node, pipeline)}


def _placed(output: Body, datastore: str) -> Body:
    """An output that is put into the pipeline's default datastore, if that is not the usual one."""
    if not datastore:
        return output
    uri = output.get("uri") or default_uri(output["jobOutputType"], datastore)
    return {**output, "uri": uri.replace("${{default_datastore}}", datastore)}


def _command(node: Node, pipeline: Body) -> Body:
    return {"jobType": "Command", **_of_component(node)}


def _of_component(node: Node) -> Body:
    """What a command component, or the trial of a sweep, runs and in what."""
    body, spec = node.body, node.spec
    variables = {**(spec.get("environment_variables") or {})}
    variables |= body.get("environment_variables") or {}
    settings = {
        ours: camel({**(spec.get(name) or {}), **(body.get(name) or {})})
        for name, ours in _SETTINGS.items()
        if spec.get(name) or body.get(name)
    }
    if queue := settings.get("queueSettings"):
        queue["priority"] = PRIORITIES.get(str(queue.get("priority")).lower())
    return {
        "command": spec.get("command") or body.get("command"),
        "codeId": spec.get("code"),
        "environmentId": body.get("environment") or spec.get("environment"),
        "environmentVariables": variables,
        **settings,
    }


def _parallel(node: Node, pipeline: Body) -> Body:
    given = {key: value for key, value in node.body.items() if value is not None}
    spec = {**node.spec, **given}
    task = camel({**(node.spec.get("task") or {}), **(given.get("task") or {})})
    keys = spec.get("partition_keys") or []  # clients send them as JSON text
    settings = {camel_name(key): camel(spec[key]) for key in _PARALLEL if spec.get(key) is not None}
    return {
        "jobType": "Parallel",
        **_of_component(node),
        "codeId": task.pop("code", None),
        "environmentId": task.pop("environment", None),
        "partitionKeys": json.loads(keys) if isinstance(keys, str) else keys,
        **settings,
        "task": task,
    }


_PARALLEL = (
    *("error_threshold", "input_data", "logging_level", "max_concurrency_per_instance"),
    *("mini_batch_error_threshold", "mini_batch_size", "retry_settings"),
)


def _sweep(node: Node, pipeline: Body) -> Body:
    body = node.body
    trial = _of_component(node)
    algorithm = body.get("sampling_algorithm") or "random"
    given = algorithm if isinstance(algorithm, dict) else {"type": algorithm}
    limits = body.get("limits") or {}
    return {
        "jobType": "Sweep",
        "searchSpace": spaces.listed(body.get("search_space")),
        "samplingAlgorithm": {
            "samplingAlgorithmType": str(given.get("type")).capitalize(),
            **{name: given[name] for name in ("rule", "seed", "logbase") if name in given},
        },
        "objective": camel(body.get("objective")),
        "limits": {
            "jobLimitsType": "Sweep",
            **{
                key: duration(v) if "timeout" in key.lower() else v
                for key, v in camel(limits).items()
            },
        },
        "earlyTermination": camel(body.get("early_termination")),
        "queueSettings": trial.pop("queueSettings", None),
        "identity": trial.pop("identity", None),
        "trial": {key: value for key, value in trial.items() if key != "limits"},
    }


def duration(seconds: Any) -> str:
    """A limit of a step, in seconds, as jobs have it: ISO 8601."""
    return str(seconds) if str(seconds).startswith("P") else f"PT{seconds}S"


def _data_transfer(node: Node, pipeline: Body) -> Body:
    return transfer.step(node.body, node.spec)


def _automl(node: Node, pipeline: Body) -> Body:
    """The details of a step in snake_case as a job has them."""
    body = node.body
    task = {camel_name(key): body[key] for key in _AUTOML if body.get(key) is not None}
    for name in ("training_data", "validation_data", "test_data"):
        given = body.get(name)
        uri = given.get("uri") or given.get("path") if isinstance(given, dict) else given
        if uri:
            task[camel_name(name)] = {"jobInputType": "mltable", "uri": uri}
    for name in ("featurization", "forecasting", "limits", "training"):
        part = {camel_name(key): value for key, value in (body.get(name) or {}).items()}
        task[f"{name.removesuffix('s')}Settings"] = part
    limits = task["limitSettings"]
    for name in ("timeout", "trialTimeout"):
        minutes = limits.pop(f"{name}Minutes", None)
        if minutes is not None:
            limits[name] = f"PT{minutes}M"
    return {"jobType": "AutoML", "taskDetails": {"taskType": body.get("task"), **task}}


_AUTOML = (
    *("cv_split_column_names", "log_verbosity", "n_cross_validations", "positive_label"),
    *("primary_metric", "target_column_name", "validation_data_size", "weight_column_name"),
)


def _spark(node: Node, pipeline: Body) -> Body:
    body, spec = node.body, node.spec
    conf = {**(spec.get("conf") or {}), **(body.get("conf") or {})}
    asked = {name: body.get(name) or spec.get(name) for name in _SPARK}
    return {
        "jobType": "Spark",
        "codeId": spec.get("code"),
        "environmentId": body.get("environment") or spec.get("environment"),
        **camel({name: value for name, value in asked.items() if value}),
        "conf": conf,
    }


_SPARK = ("entry", "args", "py_files", "jars", "files", "archives", "identity", "resources")


def _pipeline(node: Node, pipeline: Body) -> Body:
    settings = {**(pipeline.get("settings") or {}), **(node.spec.get("settings") or {})}
    return {"jobType": "Pipeline", "settings": settings}


def camel(value: Any) -> Any:
    """A mapping with its keys as ARM writes them, `instance_count` as `instanceCount`."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {camel_name(key): camel(item) for key, item in value.items()}


def camel_name(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def check(local: Local, job: Job, node: Node) -> None:
    """Refuse a step of a pipeline job whose type, or what it needs, is not to be had here.

    Raises: ArmError 400, 501.
    """
    if node.kind not in STEPS and node.kind not in graph.CONTROL:
        message = f"The local workspace does not run pipeline steps of type {node.kind}."
        raise ArmError(501, "NotImplemented", f"{message} Step {node.name} is one.")
    if node.kind in _CHECKS:
        _CHECKS[node.kind](local, job, STEPS[node.kind](node, {}))


_CHECKS = {
    "automl": automl.check_task,
    "data_transfer": transfer.check,
    "spark": spark.check_installed,
}


STEPS: dict[str, Callable[[Node, Body], Body]] = {
    "automl": _automl,
    "command": _command,
    "data_transfer": _data_transfer,
    "parallel": _parallel,
    "spark": _spark,
    "pipeline": _pipeline,
    "sweep": _sweep,
}
