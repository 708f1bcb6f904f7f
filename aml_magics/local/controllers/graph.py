"""The steps of a pipeline: which there are, what each waits for, what its bindings stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aml_magics.local import uris
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Workspace, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

_BINDING = re.compile(r"\$\{\{\s*parent\.([^{}\s]+)\s*\}\}")
CONTROL = ("if_else", "do_while", "parallel_for")
# Components of the service itself: steps made from them say all there is to say.
BUILT_IN = "azureml://registries/azureml/components/"
BUILT_INS = {
    "batch_scoring",
    "export_data_database",
    "import_data_database",
    "import_data_file_system",
}
PRIMITIVES = ("boolean", "integer", "number", "string")
PATHS = ("uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model")


class Node(NamedTuple):
    """A step: its body as the client sent it, and the specification of its component."""

    name: str
    body: Body
    spec: Body

    @property
    def kind(self) -> str:
        return str(self.body.get("type") or self.spec.get("type") or "command").lower()

    @property
    def after(self) -> set[str]:
        """The steps whose outputs it needs."""
        asked = {key: value for key, value in self.body.items() if key not in _BLOCKS}
        paths = (path.split(".") for path in references(asked))
        return {path[1] for path in paths if path[0] == "jobs" and len(path) > 2}

    @property
    def is_deterministic(self) -> bool:
        return str(self.spec.get("is_deterministic", True)).lower() != "false"


class Scope(NamedTuple):
    """What the bindings of a pipeline stand for: its inputs, and the outputs of its steps."""

    inputs: Mapping[str, Body]
    outputs: Mapping[str, Body]
    steps: Mapping[str, Mapping[str, Body]]


_BLOCKS = ("true_block", "false_block", "body")  # of control nodes: what they begin


def pipeline(local: Local, ws: Workspace, job: Body) -> tuple[dict[str, Node], Body]:
    """The steps of a pipeline job by name, and the specification it is made from ({} for none).

    Raises: ArmError 404: a component is not there.
    """
    spec = component(local, ws, job["componentId"]) if job.get("componentId") else {}
    jobs = job.get("jobs") or spec.get("jobs") or {}
    return {name: Node(name, body, _spec(local, ws, body)) for name, body in jobs.items()}, spec


def _spec(local: Local, ws: Workspace, node: Body) -> Body:
    trial = node.get("trial")
    id_ = node.get("componentId") or (trial.get("componentId") if isinstance(trial, dict) else "")
    built_in = str(id_).removeprefix(BUILT_IN).partition("/")[0]
    return component(local, ws, id_) if id_ and built_in not in BUILT_INS else {}


def component(local: Local, ws: Workspace, id_: str) -> Body:
    """The specification of a component.

    Raises: ArmError 404.
    """
    row = uris.asset(local, ws, id_, "components")
    if row is None or row.kind != "components/versions":
        name = id_.rpartition("/components/")[2].replace("/versions/", ":") or id_
        if id_.removeprefix("azureml:").startswith(_AZURES):
            message = f"{id_} is a component of Azure's, which the local workspace does not have."
            raise ArmError(501, "NotImplemented", f"{message} Register one of that name there.")
        key = id_.removeprefix("azureml:")
        raise ArmError(404, "NotFound", f"key: {key}, Message: Not found component {name}.")
    spec: Body = row.properties["componentSpec"]
    return spec


_AZURES = "//registries/azureml/"


def references(value: Any) -> Iterator[str]:
    """Every `${{parent.PATH}}` in a value, as PATH."""
    if isinstance(value, str):
        yield from _BINDING.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def bound_output(given: Any) -> str | None:
    """The output of the pipeline that an output of a step is, if it is one."""
    text = given.get("value") if isinstance(given, dict) else given
    paths = list(references(text))
    return paths[0].removeprefix("outputs.") if paths and paths[0].startswith("outputs.") else None


def resolved(given: Any, scope: Scope) -> Body | None:
    """An input of a step as a job has it; None when what it is bound to was not given.

    Raises: ArmError 400: it is bound to nothing that there is.
    """
    if isinstance(given, dict) and given.get("uri"):
        return _camel(given)
    value = given.get("value") if isinstance(given, dict) else given
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    whole = _BINDING.fullmatch(text.strip())
    if whole is None:
        return {"jobInputType": "literal", "value": _substituted(text, scope)}
    found = _looked_up(whole[1], scope)
    mode = given.get("mode") if isinstance(given, dict) else None
    return found and {**found, **({"mode": mode} if mode else {})}


def filled(value: Any, scope: Scope, above: bool = True) -> Any:
    """What a step says, with the bindings in all its settings filled in.

    Args: above: whether it is the step itself, whose inputs and outputs are bound elsewhere.
    """
    if isinstance(value, str):
        return _substituted(value, scope)
    if isinstance(value, list):
        return [filled(item, scope, False) for item in value]
    if not isinstance(value, dict):
        return value
    kept = ("inputs", "outputs", *_BLOCKS) if above else ()
    return {k: v if k in kept else filled(v, scope, False) for k, v in value.items()}


def setting(value: Any, scope: Scope) -> str | None:
    """A setting of a step, such as its compute, with its bindings filled in."""
    return _substituted(str(value), scope) if value else None


def _substituted(text: str, scope: Scope) -> str:
    def value(match: re.Match[str]) -> str:
        found = _looked_up(match[1], scope) or {}
        return str(found.get("value", found.get("uri", "")))

    return _BINDING.sub(value, text)


def _looked_up(path: str, scope: Scope) -> Body | None:
    head, _, rest = path.partition(".")
    if head == "inputs":
        return scope.inputs.get(rest)
    name, _, output = rest.partition(".outputs.")
    if head != "jobs" or not output:
        raise bad_request(f"Invalid expression parent.{path}. Only parent.inputs, parent.jobs.")
    made = scope.steps.get(name, {}).get(output)
    if made is None:
        raise bad_request(f"The step {name} has no output {output}.")
    if "value" in made:
        return {"jobInputType": "literal", "value": made["value"]}
    return {"jobInputType": made["jobOutputType"], "uri": made["uri"]}


def _camel(given: Body) -> Body:
    names = {"job_input_type": "jobInputType", "job_output_type": "jobOutputType"}
    names |= {"name": "assetName", "version": "assetVersion"}
    return {names.get(k, k): v for k, v in given.items() if v is not None}


def inputs(node: Node, scope: Scope) -> Body:
    """The inputs of a step's job: what is given, what is bound, and the component's defaults.

    Raises: ArmError 400: one that is needed is missing.
    """
    declared = node.spec.get("inputs") or {}
    given, found = node.body.get("inputs") or {}, {}
    searched = node.body.get("search_space") or {}  # inputs of a sweep's trials, each its own
    for name in (name for name in {**declared, **given} if name not in searched):
        about = declared.get(name) or {}
        value = resolved(given[name], scope) if name in given else None
        if value is None and about.get("default") is not None:
            value = {"jobInputType": "literal", "value": str(about["default"])}
        if value is not None:
            found[name] = _typed(value, str(about.get("type") or ""))
        elif not _is_optional(about):
            raise bad_request(f"Required input {name} of step {node.name} is not given.")
    return found


def _is_optional(declared: Body) -> bool:
    return str(declared.get("optional", False)).lower() == "true"


def _typed(value: Body, kind: str) -> Body:
    """A path that was given as text is of the type that the component declares."""
    if value["jobInputType"] == "literal" and kind in PATHS:
        return {"jobInputType": kind, "uri": value["value"]}
    return value


def outputs(node: Node, scope: Scope) -> Body:
    """The outputs of a step's job; one that is the pipeline's own is put where that is wanted."""
    declared = node.spec.get("outputs") or {}
    given, found = node.body.get("outputs") or {}, {}
    for name in {**declared, **given}:
        kind = (declared.get(name) or {}).get("type") or "uri_folder"
        if kind in PRIMITIVES:  # a control output
            found[name] = {"jobOutputType": "uri_file", "isControl": True}
            continue
        asked, own = given.get(name), bound_output(given.get(name))
        about = scope.outputs.get(own, {}) if own else asked if isinstance(asked, dict) else {}
        about = {k: v for k, v in _camel(about).items() if k not in ("type", "value")}
        found[name] = {**about, "jobOutputType": about.get("jobOutputType") or kind}
        if own:  # the component knows better than the pipeline
            found[name]["jobOutputType"] = kind
    return found


def check(local: Local, job: Job, asked: Body) -> None:
    """Refuse a pipeline whose components or bindings are not there.

    Raises: ArmError 400, 404, 501.
    """
    from aml_magics.local.controllers import steps

    nodes, spec = pipeline(local, job.ws, asked)
    known = {**(spec.get("inputs") or {}), **(asked.get("inputs") or {})}
    for node in nodes.values():
        steps.check(local, job, node)
        _check_node(node, nodes, known)


def _check_node(node: Node, nodes: Mapping[str, Node], known: Mapping[str, Any]) -> None:
    declared = node.spec.get("inputs")
    for name in node.body.get("inputs") or {}:
        if declared is not None and name not in declared:
            message = f"since input {name} for component job {node.name} does not exist."
            raise bad_request(f"Invalid component job {message}")
    for path in references(node.body):
        _check_reference(path, nodes, known)


def _check_reference(path: str, nodes: Mapping[str, Node], known: Mapping[str, Any]) -> None:
    head, _, rest = path.partition(".")
    name = rest.partition(".outputs.")[0]
    if head == "inputs" and rest not in known:
        raise bad_request(f"Invalid expression parent.{path}: the pipeline has no input {rest}.")
    if head == "jobs" and name not in nodes:
        raise bad_request(f"Invalid expression parent.{path}: the pipeline has no step {name}.")
    if head not in ("inputs", "outputs", "jobs"):
        message = "Only parent.inputs, parent.outputs and parent.jobs can be bound to."
        raise bad_request(f"Invalid expression parent.{path}. {message}")
