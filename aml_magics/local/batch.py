"""Batch endpoints at work: an invocation is a pipeline job, whatever the deployment holds.

A model's job has one child, `batchscoring`: a parallel job whose output is named `score`. Endpoints
and deployments themselves are kept by resources.py.
"""

from __future__ import annotations

import re
from uuid import uuid4

import isodate
from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, identity, registry, submission
from aml_magics.local.bodies import USER
from aml_magics.local.controllers import graph
from aml_magics.local.controllers.parallel import MLFLOW
from aml_magics.local.controllers.run import Job
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import PROVIDER, ArmError, Call, Workspace, bad_request

KIND = "batchEndpoints"
DEPLOYMENT_HEADER = "azureml-model-deployment"
# Tags of the jobs; clients tell by the first two how to download their outputs.
BATCH, KIND_OF_JOB = "azureml.batchrun", "azureml.jobtype"
ENDPOINT, DEPLOYMENT = "azureml.endpointname", "azureml.deploymentname"


def invoke(call: Call) -> Response:
    """Begin a job of the deployment that the request names, or of the endpoint's default one."""
    endpoint = _endpoint(call)
    deployment = _deployment(call, endpoint)
    ws, asked = call.local.workspace_of(endpoint.id), _asked(call)
    made = deployment.properties.get("deploymentConfiguration") or {}
    define = _pipeline_job if made.get("componentId") else _model_job
    job = Job(ws, str(asked.get("name") or uuid4()))
    if call.local.store.get(job.id) is not None:
        raise ArmError(409, "UserError", f"There is a job {job.name} already.", "Conflict")
    names = {ENDPOINT: endpoint.name, DEPLOYMENT: deployment.name, BATCH: "true"}
    own = asked.get("properties") or {}
    common = {
        "jobType": "Pipeline",
        "displayName": f"{endpoint.name}-{job.name[:8]}",
        "experimentName": own.get("experimentName") or endpoint.name,
        "computeId": deployment.properties.get("compute"),
    }
    defined = define(call, ws, deployment.properties, asked)
    tags = {**defined.pop("tags", {}), **names}
    row = submission.create(call.local, job, {**common, **defined, "tags": tags})
    place = f"{call.door.api}/mferp/managementfrontend{endpoint.id}/jobs/{job.name}"
    headers = {DEPLOYMENT_HEADER: deployment.name, "Location": f"{place}?api-version=1"}
    return JSONResponse(_shown(call, endpoint.id, row), 201, headers)


def _asked(call: Call) -> Body:
    """What a request asks for; Azure's documentation writes InputData and Uri, the SDK inputData.

    Raises: ArmError 400.
    """
    asked = call.document().get("properties") or {}
    if not isinstance(asked, dict):
        raise bad_request("The properties of a request are a mapping.")
    asked = _camel(asked)
    for group in ("inputData", "outputData"):
        given = asked.get(group) or {}
        if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
            raise bad_request(f"The {group} of a request is a mapping of mappings.")
        asked[group] = {name: _camel(value) for name, value in given.items()}
    return asked


def _camel(given: Body) -> Body:
    return {name[:1].lower() + name[1:]: value for name, value in given.items()}


def list_jobs(call: Call) -> Response:
    """The jobs of a batch endpoint, or of one of its deployments."""
    parent = call.arm_id.rpartition("/")[0]
    row = arm.found(call, parent, f"There is no {parent.partition('/workspaces/')[2]}.")
    wanted = {ENDPOINT: row.name}
    if row.kind != KIND:
        wanted = {ENDPOINT: call.path["parent"], DEPLOYMENT: row.name}

    def keep(job: Resource) -> bool:
        return wanted.items() <= (job.properties.get("tags") or {}).items()

    page = arm.page(call, call.workspace.id, "jobs", keep)
    rows = (call.local.store.get(item["id"]) for item in page["value"])
    return JSONResponse({**page, "value": [_shown(call, parent, row) for row in rows if row]})


