"""What a YAML file describes, which of the SDK's functions loads it, and which creates it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import azure.ai.ml as sdk
import yaml
from azure.ai.ml import entities
from azure.ai.ml.entities import _load_functions as more
from azure.core.exceptions import HttpResponseError

STORE = "azureml://datastores/workspaceblobstore/paths"


class Kind(NamedTuple):
    """A kind of YAML: `load` makes it an entity, `create` sends that, by a client."""

    load: object
    create: object


def _import(source):
    """As `az ml data import` does: the SDK has no `load_data_import`."""
    return more.load_common(entities.DataImport, source)


def _load_job(source):
    """Load a job, its open inputs given as by `az ml job create --set inputs.NAME.path=…`."""
    inputs = yaml.safe_load(Path(source).read_text("utf-8")).get("inputs") or {}
    given = []
    for name, port in inputs.items():
        if port in (None, ""):  # which the SDK does not send
            given.append({f"inputs.{name}": "given"})
        elif isinstance(port, dict) and {*port} == {"type"}:
            given.append({f"inputs.{name}.path": f"{STORE}/{name}"})
    return sdk.load_job(source, params_override=given)


def _group(name, act="create_or_update"):
    """Create with `client.NAME.ACT(entity)`; what takes time is waited for."""

    def create(client, entity):
        made = getattr(getattr(client, name), act)(entity)
        return made.result() if act.startswith("begin_") else made

    return create


def _job(client, job):
    """Submit and cancel at once: what counts here is that it was accepted."""
    made = client.jobs.create_or_update(job)
    with suppress(HttpResponseError):  # one that could not begin has ended already
        client.jobs.begin_cancel(made.name).result()
    return made


def _online_deployment(client, deployment):
    """Ask for it, and end it with its endpoint before its process is up."""
    name = deployment.endpoint_name
    kind = type(deployment).__name__.replace("Deployment", "Endpoint")
    endpoint = getattr(entities, kind)(name=name, **_compute_of(kind))
    client.online_endpoints.begin_create_or_update(endpoint).result()
    client.online_deployments.begin_create_or_update(deployment)
    client.online_endpoints.begin_delete(name).result()


def _compute_of(kind):
    return {"compute": "azureml:cluster"} if kind.startswith("Kubernetes") else {}


def _batch_deployment(client, deployment):
    endpoint = entities.BatchEndpoint(name=deployment.endpoint_name)
    client.batch_endpoints.begin_create_or_update(endpoint).result()
    return client.batch_deployments.begin_create_or_update(deployment).result()


def _package(client, package):
    """Package any model: the YAML says how, the command line which."""
    weights = Path(package.base_path) / "weights.bin"
    weights.write_bytes(b"weights")
    client.models.create_or_update(entities.Model(name="any", version="1", path=weights))
    return client.models.package("any", "1", package)


KINDS = {
    "batch deployment": Kind(more.load_model_batch_deployment, _batch_deployment),
    "batch endpoint": Kind(
        sdk.load_batch_endpoint, _group("batch_endpoints", "begin_create_or_update")
    ),
    "component": Kind(sdk.load_component, _group("components")),
    "compute": Kind(sdk.load_compute, _group("compute", "begin_create_or_update")),
    "connection": Kind(sdk.load_connection, _group("connections")),
    "data": Kind(sdk.load_data, _group("data")),
    "data import": Kind(_import, _group("data", "import_data")),
    "datastore": Kind(sdk.load_datastore, _group("datastores")),
    "environment": Kind(sdk.load_environment, _group("environments")),
    "feature set": Kind(sdk.load_feature_set, _group("feature_sets", "begin_create_or_update")),
    "feature store entity": Kind(
        sdk.load_feature_store_entity,
        _group("feature_store_entities", "begin_create_or_update"),
    ),
    "job": Kind(_load_job, _job),
    "model": Kind(sdk.load_model, _group("models")),
    "model package": Kind(sdk.load_model_package, _package),
    "online deployment": Kind(sdk.load_online_deployment, _online_deployment),
    "online endpoint": Kind(
        sdk.load_online_endpoint, _group("online_endpoints", "begin_create_or_update")
    ),
    "pipeline batch deployment": Kind(
        more.load_pipeline_component_batch_deployment, _batch_deployment
    ),
    "registry": Kind(sdk.load_registry, _group("registries", "begin_create")),
    "schedule": Kind(more.load_schedule, _group("schedules", "begin_create_or_update")),
    "workspace": Kind(sdk.load_workspace, _group("workspaces", "begin_create")),
}
# What the last part of `$schema` says; the first that fits is taken.
SCHEMAS = (
    ("component.*batchDeployment", "pipeline batch deployment"),
    ("component|^flow|^run", "component"),
    ("batchDeployment", "batch deployment"),
    ("batchEndpoint", "batch endpoint"),
    ("onlineDeployment", "online deployment"),
    ("onlineEndpoint", "online endpoint"),
    ("job", "job"),
    ("schedule", "schedule"),
    ("dataImport", "data import"),
    ("azureBlob|azureFile|azureDataLake|oneLake", "datastore"),
    ("entity", "feature store entity"),
    ("featureset", "feature set"),
    ("package", "model package"),
    ("compute", "compute"),
    *((kind, kind) for kind in ("connection", "data", "environment", "model", "workspace")),
)
# Where there is no `$schema`: fields that only one kind has, then what the path says.
FIELDS = {
    "jobs": "job",
    "command": "job",
    "model_provider": "job",
    "replication_locations": "registry",
    "managed_network": "workspace",
    "conda_file": "environment",
}
PLACES = {"/connections/": "connection", "/compute/": "compute"}
# Files that describe no resource: they are read by one, or by a program.
PARTS = {
    "a conda specification": {"dependencies"},
    "MLflow's list of packages": {"build_dependencies"},
    "the specification in a feature set's folder": {"index_columns", "features"},
    "settings that a component reads": {"label_column_name"},
    "inputs of a batch invocation": {"inputs", "outputs"},
}


def kind_of(place, document):
    """The key of KINDS that a document is, or None and the key of PARTS.

    Args: place: the path of its file in the examples.
    """
    schema = str(document.get("$schema", "")).rpartition("/")[2].removesuffix(".schema.json")
    found = next((kind for words, kind in SCHEMAS if re.search(words, schema, re.I)), None)
    if found and schema:
        return found, None
    found = next((kind for field, kind in FIELDS.items() if field in document), None)
    found = found or next((kind for part, kind in PLACES.items() if part in f"/{place}"), None)
    part = next((what for what, fields in PARTS.items() if fields <= {*document}), None)
    return (found, None) if found else (None, part)
