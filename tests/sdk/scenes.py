"""A workspace in which a recorded exchange is repeated, and the request that repeats it."""

from __future__ import annotations

import json
import re
import time
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import requests

from tests.sdk.contract import SHORT, Exchange, filled

ARM = "https://management.azure.com"
API = "https://eastus.api.azureml.ms"
PROVIDER = "Microsoft.MachineLearningServices"
LOCATION = f"/providers/{PROVIDER}/locations/eastus"
VERSIONED = ("codes", "components", "data", "environments", "featuresets", "models")
VERSIONED += ("featurestoreEntities",)
ENDED = ("Completed", "Failed", "Canceled")
CONTENT = b"a,b\n1,2\n"


class Needs(NamedTuple):
    """What the request of an exchange takes from its state.

    `url` replaces the recorded one; `names` fill its placeholders; `values` are of the body by
    key, `query` of the URL; `headers` are sent along.
    """

    url: str = ""
    names: dict[str, str] = {}  # noqa: RUF012
    values: dict[str, Any] = {}  # noqa: RUF012
    query: dict[str, str] = {}  # noqa: RUF012
    headers: dict[str, str] = {}  # noqa: RUF012
    body: Any = None


class Scene:
    """A workspace of its own, spoken to in the names of Azure's hosts."""

    def __init__(self, address: Any, connection: Any) -> None:
        self._door, self.token = address.url, connection.token
        self.ws = connection.tracking_uri.partition("/mlflow/v1.0")[2]
        self.group = self.ws.partition("/providers/")[0]
        self.name = self.ws.rpartition("/")[2]
        self.subscription = self.group.partition("/resourceGroups")[0]
        self.registry = f"{self.group}/providers/{PROVIDER}/registries/{self.name}"
        self.scopes = {
            "/WS": self.ws,
            "/REG": self.registry,
            "/SUB/RG": self.group,
            "/SUB": self.subscription,
        }
        self.busy = False

    def send(self, verb: str, url: str, body: Any = None, **headers: str) -> Any:
        """Send a request to a URL of the cloud; bytes go as they are, all else as JSON."""
        parts = urlsplit(url)
        headers = {"Host": parts.netloc, "Authorization": f"Bearer {self.token}", **headers}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        if data is not None and not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        if "sig=" in parts.query:
            del headers["Authorization"]
        path = self._door + parts.path + (f"?{parts.query}" if parts.query else "")
        return requests.request(verb, path, data=data, headers=headers, timeout=30)

    def do(self, verb: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request that must succeed; a path is one of ARM's."""
        url = path if path.startswith("https:") else ARM + path
        answer = self.send(verb, url, body, **headers)
        assert answer.ok, f"{verb} {path}: {answer.status_code} {answer.text}"
        return answer

    @property
    def workspace(self) -> dict[str, Any]:
        """The workspace's properties."""
        properties: dict[str, Any] = self.do("GET", self.ws).json()["properties"]
        return properties

    @property
    def account(self) -> str:
        return str(self.workspace["storageAccount"].rpartition("/")[2])

    @property
    def blobs(self) -> str:
        """The address of the workspace's storage account."""
        return f"https://{self.account}.blob.core.windows.net"

    @property
    def container(self) -> str:
        return f"azureml-blobstore-{self.workspace['workspaceId']}"

    def put_blob(self, path: str, content: bytes = CONTENT) -> str:
        """Write a blob; returns its address."""
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-meta-upload_status": "completed"}
        self.do("PUT", f"{self.blobs}/{path}", content, **headers)
        return f"{self.blobs}/{path}"

    def data(self) -> str:
        """The URI of a file in the workspace's blob store."""
        self.put_blob(f"{self.container}/x/data.csv")
        return "azureml://datastores/workspaceblobstore/paths/x/data.csv"

    def mlflow_model(self) -> str:
        """The URI of a folder that declares itself an MLflow model, and loads as none."""
        self.put_blob(f"{self.container}/model/MLmodel", b"flavors: {}\n")
        return "azureml://datastores/workspaceblobstore/paths/model"

    def make(self, path: str) -> str:
        """Make the resource at a path below the workspace, and those it is in; returns its id."""
        parts = path.strip("/").split("/")
        if parts[0] in VERSIONED:
            parts = [*parts[:2], "versions", *(parts[3:4] or ["1"])]
        for depth in range(4 if parts[0] in VERSIONED else 2, len(parts) + 1, 2):
            body = self.body("/".join(parts[:depth:2]))
            self.do("PUT", "/".join((self.ws, *parts[:depth])), body)
        self.busy = self.busy or parts[0] in ("jobs", "onlineEndpoints")
        return "/".join((self.ws, *parts))

    def put(self, path: str, properties: dict[str, Any], **beside: Any) -> str:
        """Put a resource at a path below the workspace; returns its id."""
        self.do("PUT", f"{self.ws}/{path}", {"properties": properties, **beside})
        return f"{self.ws}/{path}"

    def body(self, kind: str) -> dict[str, Any]:
        """A good body for a kind of resource: `models/versions`, `batchEndpoints/deployments`."""
        properties = BODIES[kind]
        ready = {key: item(self) if callable(item) else item for key, item in properties.items()}
        return {"location": "eastus", "tags": {"team": "a"}, "properties": ready}

    def job(self, command: str) -> str:
        """Submit a command job; returns its id."""
        self.busy = True
        id_ = f"{self.ws}/jobs/job-{time.monotonic_ns()}"
        self.do("PUT", id_, {"properties": {**BODIES["jobs"], "command": command}})
        return id_

    def pipeline_job(self) -> str:
        """Submit a pipeline that has no steps; returns its id."""
        self.busy = True
        id_ = f"{self.ws}/jobs/pipeline"
        asked = {"jobType": "Pipeline", "experimentName": "contract", "jobs": {}}
        self.do("PUT", id_, {"properties": asked})
        return id_

    def reached(self, id_: str, *statuses: str) -> str:
        """Wait until a job has one of the statuses; returns its name."""
        for _ in range(600):
            if self.do("GET", id_).json()["properties"]["status"] in statuses:
                return id_.rpartition("/")[2]
            time.sleep(0.05)
        raise AssertionError(f"{id_} does not come to {statuses}")

    def state(self, id_: str, wanted: str) -> None:
        """Wait until a resource is provisioned, or has failed to be."""
        for _ in range(600):
            if self.do("GET", id_).json()["properties"]["provisioningState"] == wanted:
                return
            time.sleep(0.05)
        raise AssertionError(f"{id_} does not come to {wanted}")

    def close(self) -> None:
        """End what the exchange has set going."""
        if self.busy:
            self.send("DELETE", ARM + self.ws)


_CURATED = "AzureML-any/versions/1"
BODIES: dict[str, dict[str, Any]] = {
    "batchEndpoints": {"authMode": "AADToken"},
    "batchEndpoints/deployments": {
        "model": lambda scene: {"referenceType": "OutputPath", "path": scene.mlflow_model()},
        "compute": "cpu",
    },
    "codes/versions": {"codeUri": "https://x.blob.core.windows.net:443/c/f"},
    "components/versions": {
        "componentSpec": {
            "$schema": "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
            "name": "thing",
            "version": "1",
            "display_name": "Thing",
            "description": "A component.",
            "type": "command",
            "task": "train",
            "tags": {"team": "a"},
            "inputs": {
                "data": {"type": "uri_folder", "optional": False, "description": "In."},
                "rate": {"type": "number", "optional": False, "default": "0.1"},
            },
            "outputs": {"model": {"type": "uri_folder"}},
            "code": "azureml:code:1",
            "environment": f"azureml:{_CURATED}",
            "command": "echo 1",
        }
    },
    "computes": {
        "computeType": "ComputeInstance",
        "properties": {"vmSize": "STANDARD_DS2_V2"},
    },
    "connections": {
        "authType": "PAT",
        "category": "Git",
        "target": "https://git.invalid/x",
        "credentials": {"pat": "hush"},
    },
    "data/versions": {"dataUri": Scene.data, "dataType": "uri_file"},
    "datastores": {
        "datastoreType": "AzureBlob",
        "accountName": "elsewhere",
        "containerName": "c",
        "credentials": {"credentialsType": "None"},
    },
    "environments/versions": {"image": "none.invalid/none"},
    "featuresets/versions": {
        "specification": {"path": "x"},
        "entities": ["azureml:account:1"],
        "stage": "Development",
    },
    "featurestoreEntities/versions": {
        "indexColumns": [{"columnName": "id", "dataType": "String"}],
        "stage": "Development",
    },
    "jobs": {
        "jobType": "Command",
        "command": "echo 1",
        "experimentName": "contract",
        "displayName": "A job",
        "environmentId": f"azureml:{_CURATED}",
        "tags": {"team": "a"},
    },
    "models/versions": {
        "modelUri": Scene.data,
        "modelType": "custom_model",
        "flavors": {"sklearn": {"data": {"sklearn_version": "1"}}},
    },
    "onlineEndpoints": {"authMode": "Key"},
    "onlineEndpoints/deployments": {
        "model": Scene.mlflow_model,
        "instanceType": "Standard_DS2_v2",
        "privateNetworkConnection": False,
    },
    "outboundRules": {
        "type": "ServiceTag",
        "destination": {"serviceTag": "Storage", "protocol": "TCP", "portRanges": "443"},
    },
    "schedules": {
        "isEnabled": False,
        "trigger": {
            "triggerType": "Cron",
            "expression": "15 10 * * 1",
            "startTime": "2022-03-10 10:15:00",
            "timeZone": "UTC",
        },
        "action": {
            "actionType": "CreateJob",
            "jobDefinition": {"jobType": "Command", "command": "echo 1"},
        },
    },
}

_SCHEDULED = {"experimentName": "contract", "computeId": "cpu", "isArchived": False}
ACTIONS: dict[str, Any] = {
    "Command": {
        "actionType": "CreateJob",
        "jobDefinition": {
            **_SCHEDULED,
            "jobType": "Command",
            "command": "echo 1",
            "environmentId": f"azureml:{_CURATED}",
            "identity": {"identityType": "UserIdentity"},
            "inputs": {
                "x": {"jobInputType": "uri_folder", "uri": "azureml:x:1", "mode": "ReadOnlyMount"}
            },
        },
    },
    "Pipeline": {
        "actionType": "CreateJob",
        "jobDefinition": {
            **_SCHEDULED,
            "jobType": "Pipeline",
            "settings": {"_source": "YAML.JOB"},
            "inputs": {"x": {"jobInputType": "literal", "value": "1"}},
            "jobs": {
                "step": {
                    "name": "step",
                    "type": "command",
                    "inputs": {"rate": {"job_input_type": "literal", "value": "1"}},
                    "_source": "YAML.COMPONENT",
                    "componentId": "azureml:part:1",
                }
            },
        },
    },
    "ImportData": {
        "actionType": "ImportData",
        "dataImportDefinition": {
            "assetName": "sales",
            "dataType": "uri_folder",
            "dataUri": "azureml://datastores/workspaceblobstore/paths/sales",
            "source": {"connection": "azureml:s3", "sourceType": "file_system", "path": "x"},
        },
    },
}

# Text of request bodies by key, where any text will not do.
VALUES: dict[str, Any] = {
    "instanceType": "Standard_DS3_v2",
    "codeUri": "https://x.blob.core.windows.net:443/c/f",
    "command": "echo 1",
    "condaFile": json.dumps({"dependencies": ["python=3.11"]}),
    "displayName": "A job",
    "expression": "15 10 * * 1",
    "image": "none.invalid/none",
    "location": "eastus",
    "startTime": "2022-03-10 10:15:00",
    "storageAccountType": "standard_lrs",
    "timeZone": "UTC",
    "version": "1",
}
LAZY_VALUES = {
    "componentId": lambda scene: scene.make("components/part"),
    "computeId": lambda scene: f"{scene.ws}/computes/cpu",
    "dataUri": Scene.data,
    "environmentId": lambda scene: f"{scene.ws}/environments/{_CURATED}",
    "model": Scene.mlflow_model,
    "sourceJobId": Scene.pipeline_job,
    "modelUri": Scene.data,
    "workspaceName": lambda scene: scene.name,
}
QUERY = {
    "$orderBy": "createdtime desc",
    "$top": "1",
    "action": "append",
    "category": "S3",
    "close": "true",
    "comp": "metadata",
    "count": "30",
    "forceToPurge": "false",
    "hash": "0" * 64,
    "hashVersion": "202208",
    "isDefault": "true",
    "listViewType": "All",
    "orderByAsc": "false",
    "position": "0",
    "prefix": "",
    "resource": "file",
    "service": "new",
    "skipValidation": "true",
    "stage": "Development",
    "type": "async",
    "underlyingResourceAction": "Delete",
}
NAMES = {"guid": "0a1b", "hash": "1c2d", "path": "data.csv", "location": "eastus", "version": "1"}


def address(scene: Scene, exchange: Exchange, needs: Needs) -> str:
    """The recorded URL with names that are of the scene."""
    query = {key: needs.query.get(key, QUERY.get(key, "")) for key in exchange.query}
    if "restype" in exchange.query:
        query.update(restype="container", comp="list" if exchange.method == "GET" else "")
    query.update(needs.query)
    if exchange.api_version:
        query["api-version"] = exchange.api_version
    host = exchange.host.replace("{region}", "eastus").replace("azureml-test", "azureml")
    host = re.sub(r"^(master|int)\.api", "eastus.api", host)
    if "{account}" in host:
        host = host.replace("{account}", scene.account)
    path = path_of(scene, exchange.url, needs.names)
    return f"https://{host}{path}" + (f"?{urlencode(query)}" if query else "")


def path_of(scene: Scene, url: str, names: dict[str, str]) -> str:
    for long, short in SHORT.items():
        url = url.replace(long, short or long)
    for short, id_ in scene.scopes.items():
        url = re.sub(rf"{short}(?=/|$)", id_, url)
    known = {**NAMES, "registrie": scene.name, **names}
    if "{container}" in url and "container" not in known:
        known["container"] = scene.container
    return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], "thing"), url)


def request_body(scene: Scene, exchange: Exchange, needs: Needs) -> Any:
    if exchange.request == "null":
        return None
    if exchange.request == "<bytes>":
        return CONTENT
    text = json.dumps(exchange.request)
    lazy = {key: make(scene) for key, make in LAZY_VALUES.items() if f'"{key}"' in text}
    return filled(exchange.request, {**VALUES, **lazy, **needs.values})
