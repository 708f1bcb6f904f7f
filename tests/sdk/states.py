"""What has to be there before a recorded exchange can be repeated.

`STATES` is read top to bottom: the first row whose pattern is found in an exchange's label makes
its state. Each function takes a scene and the exchange, and returns what the request needs of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.sdk import places
from tests.sdk.contract import Exchange, exchanges
from tests.sdk.scenes import (
    ACTIONS,
    API,
    ARM,
    BODIES,
    CONTENT,
    ENDED,
    LOCATION,
    QUERY,
    Needs,
    Scene,
    address,
    path_of,
    request_body,
)


def replayed(scene: Scene, exchange: Exchange) -> Any:
    """Make the state, send the recorded request, and return the answer."""
    make = next(make for pattern, make in STATES if re.search(pattern, exchange.label))
    needs = make(scene, exchange)
    url = needs.url or address(scene, exchange, needs)
    body = needs.body or request_body(scene, exchange, needs)
    return scene.send(exchange.method, url, body, **needs.headers)


def nothing(scene: Scene, exchange: Exchange) -> Needs:
    return Needs()


def existing(scene: Scene, exchange: Exchange) -> Needs:
    """The resource that the URL names is there."""
    below = path_of(scene, exchange.url, {}).partition(scene.ws)[2].strip("/")
    parts = below.split("/")
    is_operation = exchange.method == "POST"
    scene.make("/".join(parts[:-1] if is_operation else parts + ["thing"] * (len(parts) % 2)))
    return Needs()


def put_twice(scene: Scene, exchange: Exchange) -> Needs:
    """What is put is there already, from the same request."""
    body = request_body(scene, exchange, Needs())
    if exchange.url.startswith("/WS/jobs"):
        scene.busy = True
    scene.do("PUT", address(scene, exchange, Needs()), body)
    return Needs(body=body)


def parent(scene: Scene, exchange: Exchange) -> Needs:
    """What is put is new, and what it is in is there."""
    below = path_of(scene, exchange.url, {}).partition(scene.ws)[2].strip("/")
    if below.count("/") > 1:
        scene.make(below.rpartition("/deployments/")[0])
    scene.busy = "onlineEndpoints" in below or "jobs/" in below
    return Needs()


def own_datastore(scene: Scene, exchange: Exchange) -> Needs:
    return Needs(names={"datastore": "workspaceblobstore"})


def deleted_workspace(scene: Scene, exchange: Exchange) -> Needs:
    scene.do("GET", scene.ws)
    scene.do("DELETE", scene.ws)
    return Needs()


def feature_store(scene: Scene, exchange: Exchange) -> Needs:
    settings = {
        "computeRuntime": {"sparkRuntimeVersion": "3.3"},
        "offlineStoreConnectionName": "offline",
        "onlineStoreConnectionName": "online",
    }
    body = {"kind": "FeatureStore", "properties": {"featureStoreSettings": settings}}
    scene.do("PUT", scene.ws, body)
    return Needs()


def operation(header: str, verb: str, path: str, body: Any = None) -> Any:
    """The operation that a request on `path` has begun, by the header that names it."""

    def make(scene: Scene, exchange: Exchange) -> Needs:
        if verb in ("PATCH", "POST", "DELETE") and path:
            scene.make(path.replace("/stop", ""))
        answer = scene.do(verb, f"{scene.ws}/{path}".rstrip("/"), body or {"properties": {}})
        return Needs(url=answer.headers[header])

    return make


def put_operation(header: str) -> Any:
    """The operation of an endpoint that was put."""

    def make(scene: Scene, exchange: Exchange) -> Needs:
        answer = scene.do("PUT", f"{scene.ws}/onlineEndpoints/thing", scene.body("onlineEndpoints"))
        return Needs(url=answer.headers[header])

    return make


def busy_operation(scene: Scene, exchange: Exchange) -> Needs:
    """The result of a deployment that is still being made."""
    scene.make("onlineEndpoints/thing")
    path = f"{scene.ws}/onlineEndpoints/thing/deployments/blue"
    answer = scene.do("PUT", path, scene.body("onlineEndpoints/deployments"))
    return Needs(url=answer.headers["Location"])


def scripted_deployment(scene: Scene, exchange: Exchange) -> Needs:
    """A deployment with a scoring script, which fails as the recorded one did."""
    scene.put_blob(f"{scene.container}/code/score.py", b"def init():\n    raise ValueError(1)\n")
    uri = "azureml://datastores/workspaceblobstore/paths/code"
    code = scene.put("codes/scripts/versions/1", {"codeUri": uri})
    model = scene.make("models/numbers")
    properties = {
        **exchange.response["properties"],
        "codeConfiguration": {"codeId": code, "scoringScript": "score.py"},
        "instanceType": "Standard_DS3_v2",
        "model": model,
        "environmentId": "azureml:AzureML-any/versions/1",
        "environmentVariables": {},
    }
    settings = ("requestSettings", "livenessProbe", "readinessProbe")
    asked = {key: value for key, value in properties.items() if key not in settings}
    scene.make("onlineEndpoints/thing")
    path = scene.put("onlineEndpoints/thing/deployments/blue", asked, tags={"team": "a"})
    scene.state(path, "Failed")
    return Needs(names={"onlineEndpoint": "thing", "deployment": "blue"})


def running_job(scene: Scene, exchange: Exchange) -> Needs:
    id_ = scene.job("sleep 60")
    return Needs(names={"job": scene.reached(id_, "Running")})


def ended_job(scene: Scene, exchange: Exchange) -> Needs:
    name = scene.reached(scene.job("echo 1"), *ENDED)
    return Needs(names={"job": name, "run": name}, values={"runId": name})


def waiting_job(scene: Scene, exchange: Exchange) -> Needs:
    """More jobs than can run at once: the last one waits."""
    usage = scene.do("GET", f"{scene.subscription}{LOCATION}/usages").json()["value"][0]
    names = [scene.job("sleep 60") for _ in range(usage["limit"] + 1)]
    return Needs(names={"job": names[-1].rpartition("/")[2]})


def job_output(scene: Scene, exchange: Exchange) -> Needs:
    """The id by which run data names the output of a job."""
    name = scene.reached(scene.job("echo 1"), *ENDED)
    url = f"{API}/history/v1.0{scene.ws}/rundata"
    run = scene.do("POST", url, {"runId": name}).json()["runMetadata"]
    return Needs(names={"data": "v1.0"}, body={"values": [run["outputs"]["default"]["assetId"]]})


def job_log(scene: Scene, exchange: Exchange) -> Needs:
    """The address of a job's log as run history gives it."""
    name = scene.reached(scene.job("echo 1"), *ENDED)
    details = scene.do("GET", f"{API}/history/v1.0{scene.ws}/runs/{name}/details").json()
    return Needs(url=details["logFiles"]["user_logs/std_log.txt"])


