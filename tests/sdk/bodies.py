"""A good body for each kind of resource, for tests that spoil it."""

from __future__ import annotations

URI = "azureml://datastores/workspaceblobstore/paths/{}"
GOOD = {
    "data/x/versions/1": {"dataUri": URI, "dataType": "uri_file"},
    "models/x/versions/1": {"modelUri": URI, "modelType": "custom_model", "flavors": {}},
    "environments/x/versions/1": {"image": "x", "condaFile": "x", "build": {"contextUri": "x"}},
    "codes/x/versions/1": {"codeUri": "x"},
    "components/x/versions/1": {"componentSpec": {"type": "command", "inputs": {}}},
    "featuresets/x/versions/1": {"specification": {"path": "x"}, "entities": []},
    "datastores/x": {
        "datastoreType": "AzureBlob",
        "accountName": "a",
        "containerName": "c",
        "credentials": {"credentialsType": "None"},
        "isDefault": True,
    },
    "computes/x": {"computeType": "AmlCompute", "properties": {"vmSize": "x"}},
    "schedules/x": {"trigger": {"triggerType": "Cron"}, "action": {"actionType": "CreateJob"}},
    "batchEndpoints/x": {"authMode": "x", "defaults": {"deploymentName": "x"}},
    "connections/x": {"authType": "x", "category": "x", "credentials": {}, "metadata": {}},
    "outboundRules/x": {"type": "FQDN", "destination": "x"},
    "onlineEndpoints/xyz": {"authMode": "key", "traffic": {"a": 1}, "properties": {}},
    "jobs/x": {
        "jobType": "Sweep",
        "displayName": "x",
        "experimentName": "x",
        "inputs": {"a": {"jobInputType": "literal", "value": "1"}},
        "outputs": {"o": {"uri": "x"}},
    },
}
COMMON = {"tags": {}, "description": "x", "properties": {}, "isArchived": False}
BESIDE = ("tags", "location", "identity", "sku", "kind")
# Requests with a body that is not a resource, by how their path ends.
ASKED = {
    "/rundata": {"runId": "x"},
    "/batchGetResolvedUris": {"values": ["azureml://jobs/x/outputs/default"]},
    "/batch/metadata": {"paths": [{"path": "x/y"}, {"path": "z"}]},
    "/getLogs": {"tail": 5, "containerType": "InferenceServer"},
    "/regenerateKeys": {"keyType": "Primary", "keyValue": "x"},
    "/versions/1": {"blobUri": "https://x.blob.core.windows.net:443/c"},
    "/runs/x": {"displayName": "x", "tags": {"a": "b"}, "hidden": False, "description": "x"},
    "/indexes/x/versions/1": {"storageUri": "x", "tags": {}, "stage": "x"},
    "/deployments/x": {
        "properties": {
            "parameters": {"workspaceName": {"value": "x"}, "kind": {"value": "hub"}},
        }
    },
}
MLFLOW = {
    "runs/create": {"experiment_id": "1", "start_time": 1, "tags": [{"key": "a", "value": "b"}]},
    "runs/log-metric": {"run_id": "x", "key": "m", "value": 1.0, "timestamp": 1, "step": 0},
    "runs/log-batch": {
        "run_id": "x",
        "metrics": [{"key": "m", "value": 1.0, "timestamp": 1, "step": 0}],
        "params": [{"key": "p", "value": "1"}],
        "tags": [],
    },
    "runs/search": {"experiment_ids": ["1"], "filter": "metrics.m > 1", "max_results": 10},
    "runs/update": {"run_id": "x", "status": "FINISHED", "end_time": 1},
    "experiments/create": {"name": "x"},
    "experiments/search": {"max_results": 10, "order_by": ["name"]},
    "registered-models/create": {"name": "x"},
    "model-versions/create": {"name": "x", "source": "runs:/x/model", "run_id": "x"},
}
# One of every kind, good enough to be there: the names are those that fuzzing knows.
THERE = {
    **GOOD,
    "components/x/versions/1": {"componentSpec": {"type": "command", "command": "true"}},
    "models/x/versions/1": {"modelUri": URI.format("x"), "modelType": "custom_model"},
    "featurestoreEntities/x/versions/1": {"indexColumns": []},
    "serverlessEndpoints/x": {"modelSettings": {"modelId": "x"}, "authMode": "Key"},
    "marketplaceSubscriptions/x": {"modelId": "x"},
    "batchEndpoints/x": {"authMode": "AADToken", "defaults": {}},
    "batchEndpoints/x/deployments/x": {"model": {"referenceType": "Id", "assetId": "x"}},
    "onlineEndpoints/xyz": {"authMode": "Key", "traffic": {}},
    "jobs/x": {"jobType": "Command", "command": "true", "experimentName": "x"},
}
