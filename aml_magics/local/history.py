"""Run history: what a job did and where its logs are, in the words of the run history service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, blobs, bodies, external, signatures, uris
from aml_magics.local.controllers.run import SCHEDULE, TERMINAL
from aml_magics.local.store import Body, Resource
from aml_magics.local.submission import KINDS
from aml_magics.local.wire import Call, bad_request, not_found

OUTPUT_TYPES = {"uri_file": "UriFile", "uri_folder": "UriFolder", "mltable": "MLTable"}
_OUTPUT = re.compile(r"azureml://jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)")
LOG_FOLDERS = ("user_logs", "azureml-logs", "system_logs", "logs")


def details(call: Call) -> Response:
    """A run with the addresses of its log files, readable by range for a day."""
    job = _job(call, call.path["run"])
    own = job.properties["properties"]
    logs = _log_files(call, own.get("azureml.reusedrunid") or job.name)
    more = {"error": _failure(call, job), "logFiles": logs, "jobCost": bodies.JOB_COST}
    return JSONResponse({**_run(call, job), **more})


def get_run(call: Call) -> Response:
    return JSONResponse(_run(call, _job(call, call.path["run"])))


def change_run(call: Call) -> Response:
    """Change a job's name, description, tags or properties, or hide it, as the studio does."""
    asked, job = call.document(), _job(call, call.path["run"])
    tags, more = _texts(asked, "tags"), _texts(asked, "properties")
    name, description = asked.get("displayName"), asked.get("description")

    def change(properties: Body) -> None:
        given = {"displayName": name, "description": description, "isArchived": asked.get("hidden")}
        properties.update({key: value for key, value in given.items() if value is not None})
        properties["tags"] = {**(properties.get("tags") or {}), **tags}
        properties["properties"] = {**(properties.get("properties") or {}), **more}

    note = {"mlflow.note.content": description} if description else {}
    call.local.mlflow.change_run(call.workspace, job.name, name, {**tags, **note})
    changed = call.local.store.update(job.id, change)
    return JSONResponse(_run(call, changed or job))


def _texts(asked: Body, field: str) -> dict[str, str]:
    """A mapping of a request whose values are text.

    Raises: ArmError 400: it is something else.
    """
    given = asked.get(field) or {}
    if not isinstance(given, dict):
        raise bad_request(f"The {field} of a run are a mapping.")
    return {key: str(value) for key, value in given.items()}


def children(call: Call) -> Response:
    """The child jobs of a job, newest first, in pages of `$top`."""
    job = _job(call, call.path["run"])
    body = arm.page(call, job.id, "jobs")
    rows = (call.local.store.get(item["id"]) for item in body["value"])
    runs = [_run(call, row) for row in rows if row]
    return JSONResponse(
        {"value": runs, "continuationToken": None, "nextLink": body.get("nextLink")}
    )


def service_instances(call: Call) -> Response:
    """The services that a job offers on its one machine, while it runs."""
    job = _job(call, call.path["run"])
    told = call.local.store.noted(job.id, "services") or {}
    if job.properties["status"] in TERMINAL:
        ended = {"status": "Stopped", "endpoint": None}
        told = {name: {**about, **ended} for name, about in told.items()}
    return JSONResponse({"instances": told})


def run_data(call: Call) -> Response:
    """A run with its definition, as `jobs.download` asks for it."""
    job = _job(call, str(call.document().get("runId", "")))
    outputs = {
        name: {
            "assetId": f"azureml://jobs/{job.name}/outputs/{name}",
            "type": output["jobOutputType"],
        }
        for name, output in job.properties["outputs"].items()
    }
    return JSONResponse(
        {
            "runMetadata": {**_run(call, job), "outputs": outputs},
            "runDefinition": None,
            "jobSpecification": None,
            "systemSettings": None,
        }
    )


def resolved_uris(call: Call) -> Response:
    """Where the data of outputs of jobs is, by the ids that `run_data` gave them."""
    ids = call.document().get("values")
    if not isinstance(ids, list):
        raise bad_request("The values to resolve are a list of ids.")
    return JSONResponse({"values": {id_: _resolved(call, str(id_)) for id_ in ids}})


def _resolved(call: Call, id_: str) -> Body:
    match = _OUTPUT.fullmatch(id_)
    job = _job(call, match["job"]) if match else None
    if match is None or job is None or match["output"] not in job.properties["outputs"]:
        raise not_found(f"Data {id_} not found.")
    output = job.properties["outputs"][match["output"]]
    uri = output["uri"]
    if not external.is_elsewhere(call.local, call.workspace, uri):
        path = uris.destination(call.local, call.workspace, uri)
        uri = uris.datastore_uri(call.local, call.workspace, path)
    kind = OUTPUT_TYPES.get(output["jobOutputType"])
    return {"uri": uri, "type": kind, "legacyDatasetType": None}


def list_artifacts(call: Call) -> Response:
    """Every file a run has logged."""
    root = _artifacts(call)
    return JSONResponse({"value": [_artifact(call, name) for name in _files(root)]})