def known_code(scene: Scene, exchange: Exchange) -> Needs:
    """A snapshot whose content is asked for, if the service knew it."""
    properties = {**BODIES["codes/versions"], "properties": {"hash_sha256": QUERY["hash"]}}
    if exchange.response["value"]:
        scene.do("PUT", f"{scene.ws}/codes/other/versions/1", {"properties": properties})
    return Needs()


def scheduled(scene: Scene, exchange: Exchange) -> Needs:
    """A schedule of the recorded kind."""
    text = json.dumps(exchange.response)
    kind = next(kind for kind in ACTIONS if f'"{kind}"' in text)
    if kind == "Pipeline":
        scene.make("components/part")
    properties = {**BODIES["schedules"], "action": ACTIONS[kind]}
    scene.do("PUT", f"{scene.ws}/schedules/thing", {"properties": properties})
    return Needs()


def pipeline(scene: Scene, exchange: Exchange) -> Needs:
    """A pipeline of one step that has ended, as have the runs of its steps."""
    step = {**BODIES["components/versions"]["componentSpec"], "name": "step"}
    del step["code"]
    body = {"properties": {"componentSpec": step}}
    scene.do("PUT", f"{scene.ws}/components/step/versions/1", body)
    node = {
        **{"name": "step", "display_name": None, "type": "command", "tags": {}},
        **{"computeId": "cpu", "resources": {"instance_count": 1}, "environment_variables": {}},
        **{"distribution": None, "limits": None, "_source": "YAML.COMPONENT"},
        "inputs": {
            "data": {"uri": scene.data(), "job_input_type": "uri_folder"},
            "rate": {"value": "0.2", "job_input_type": "literal"},
        },
        "outputs": {"model": {"uri": f"{scene.data()}/model", "job_output_type": "uri_folder"}},
        "componentId": "azureml:step:1",
    }
    asked = {
        **{"jobType": "Pipeline", "experimentName": "contract", "jobs": {"step": node}},
        "settings": {"default_compute": "cpu", "_source": "YAML.JOB"},
    }
    scene.busy = True
    scene.do("PUT", f"{scene.ws}/jobs/thing", {"properties": asked})
    name = scene.reached(f"{scene.ws}/jobs/thing", *ENDED)
    return Needs(names={"run": name}, values={"runId": name})


