"""What a sweep asks for, and the job that each of its trials is."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import isodate

from aml_magics.local.controllers import spaces, termination
from aml_magics.local.controllers.run import Job
from aml_magics.local.controllers.sampling import SAMPLERS, Sampling, grid_size
from aml_magics.local.controllers.spaces import Sample, Space
from aml_magics.local.controllers.termination import Policy
from aml_magics.local.store import Body
from aml_magics.local.wire import bad_request

# The service's own limits, where a sweep names none.
MOST_TRIALS = 1000
LONGEST = 5_184_000.0  # seconds
GOALS = ("minimize", "maximize")
_SEARCHED = re.compile(r"\$\{\{\s*search_space\.([^{}\s]+)\s*\}\}")
_OF_TRIAL = ("codeId", "distribution", "environmentId", "resources")


class Plan(NamedTuple):
    """A sweep as its job describes it; times are in seconds."""

    space: Space
    sampling: Sampling
    metric: str
    total: int
    concurrent: int
    timeout: float
    policy: Policy | None


def plan(job: Job, asked: Body) -> Plan:
    """Read a sweep job's properties.

    Raises: ArmError 400: they describe no sweep that can run.
    """
    space = spaces.space(asked.get("searchSpace"))
    objective, limits = asked.get("objective") or {}, asked.get("limits") or {}
    goal = str(objective.get("goal")).lower()
    if goal not in GOALS or not objective.get("primaryMetric"):
        raise bad_request("The objective of a sweep is a goal, minimize or maximize, of a metric.")
    sampling = _sampling(job, asked, goal == "maximize")
    total = _count(limits, "maxTotalTrials", MOST_TRIALS)
    if sampling.kind == "grid":
        if not all(alternatives for _, alternatives in spaces.sizes(space)):
            raise bad_request("Grid sampling needs a search space in which all are choices.")
        total = min(total, grid_size(space, total))
    return Plan(
        space=space,
        sampling=sampling,
        metric=str(objective["primaryMetric"]),
        total=total,
        concurrent=_count(limits, "maxConcurrentTrials", total),
        timeout=_seconds(limits, "timeout") or LONGEST,
        policy=termination.policy(asked.get("earlyTermination")),
    )


def _sampling(job: Job, asked: Body, maximizes: bool) -> Sampling:
    given = asked.get("samplingAlgorithm") or {}
    kind = str(given.get("samplingAlgorithmType") or "Random").lower()
    rule = str(given.get("rule") or "random").lower()
    if kind not in SAMPLERS or rule not in ("random", "sobol"):
        raise bad_request(f"The sampling algorithm {kind} ({rule}) is none of Azure's.")
    seed = given.get("seed")
    base = given.get("logbase")
    try:
        number = math.e if base in (None, "e") else float(base)
    except (TypeError, ValueError):
        number = 0
    if number <= 0:
        raise bad_request("The logbase of a sampling algorithm is e or a number above 0.")
    kind = "sobol" if kind == "random" and rule == "sobol" else kind
    return Sampling(kind, job.name if seed is None else str(seed), number, maximizes)


def _count(limits: Body, name: str, default: int) -> int:
    try:
        count = int(limits.get(name) or default)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise bad_request(f"The limit {name} of a sweep is a whole number above 0.")
    return count


def _seconds(limits: Body, name: str) -> float | None:
    limit = limits.get(name)
    try:
        return isodate.parse_duration(limit).total_seconds() if limit else None
    except (TypeError, isodate.ISO8601Error) as exc:
        raise bad_request(f"The limit {name} of a sweep is an ISO 8601 duration.") from exc


def check(job: Job, asked: Body) -> None:
    """Refuse a sweep that cannot run.

    Raises: ArmError 400.
    """
    found = plan(job, asked)
    _seconds(asked.get("limits") or {}, "trialTimeout")
    command = (asked.get("trial") or {}).get("command")
    if not isinstance(command, str) or not command.strip():
        raise bad_request("The trial of the sweep has no command.")
    for name in _SEARCHED.findall(command):
        if name not in found.space:
            message = f"The command asks for search_space.{name}, which is not searched."
            raise bad_request(message)


def job_of(sweep: Body, sample: Sample) -> Body:
    """The command job that a trial is.

    Args: sweep: properties of the sweep's job.
    """
    trial, limits = sweep["trial"], sweep.get("limits") or {}
    chosen = {name: _literal(value) for name, value in sample.parameters.items()}
    variables = {k: _as_input(str(v)) for k, v in (trial.get("environmentVariables") or {}).items()}
    inputs = {**(sweep.get("inputs") or {}), **chosen}
    outputs = {k: v for k, v in sweep["outputs"].items() if k != "default"}
    timeout = limits.get("trialTimeout")
    return {
        "jobType": "Command",
        "command": _as_input(trial["command"]),
        "experimentName": sweep["experimentName"],
        "computeId": sweep.get("computeId"),
        "identity": sweep.get("identity"),
        "queueSettings": sweep.get("queueSettings"),
        "resources": sweep.get("resources"),
        **{name: trial[name] for name in _OF_TRIAL if trial.get(name)},
        "limits": {"jobLimitsType": "Command", "timeout": timeout} if timeout else None,
        "environmentVariables": {**variables, **_told(inputs, outputs)},
        "inputs": inputs,
        "outputs": {name: _output(output) for name, output in outputs.items()},
        "parameters": sample.parameters,
        "tags": {"hyperparameters": json.dumps(sample.parameters)},
    }


def has_place(output: Body) -> bool:
    """Whether an output of a sweep is to be in one place, whichever trial is the best."""
    return bool(output.get("uri")) and "${{name}}" not in output["uri"]


def _output(output: Body) -> Body:
    """An output of a trial: no asset, and not where another trial puts its own."""
    dropped = ("assetName", "assetVersion", *(("uri",) if has_place(output) else ()))
    return {key: value for key, value in output.items() if key not in dropped}


def _as_input(text: str) -> str:
    """Hyperparameters are inputs of the trial."""
    return _SEARCHED.sub(r"${{inputs.\1}}", text)


def _literal(value: Any) -> Body:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return {"jobInputType": "literal", "value": text}


def _told(inputs: Body, outputs: Body) -> dict[str, str]:
    """Variables in which a trial finds what it is given, as Azure names them."""
    given = {name: f"${{{{inputs.{name}}}}}" for name, value in inputs.items() if value}
    given |= {name: f"${{{{outputs.{name}}}}}" for name in outputs}
    return {f"AZUREML_SWEEP_{name}": value for name, value in given.items()}