def list_artifacts_in_path(call: Call) -> Response:
    path = call.query.get("path", "").strip("/")
    files = _files(uris.below(_artifacts(call), path))
    return JSONResponse({"value": [_artifact(call, f"{path}/{name}") for name in files]})


def artifact_content(call: Call) -> Response:
    """Where to read one file of a run, with a signature."""
    path = call.query.get("path", "")
    if not uris.below(_artifacts(call), path).is_file():
        raise not_found(f"Artifact {path} not found in run {call.path['run']}.")
    return JSONResponse(_content(call, path))


def artifact_prefix_content(call: Call) -> Response:
    path = call.query.get("path", "").strip("/")
    names = [f"{path}/{name}" for name in _files(uris.below(_artifacts(call), path))]
    return JSONResponse({"value": [_content(call, name) for name in names]})


def create_artifacts(call: Call) -> Response:
    """Places to upload files of a run to, with a signature that may write there."""
    asked = call.document().get("paths")
    if not isinstance(asked, list) or not all(isinstance(e, dict) and "path" in e for e in asked):
        raise bad_request("The artifacts to create are a list of paths.")
    paths = [str(entry["path"]) for entry in asked]
    return JSONResponse(
        {
            "artifacts": {path: _artifact(call, path) for path in paths},
            "artifactContentInformation": {path: _content(call, path, "rcw") for path in paths},
            "errors": {},
        }
    )


def _job(call: Call, name: str) -> Resource:
    job = call.local.store.get(f"{call.workspace.id}/jobs/{name}")
    if job is None:
        raise not_found(f"Run {name} not found.")
    return job


def _run(call: Call, job: Resource) -> Body:
    """A run as the service describes it; times are ISO 8601 in UTC."""
    properties, own = job.properties, job.properties["properties"]
    status = properties["status"]
    kind = KINDS[properties["jobType"]]
    parent = job.parent.partition("/jobs/")[2] or None
    root = call.local.store.noted(job.id, "root") or job.name
    took = bodies.duration(own)
    return {
        **bodies.RUN,
        **bodies.compute(properties),
        "runNumber": job.sequence,
        "runId": job.name,
        "runUuid": job.name,
        "rootRunId": root,
        "rootRunUuid": root,
        "parentRunId": parent,
        "parentRunUuid": parent,
        "scheduleId": own.get(SCHEDULE),
        "experimentId": properties["experimentName"],
        "dataContainerId": f"dcid.{job.name}",
        "displayName": properties["displayName"],
        "name": properties["displayName"],
        "description": properties["description"],
        "status": status,
        "target": (properties["computeId"] or "").rpartition("/")[2] or "local",
        "runType": kind.run_type,
        "runTypeV2": {
            "orchestrator": kind.orchestrator,
            "traits": [kind.run_type],
            "attribution": None,
            "computeType": None,
        },
        "createdUtc": job.created_at,
        "createdTimeUtc": job.created_at,
        "lastModifiedUtc": job.modified_at,
        "duration": took,
        "computeDuration": took,
        "hidden": job.archived,
        "startTimeUtc": own.get("StartTimeUtc"),
        "endTimeUtc": own.get("EndTimeUtc") if status in TERMINAL else None,
        "tags": properties["tags"],
        "properties": own,
    }


def _failure(call: Call, job: Resource) -> Body | None:
    error = call.local.store.noted(job.id, "error")
    return {"error": {"details": [], **error}} if error else None


def _log_files(call: Call, run: str) -> dict[str, str]:
    root = uris.artifacts(call.local, call.workspace, run)
    found = [f"{folder}/{name}" for folder in LOG_FOLDERS for name in _files(root / folder)]
    return {name: _url(call, run, name) for name in found}


def _artifacts(call: Call) -> Path:
    """The artifact folder of a run, be it a job's or one that a client logs by itself."""
    run = call.path["run"]
    root = uris.artifacts(call.local, call.workspace, run)
    if not root.exists():
        store = call.local.mlflow.store(call.workspace.account, "tracking")
        from mlflow.exceptions import MlflowException

        try:
            store.get_run(run)
        except MlflowException as exc:
            raise not_found(f"Run {run} not found.") from exc
    return root


def _files(folder: Path) -> Iterator[str]:
    """Names of the files below a folder, relative to it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _artifact(call: Call, path: str) -> dict[str, Any]:
    run = call.path["run"]
    container = f"dcid.{run}"
    return {
        "artifactId": f"ExperimentRun/{container}/{path}",
        "origin": "ExperimentRun",
        "container": container,
        "path": path,
    }


def _content(call: Call, path: str, allow: str = "r") -> dict[str, Any]:
    return {**_artifact(call, path), "contentUri": _url(call, call.path["run"], path, allow)}


def _url(call: Call, run: str, path: str, allow: str = "r") -> str:
    name, account = f"ExperimentRun/dcid.{run}/{path}", call.workspace.account
    signature = signatures.sas(call.local, account, uris.ARTIFACTS, name, allow)
    return f"{blobs.url(call.door, account, uris.ARTIFACTS, name)}?{signature}"