def fitting_component(scene: Scene, exchange: Exchange) -> Needs:
    """A component that has the inputs and outputs which the recorded steps give it."""
    nodes = exchange.request["properties"]["jobs"].values()
    spec = {"type": "command", "command": "echo 1"}
    for part, about in (("inputs", "string"), ("outputs", "uri_folder")):
        names = {name for node in nodes for name in node.get(part, {})}
        spec[part] = {name: {"type": about, "optional": True} for name in names}
    body = {"properties": {"componentSpec": spec}}
    id_ = f"{scene.ws}/components/fitting/versions/1"
    scene.do("PUT", id_, body)
    scene.busy = True
    values = {"componentId": id_}
    if exchange.status == 200:
        url = address(scene, exchange, Needs())
        scene.do("PUT", url, request_body(scene, exchange, Needs(values=values)))
    return Needs(values=values)


def no_component(scene: Scene, exchange: Exchange) -> Needs:
    return Needs(values={"componentId": f"{scene.ws}/components/none/versions/1"})


def two_models(scene: Scene, exchange: Exchange) -> Needs:
    scene.make("models/one")
    scene.make("models/two")
    return Needs(query={"$top": "1"})


def staged_model(scene: Scene, exchange: Exchange) -> Needs:
    properties = {**scene.body("models/versions")["properties"], "stage": "Development"}
    scene.do("PUT", f"{scene.ws}/models/thing/versions/1", {"properties": properties})
    return Needs()


def changed_code(scene: Scene, exchange: Exchange) -> Needs:
    scene.make("components/thing")
    return Needs(values={"code": "azureml:other:1"})


def curated(scene: Scene, exchange: Exchange) -> Needs:
    return Needs(names={"environment": "AzureML-any"})


def no_conda_file(scene: Scene, exchange: Exchange) -> Needs:
    return Needs(values={"condaFile": "- python"})


def compute_of_any_name(scene: Scene, exchange: Exchange) -> Needs:
    return Needs(names={"compute": "cpu-cluster"})


def deleted_compute(scene: Scene, exchange: Exchange) -> Needs:
    scene.do("DELETE", scene.make("computes/thing"))
    return Needs()


def existing_batch(scene: Scene, exchange: Exchange) -> Needs:
    """A batch endpoint whose default deployment is there."""
    endpoint = f"batchEndpoints/{scene.name}"  # scoring hosts know endpoints by name alone
    scene.make(f"{endpoint}/deployments/blue")
    scene.busy = True
    defaults = {"properties": {"authMode": "AADToken", "defaults": {"deploymentName": "blue"}}}
    answer = scene.do("PUT", f"{scene.ws}/{endpoint}", defaults)
    uri = answer.json()["properties"]["scoringUri"]
    return Needs(url=uri, values={"uri": scene.data().rpartition("/")[0]})


def deployed_workspace(scene: Scene, exchange: Exchange) -> Needs:
    """The deployment of a workspace: asked for, under way or done."""
    shape = next(
        one for one in exchanges() if "PUT /SUB/RG/providers/Microsoft.Resources" in one.label
    )
    body = request_body(scene, shape, Needs())
    body["properties"]["parameters"]["workspaceName"]["value"] = scene.name
    if exchange.method == "PUT":
        return Needs(body=body)
    path = f"{scene.group}/providers/Microsoft.Resources/deployments/thing"
    answer = scene.do("PUT", path, body)
    is_status = "/operationStatuses/" in exchange.url
    return Needs(url=answer.headers["Azure-AsyncOperation"] if is_status else "")


def validated(scene: Scene, exchange: Exchange) -> Needs:
    body = request_body(scene, exchange, Needs())
    resource = body["properties"]["template"]["resources"][0]
    resource["type"] = "Microsoft.MachineLearningServices/workspaces/components/versions"
    resource["name"] = f"{scene.name}/thing/1"
    return Needs(body=body)


def dependent(field: str) -> Any:
    """A resource that the workspace was made with."""

    def make(scene: Scene, exchange: Exchange) -> Needs:
        return Needs(url=f"{ARM}{scene.workspace[field]}?api-version={exchange.api_version}")

    return make