def get_job(call: Call) -> Response:
    endpoint, _, name = call.arm_id.rpartition("/jobs/")
    row = arm.found(call, f"{call.workspace.id}/jobs/{name}", f"Job {name} not found.")
    return JSONResponse(_shown(call, endpoint, row))


def _shown(call: Call, endpoint: str, row: Resource) -> Body:
    """A job as the batch service shows it."""
    job, ws = row.properties, call.local.workspace_of(row.id)
    compute = dict.fromkeys(("instanceCount", "instanceType", "location", "properties"))
    places = {"Tracking": call.door.mlflow(ws.id), "Studio": call.door.studio(row.name, ws.id)}
    return {
        "id": f"{endpoint}/jobs/{row.name}",
        "name": row.name,
        "type": f"{PROVIDER}/workspaces/{KIND}/jobs",
        "properties": {
            "provisioningState": "Succeeded",
            "status": "Preparing" if job["status"] == "Queued" else job["status"],
            "displayName": job["displayName"],
            "experimentName": job["experimentName"],
            "inputData": {
                name: {"description": None, "mode": "ReadOnlyMount", **value}
                for name, value in (job.get("inputs") or {}).items()
            },
            "outputData": job.get("outputs"),
            "interactionEndpoints": {
                kind: {"jobEndpointType": kind, "endpoint": place, "port": None, "properties": None}
                for kind, place in places.items()
            },
            "name": row.name,
            "compute": {**compute, "target": job.get("computeId"), "isLocal": False},
            "output": {"datastoreId": None, "path": None},
            "properties": job["properties"],
            "tags": job["tags"],
        },
        "systemData": {
            "createdAt": row.created_at,
            "createdBy": USER,
            "lastModifiedAt": row.modified_at,
            "lastModifiedBy": USER,
        },
    }


# Which deployment


def _endpoint(call: Call) -> Resource:
    """The endpoint of that name: through a host of Azure, which names no workspace, any.

    Raises: ArmError 401: the token is not this server's; 404.
    """
    if not call.local.is_token(identity.bearer(call.request.headers)):
        raise ArmError(401, "Unauthorized", "The token of the request is missing or wrong.")
    name, account = call.path["endpoint"].lower(), call.path["account"]
    for row in call.local.store.of_kind(KIND):
        if row.name.lower() == name and account in ("-", call.local.workspace_of(row.id).account):
            return row
    raise ArmError(404, "NotFound", f"There is no endpoint with name: {call.path['endpoint']}.")


def _deployment(call: Call, endpoint: Resource) -> Resource:
    default = (endpoint.properties.get("defaults") or {}).get("deploymentName")
    name = call.request.headers.get(DEPLOYMENT_HEADER) or default
    if not name:
        message = f"Endpoint {endpoint.name} has no default deployment: set one, or name one."
        raise ArmError(404, "NotFound", message)
    row = call.local.store.get(f"{endpoint.id}/deployments/{name}")
    if row is None:
        raise ArmError(404, "NotFound", f"Endpoint {endpoint.name} has no deployment {name}.")
    return row


# What its job is


def _pipeline_job(call: Call, ws: Workspace, deployment: Body, asked: Body) -> Body:
    made = deployment["deploymentConfiguration"]
    component = made["componentId"]
    id_ = component["assetId"] if isinstance(component, dict) else component
    declared = graph.component(call.local, ws, id_).get("outputs") or {}
    given = asked["outputData"]
    outputs = {
        name: {"jobOutputType": about.get("type"), **_typed(given.get(name) or {})}
        for name, about in declared.items()
    }
    return {
        "componentId": id_,
        "inputs": {name: _typed(value) for name, value in asked["inputData"].items()},
        "outputs": outputs,
        "settings": made.get("settings") or {},
        "tags": {**(made.get("tags") or {}), KIND_OF_JOB: "azureml.pipelinejob"},
    }


