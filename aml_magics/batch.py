"""Batch endpoints: score files with a job, and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from aml_magics import client, documents, jobs
from aml_magics.errors import BadInput
from aml_magics.session import Session

FOLDER, FILE = "uri_folder", "uri_file"


def invoke(
    session: Session,
    *,
    tell: jobs.Tell,
    name: str,
    deployment_name: str = "",
    file: str = "",
    input: str = "",  # noqa: A002  az ml's word
    input_type: str = "",
    output_path: str = "",
    job_name: str = "",
    experiment_name: str = "",
    mini_batch_size: str = "",
    instance_count: int = 0,
    overrides: list[str] | None = None,
    no_wait: bool = False,
) -> jobs.Job:
    """Have a batch endpoint score a file, a folder or an asset, and follow the job that does it.

    Args: file: YAML with the `inputs` and `outputs` of the job. input: path, URL, or
        `azureml:NAME:VERSION`, of `input_type` (a folder's or file's, by what it is).
        output_path: where on a datastore the results go.

    Raises: NotFound: no such endpoint or deployment. JobFailed: it ended otherwise than completed.
        Detached: the wait was interrupted.
    """
    said = yaml.safe_load(documents.read(file)) if file else {}
    if not isinstance(said, dict):
        raise BadInput(f"{file} is not a mapping", hint="inputs: {NAME: {type: …, path: …}}")
    options: dict[str, Any] = {"job_name": job_name, "experiment_name": experiment_name}
    changes: dict[str, Any] = {"mini_batch_size": mini_batch_size, "output_path": output_path}
    changes |= {"compute.instance_count": instance_count}
    changes |= documents.assignments(overrides, "--set")
    options["params_override"] = [{path: value} for path, value in changes.items() if value]
    with client.calling(session, hint="%aml batch-endpoint list") as ml:
        # Said each time: the SDK keeps the deployment of an invocation for the next one.
        default = ml.batch_endpoints.get(name).defaults
        chosen = deployment_name or getattr(default, "deployment_name", None)
        options["inputs"] = _inputs(said.get("inputs") or {}, Path(file).parent)
        if input:
            options["input"] = _input(_located(input, input_type))
        if outputs := said.get("outputs"):
            make = client.sdk().Output
            options["outputs"] = {key: make(**value) for key, value in outputs.items()}
        options = {key: value for key, value in options.items() if value}
        job = ml.batch_endpoints.invoke(name, deployment_name=chosen, **options)
    return jobs.show(session, name=job.name) if no_wait else jobs.follow(session, job.name, tell)


def _located(path: str, kind: str) -> dict[str, str]:
    """An input by its path; a file of this machine is one unless told otherwise."""
    guessed = FILE if Path(path).expanduser().is_file() else FOLDER
    return {"path": path, "type": kind or guessed}


def _inputs(said: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {name: _input(value, folder) for name, value in said.items()}


def _input(said: Any, folder: Path = Path()) -> Any:
    """The SDK's Input for what YAML says of one: a literal, a path or a mapping."""
    make = client.sdk().Input
    if not isinstance(said, dict):
        names = {bool: "boolean", int: "integer", float: "number"}
        return make(type=names.get(type(said), "string"), default=said)
    if "path" not in said:
        return make(**said)
    path = str(said["path"])
    here = folder / Path(path).expanduser()
    return make(**{"type": FOLDER, **said, "path": str(here.resolve()) if here.exists() else path})