STATES: tuple[tuple[str, Any], ...] = (
    # storage
    (r"^(HEAD|GET) /\S*/?\{?\w+\}?\S* 416", places.blob(b"", **places.RANGE)),
    (r"^GET /\S+ 206", places.blob(CONTENT, **places.RANGE)),
    (r"^GET /azureml/ExperimentRun/dcid.0+/", job_log),
    (r"^(GET|HEAD) /\S+/(LocalUpload|ExperimentRun)/\S+ 200", places.blob(CONTENT)),
    (r"^PUT /(\{container\}|testblob)/\S+ 200", places.blob(CONTENT)),
    (r"^PUT /testblob 409", places.container_there),
    (r"^(PUT|PATCH) /testblob/LocalUpload%2F", places.file_system),
    (r"^(PUT|HEAD) /(\{container\}|testblob|silo-container\d+)/", places.upload),
    (r"^GET /testblob 200", places.container_there),
    (r"^GET /(\{container\}|azureml) 200", nothing),
    # registries
    (r"GET /REG/\S+ 404", places.registry),
    (r"POST /REG/import", places.sharing),
    (r"/assetstore/\S+ 204|GET /REG/models/", places.shared),
    (r"GET /REG/", places.in_registry),
    (r"^(GET|DELETE) /REG ", places.registry),
    (r"/REG/", places.registry),
    (r"/registries/\{registrie\}/discovery", places.registry),
    (r"/registryOperationsStatus/", places.registry_operation),
    (r"/assetstore/", places.write_operation("data")),
    (r"/environment/", places.write_operation("environments")),
    # operations
    (r"/mfeOperationsStatus/", put_operation("Azure-AsyncOperation")),
    (r"/mfeOperationResults/\S+ 202", busy_operation),
    (r"/mfeOperationResults/", put_operation("Location")),
    (
        r"/computeOperationsStatus/",
        operation("Azure-AsyncOperation", "POST", "computes/thing/stop"),
    ),
    (r"/workspaceOperationsStatus/\S+ 202", operation("Location", "PATCH", "")),
    (r"/workspaceOperationsStatus/", operation("Azure-AsyncOperation", "PATCH", "")),
    # above workspaces
    (r"^GET /WS 404", deleted_workspace),
    (r"^GET /SUB/RG/\S+/workspaces 200", feature_store),
    (r"/deployments/\{deployment\}/validate", validated),
    (r"/SUB/RG/\S*deployments/", deployed_workspace),
    (r"^DELETE \S+/storageAccounts/\S+ 200", dependent("storageAccount")),
    (r"^DELETE \S+/vaults/\S+ 200", dependent("keyVault")),
    (r"^DELETE \S+/Microsoft.insights/\S+ 200", dependent("applicationInsights")),
    (r"^\w+ /(SUB|subscriptions|providers|discovery|ux)\S* ", nothing),
    (r"^\w+ /WS(/diagnose|/provisionManagedNetwork)? ", nothing),
    # jobs and runs
    (r"/cancel 202", running_job),
    (r"/cancel 400", ended_job),
    (r"/cancel 200", waiting_job),
    (r"^GET /WS/jobs/\{job\} 200 Pipeline", pipeline),
    (r"^GET /WS/jobs/\{job\} 200", existing),
    (r"^PUT /WS/jobs/\{job\} 20[01] Pipeline", fitting_component),
    (r"^PUT /WS/jobs/\{job\} 404", no_component),
    (r"^PUT /WS/jobs/\{job\} 200", put_twice),
    (r"^PUT /WS/jobs/", parent),
    (r"batchGetResolvedUris", job_output),
    (r"/runs/\{run\}/(children|details) ", pipeline),
    (r"^\w+ /(history|execution)/", ended_job),
    (r"^POST /jobs 201", existing_batch),
    # resources
    (r"^(GET|POST) /WS/datastores\S* 200", own_datastore),
    (r"^GET /WS/codes/\{code\}/versions 200", known_code),
    (r"^GET /WS/schedules\S* 200", scheduled),
    (r"^GET /WS/onlineEndpoints/\S+/deployments/\S+ 200", scripted_deployment),
    (r"/WS/computes/\{compute\} 404", deleted_compute),
    (r"^GET /WS/computes/\{compute\} 200", compute_of_any_name),
    (r"^GET /WS/environments/\{environment\}/versions/\{version\} 200", curated),
    (r"^PUT /WS/environments/\S+ 400", no_conda_file),
    (r"^PUT /WS/components/\S+ 400", changed_code),
    (r"^GET /WS/models 200", two_models),
    (r"^GET /WS/models/\{model\}/versions 200", staged_model),
    (r" 404", nothing),
    (r"^PUT /WS/components/\{component\} 200", existing),
    (r"^PUT /WS/connections/", nothing),
    (r"^PUT \S+ 200", put_twice),
    (r"^PUT ", parent),
    (r"^POST \S+/startPendingUpload", nothing),
    (r"", existing),
)