def _model_job(call: Call, ws: Workspace, deployment: Body, asked: Body) -> Body:
    """A pipeline of one parallel step; settings of the request go before those deployed.

    Raises: ArmError 400: there is no data to score; 404: the model is not there.
    """
    data = next((value for value in asked["inputData"].values() if value.get("uri")), None)
    if data is None:
        raise bad_request("The request has no inputData with a uri.")
    settings = {**deployment, **{key: value for key, value in asked.items() if value is not None}}
    retry = {**(deployment.get("retrySettings") or {}), **(asked.get("retrySettings") or {})}
    timeout = retry.get("timeout")
    step = {
        "type": "parallel",
        "componentId": f"{graph.BUILT_IN}batch_scoring/versions/1",
        "inputs": {"data": _snake(_typed(data))},
        "outputs": {"score": _snake(_score(asked))},
        "input_data": "${{inputs.data}}",
        "mini_batch_size": settings.get("miniBatchSize"),
        "error_threshold": settings.get("errorThreshold"),
        "logging_level": settings.get("loggingLevel"),
        "max_concurrency_per_instance": settings.get("maxConcurrencyPerInstance"),
        "resources": {"instance_count": (deployment.get("resources") or {}).get("instanceCount")},
        "retry_settings": {
            "max_retries": retry.get("maxRetries"),
            "timeout": isodate.parse_duration(timeout).total_seconds() if timeout else None,
        },
        **_scoring(call, ws, deployment, settings),
    }
    inputs = (asked.get("inputData") or {}).items()
    return {
        "inputs": {name: _typed(value) for name, value in inputs if isinstance(value, dict)},
        "jobs": {"batchscoring": step},
        "settings": {"force_rerun": True},
    }


def _scoring(call: Call, ws: Workspace, deployment: Body, settings: Body) -> Body:
    """The task of the step and its variables: the deployed script, or the one for MLflow models."""
    model = deployment.get("model") or {}
    if not isinstance(model, dict):
        raise bad_request("The model of a batch deployment is a mapping with an assetId or a path.")
    id_ = model.get("assetId") or model.get("path") or model.get("dataUri") or ""
    variables = dict(deployment.get("environmentVariables") or {})
    code = deployment.get("codeConfiguration") or {}
    task: Body = {
        "code": code.get("codeId"),
        "entry_script": code.get("scoringScript") or str(MLFLOW),
        "environment": deployment.get("environmentId"),
        "output": "${{outputs.score}}",
    }
    if id_:
        folder = registry.model_folder(call.local, ws, id_)
        variables |= {"AZUREML_MODEL_DIR": str(folder.parent), "AML_BATCH_MODEL": str(folder)}
    if not code and not (id_ and (folder / "MLmodel").is_file()):
        raise bad_request("The deployment has no scoring script, and its model is not MLflow's.")
    if str(settings.get("outputAction", "AppendRow")).lower() == "appendrow":
        name = settings.get("outputFileName") or "predictions.csv"
        is_file = _score(settings)["jobOutputType"] == "uri_file"
        task["append_row_to"] = "${{outputs.score}}" + ("" if is_file else f"/{name}")
    return {"task": task, "environment_variables": variables}


def _score(asked: Body) -> Body:
    """Where the results go: to the output that the request names, by any name."""
    given: Body = next(iter(asked["outputData"].values()), {})
    if not given and (place := asked.get("outputDataset")):
        store = str(place.get("datastoreId") or "").rpartition("/")[2]
        path = str(place.get("path") or "").strip("/")
        given = {"uri": f"azureml://datastores/{store}/paths/{path}/"} if store else {}
    return {"jobOutputType": "uri_folder", **_typed(given)}


def _typed(given: Body) -> Body:
    """An input or output of a request with its type as jobs name them: UriFolder, uri_folder."""
    kind = given.get("jobInputType") or given.get("jobOutputType") or ""
    key = "jobInputType" if "jobInputType" in given else "jobOutputType"
    rest = {name: value for name, value in given.items() if name != key and value is not None}
    return {**rest, key: _KINDS.get(kind.lower(), kind)} if kind else rest


_KINDS = {
    **{kind.replace("_", ""): kind for kind in graph.PATHS},
    **{kind: kind for kind in graph.PATHS},
    "literal": "literal",
}


def _snake(given: Body) -> Body:
    """The same as it is written inside the steps of a pipeline."""
    return {re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", name): v for name, v in given.items()}
