"""Data transfer jobs: copies between datastores, and data that a connection leads to.

What connection NAME leads to is, in the folder that `AML_LOCAL_DATA` names, `connections/NAME`: a
folder for a file system, the SQLite file `connections/NAME.sqlite` for a database.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aml_magics.local import drivers, external
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

DRIVER = Path(drivers.__file__).with_name("transfer.py")
ENDS = {"import_data": "source", "export_data": "sink"}  # which is beyond a connection
MODES = ("merge_with_overwrite", "fail_if_conflict")


def step(body: Body, spec: Body) -> Body:
    """The job of a step of a pipeline, its inputs and outputs apart."""
    said = {**spec, **{key: value for key, value in body.items() if value is not None}}
    names = ("task", "source", "sink")
    kept = {name: said[name] for name in names if said.get(name) is not None}
    return {"jobType": "DataTransfer", **kept, "dataCopyMode": said.get("data_copy_mode")}


def check(local: Local, job: Job, asked: Body) -> None:
    """Refuse a transfer that could not be.

    Raises: ArmError 400; 501: what its connection leads to is not on this machine.
    """
    task = asked.get("task")
    if task == "copy_data":
        if asked.get("dataCopyMode") not in (None, *MODES):
            raise bad_request(f"data_copy_mode is none of {', '.join(MODES)}.")
    elif task in ENDS:
        check_end(asked.get(ENDS[task]))
    else:
        raise bad_request(f"A data transfer has no task {task}.")


def check_end(end: object) -> None:
    """Refuse a source or sink that is nowhere on this machine.

    Raises: ArmError 400: it is not described; 501.
    """
    if not isinstance(end, dict) or not end.get("connection"):
        raise bad_request("The source or sink of a data transfer has a connection.")
    if external.mapped(_place(end)) is None:
        name, rest = _name(end), "" if end.get("type") == "file_system" else ".sqlite"
        message = f"The local workspace cannot reach what the connection {name} leads to."
        hint = f"Put connections/{name}{rest} under the folder that AML_LOCAL_DATA names."
        raise ArmError(501, "NotImplemented", f"{message} {hint}")


def _name(end: Body) -> str:
    return str(end["connection"]).removeprefix("azureml:").rpartition("/")[2]


def _place(end: Body) -> str:
    if end.get("type") == "file_system":
        path = str(end.get("path") or "").partition("://")
        return f"{external.CONNECTIONS}{_name(end)}/{path[2] or path[0]}"
    return f"{external.CONNECTIONS}{_name(end)}.sqlite"


def as_command(job: Body) -> Body:
    """The properties of a data transfer as those of a command job in the workspace's Python."""
    task, inputs = job["task"], dict(job.get("inputs") or {})
    end = job.get(ENDS.get(task, "")) or {}
    if end:
        inputs["connection"] = {"jobInputType": "uri_folder", "uri": _place(end)}
    outputs = [f'"${{{{outputs.{name}}}}}"' for name in job["outputs"] if name != "default"]
    given = [f'"${{{{inputs.{name}}}}}"' for name in inputs]
    if task == "copy_data":
        mode = job.get("dataCopyMode") or MODES[0]
        words = ["copy", mode, *outputs, *given]
    elif task == "export_data":
        table = shlex.quote(str(end.get("table_name") or ""))
        words = ["export", given[-1], table, *given[:-1]]
    elif end.get("type") == "file_system":
        words = ["copy", MODES[0], *outputs, *given]
    else:
        words = ["import", given[-1], shlex.quote(str(end.get("query") or "")), *outputs]
    command = " ".join(["exec python", shlex.quote(str(DRIVER)), *words])
    return {**job, "inputs": inputs, "command": command}


def pipeline_of(definition: Body) -> Body:
    """The pipeline job that a schedule's data import is; as `data.import_data` makes it.

    Args: definition: dataImportDefinition: assetName, dataType, dataUri, source.
    """
    source = dict(definition.get("source") or {})
    source["type"] = source.pop("sourceType", None)
    name = str(definition.get("assetName"))
    sink = {"job_output_type": definition.get("dataType"), "uri": definition.get("dataUri")}
    kind = "file_system" if source["type"] == "file_system" else "database"
    step = {
        "type": "data_transfer",
        "task": "import_data",
        "source": source,
        "outputs": {"sink": {**sink, "name": name}},
        "componentId": f"azureml://registries/azureml/components/import_data_{kind}/versions/0.0.1",
    }
    return {
        "jobType": "Pipeline",
        "displayName": f"data_import_{name}",
        "experimentName": f"data_import_{name}",
        "properties": {"azureml.materializationAssetName": name},
        "settings": {"force_rerun": True},
        "jobs": {f"data_import_{name}": step},
    }
