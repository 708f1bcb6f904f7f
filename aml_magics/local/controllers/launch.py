"""What the process of a job is given: folder, values of its placeholders, variables."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_magics.local import external, identity, mltables, uris
from aml_magics.local import run as cloud
from aml_magics.local.controllers.run import Failed, Job
from aml_magics.local.daemon import CLIENT_TOKEN_SECONDS
from aml_magics.local.store import Body

if TYPE_CHECKING:
    from aml_magics.local.app import Local

# What notebooks and shells set for themselves: a job must not see from where the daemon was begun.
_NOT_FOR_JOBS = re.compile(
    r"(AML_LOCAL|AZURE|AZUREML|MLFLOW|MSI|IDENTITY|JPY|KERNEL|PYDEVD|VSCODE|CONDA|UV)_.*"
    r"|MPLBACKEND|PYTHONPATH|PYTHONHOME|PYTHONSTARTUP|VIRTUAL_ENV|CLICOLOR.*|PAGER|GIT_PAGER"
)
FILES = ("uri_file", "custom_model", "triton_model")  # outputs that may be one file
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.\-]+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def root(folder: Path) -> Path:
    """The job's folder under a name without spaces: commands are written for /mnt/azureml/…"""
    folder.mkdir(parents=True)
    if not re.search(r"\s", str(folder)):
        return folder
    link = link_of(folder)
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return link


def link_of(folder: Path) -> Path:
    digest = sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"aml-local-{os.getuid()}" / digest


def working_directory(local: Local, job: Job, properties: Body, folder: Path) -> Path:
    """A writable copy of the code; `outputs` and `logs` in it lead to the run's artifacts."""
    cwd, artifacts = folder / "wd", uris.artifacts(local, job.ws, job.name)
    if code := properties.get("codeId"):
        source = uris.local_path(local, job.ws, code.removeprefix("azureml:"))
        shutil.copytree(source, cwd, copy_function=shutil.copyfile, symlinks=False)
    cwd.mkdir(exist_ok=True)
    for name in ("outputs", "logs"):
        if not (cwd / name).exists():
            (artifacts / name).mkdir(exist_ok=True)
            (cwd / name).symlink_to(artifacts / name)
    return cwd


def values(local: Local, job: Job, properties: Body, folder: Path) -> dict[str, str]:
    """What `${{inputs.…}}` and `${{outputs.…}}` stand for.

    Raises: ArmError: an input is not there.
    """
    found = {}
    for name, given in (properties.get("inputs") or {}).items():
        if given:
            found[f"inputs.{name}"] = _input(local, job, folder / "inputs" / name, given)
    for name, given in (properties.get("outputs") or {}).items():
        found[f"outputs.{name}"] = _output(local, job, folder / "outputs" / name, given)
    return found


def _input(local: Local, job: Job, place: Path, given: Body) -> str:
    if given["jobInputType"] == "literal":
        return str(given["value"])
    path = external.local_path(local, job.ws, given["uri"])
    place.parent.mkdir(parents=True, exist_ok=True)
    if given["jobInputType"] == "mltable" and path.is_dir():
        mltables.place(local, job.ws, path, place)
        return str(place)
    if (path / "MLmodel").is_file():  # MLflow loads no model from a folder that is a link
        shutil.copytree(path, place, copy_function=_link)
        return str(place)
    if path.is_file():
        place.mkdir()
        place = place / path.name
    place.symlink_to(path)
    return str(place)


def _link(source: str, to: str) -> None:
    """Another name of a file, or a copy where that cannot be."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _output(local: Local, job: Job, place: Path, given: Body) -> str:
    path = external.destination(local, job.ws, given["uri"])
    place.parent.mkdir(parents=True, exist_ok=True)
    if given["jobOutputType"] == "uri_file":
        path.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.parent)
        return str(place / path.name)
    path.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)
    return str(place)


def environment(
    local: Local, job: Job, properties: Body, python: Path, found: dict[str, str]
) -> dict[str, str]:
    """All variables of the process: this machine's, Azure's, MLflow's and those asked for.

    Args: found: what placeholders stand for (`values`).
    """
    kept = {k: v for k, v in os.environ.items() if not _NOT_FOR_JOBS.fullmatch(k)}
    kept["PATH"] = f"{python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    named = {
        f"AZURE_ML_{key.replace('s.', '_', 1).replace('.', '_').upper()}": value
        for key, value in found.items()
    }
    asked = properties.get("environmentVariables") or {}
    rendered_ones = {key: rendered(str(value), found) for key, value in asked.items()}
    given = {**kept, **_own(local, job, properties), **named, **rendered_ones}
    if properties.get("identity"):  # its credentials are those of a program under aml-local run
        return cloud.environment(local.address, given)
    return given


def installing(command: str, python: Path, folder: Path, environment: dict[str, str]) -> None:
    """Let `pip install` in the workspace's own Python put packages where this job alone sees them.

    Args: command: what the job runs; folder: the job's; environment: its variables, changed.
    """
    if python == Path(sys.executable) and re.search(r"\bpip3?\b", command):
        place = str(folder / "packages")
        environment["PIP_TARGET"] = place
        for name, path in (("PYTHONPATH", place), ("PATH", f"{place}/bin")):
            environment[name] = os.pathsep.join(filter(None, (path, environment.get(name))))


def _own(local: Local, job: Job, properties: Body) -> dict[str, str]:
    ws, name, url, secret = job.ws, job.name, local.address.url, local.address.token
    experiment = properties["experimentName"]
    nodes = (properties.get("resources") or {}).get("instanceCount") or 1
    return {
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "MPLBACKEND": "Agg",
        "MLFLOW_TRACKING_URI": f"{url}/mlflow/v1.0{ws.id}",
        "MLFLOW_TRACKING_TOKEN": identity.issue_to_run(name, secret, CLIENT_TOKEN_SECONDS),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the log is the command's own
        "MLFLOW_RUN_ID": name,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_EXPERIMENT_ID": local.store.noted(job.id, "experiment"),
        "AZUREML_RUN_ID": name,
        "AZUREML_ROOT_RUN_ID": local.store.noted(job.id, "root") or name,
        "AZUREML_EXPERIMENT_NAME": experiment,
        "AZUREML_EXPERIMENT_ID": local.store.noted(job.id, "experiment"),
        "AZUREML_EXPERIMENT_SCOPE": f"{ws.id}/experiments/{experiment}",
        "AZUREML_ARM_SUBSCRIPTION": ws.subscription,
        "AZUREML_ARM_RESOURCEGROUP": ws.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": ws.name,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_WORKSPACE_ID": ws.guid,
        "AZUREML_WORKSPACE_SCOPE": ws.id,
        "AZUREML_RUN_TOKEN": local.address.token,
        "AZUREML_SERVICE_ENDPOINT": url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{url}/discovery",
        "AZUREML_NODE_COUNT": str(nodes),
        "AZUREML_CR_COMPUTE_CONTEXT": json.dumps({"cluster_name": "local", "node_id": "0"}),
    }


def rendered(text: str, found: dict[str, Any]) -> str:
    """Fill in `${{inputs.x}}`; `$[[…]]` goes when an input in it was not given.

    Raises: Failed: a name is unknown.
    """

    def optional(match: re.Match[str]) -> str:
        names = _EXPRESSION.findall(match[1])
        return match[1] if all(name in found for name in names) else ""

    def value(match: re.Match[str]) -> str:
        if match[1] not in found:
            raise Failed(f"The command asks for {match[0]}, which the job does not have.")
        return str(found[match[1]])

    return _EXPRESSION.sub(value, _OPTIONAL.sub(optional, text))
