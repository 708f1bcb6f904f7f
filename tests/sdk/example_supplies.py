"""What the copy of the examples lacks, made in a copy of the copy, so that each can be created.

The scripts are not there, nor what people register or fill in beforehand. Nothing here changes what
a YAML file says, but for the blanks it tells its reader to fill in.
"""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import yaml
from azure.ai.ml import load_component
from azure.ai.ml.constants import AssetTypes
from azure.ai.ml.entities import (
    Data,
    DataAsset,
    DataCollector,
    DeploymentCollection,
    Environment,
    FeatureStoreEntity,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    WorkspaceConnection,
)
from azure.core.exceptions import ResourceNotFoundError

BLANK = re.compile(r"<([A-Z][A-Z_-]+|endpoint_name)>|(?<!\$)\{\{([A-Z_]+)\}\}")
FILLED = {"LOCATION": "eastus", "VERSION": "1"}
ELSEWHERE = re.compile(r"(\w+:|\w+\+|/|<|\$\{\{)")
SCRIPT = "print('stands in for a script that is not in the copy')\n"
IMAGE = "none.invalid/none"
FOLDERS = ("code", "additional_includes")
PATHS = (*FOLDERS, "path", "conda_file", "flow", "training_data", "validation_data")
REFERENCES = ("component", "job", "create_job")  # other YAML files


def fill_in(text):
    """Fill in blanks, as `<REGISTRY-NAME>` and `{{ENDPOINT_NAME}}` ask for."""

    def word(match):
        name = match[1] or match[2]
        return FILLED.get(name, name.lower().replace("_", "-"))

    return BLANK.sub(word, text)


def fields(node):
    """Every field in a document, at any depth: its name, its value, the mapping it is in."""
    if isinstance(node, dict):
        entry = node.get("entry")
        if isinstance(entry, dict) and "file" in entry:  # of a Spark job, in the folder of its code
            yield "scoring_script", entry["file"], node
        for name, value in node.items():
            for one in value if isinstance(value, list) else [value]:
                yield name, one, node
        yield from (found for value in node.values() for found in fields(value))
    elif isinstance(node, list):
        yield from (found for value in node for found in fields(value))


def add_files(path, substitutes):
    """Make the files and folders that a YAML file and those it refers to name, but are not there.

    Args: substitutes: a folder with data files that may stand in for one of the same name.
    """
    document = yaml.safe_load(path.read_text("utf-8"))
    if "nodes" in document:  # what `pf flow validate` writes
        _add(path.parent / ".promptflow" / "flow.tools.json", True, substitutes)
    for name, value, inside in fields(document):
        if not isinstance(value, str) or ELSEWHERE.match(value.removeprefix("file:")):
            continue
        target = path.parent / value.removeprefix("file:")
        if name in REFERENCES and target.is_file():
            add_files(target, substitutes)
        elif name in PATHS and value:
            is_file = target.suffix or (name == "path" and inside.get("type") == "uri_file")
            _add(target, bool(is_file), substitutes)
        elif name == "scoring_script":
            _add(path.parent / inside.get("code", ".") / value, True, substitutes)


def _add(target, is_file, substitutes):
    if target.exists():
        return
    if not is_file:
        target /= "stand_in.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    known = next(substitutes.rglob(target.name), None)
    if known:
        shutil.copyfile(known, target)
    elif target.suffix == ".json":
        target.write_text("{}", "utf-8")
    else:
        target.write_text(SCRIPT, "utf-8")


# What is registered beforehand

ASSET = re.compile(
    r"azureml:(?P<name>[^:@/]+)(?:[:@](?P<version>[\w.-]+))?$"
    r"|azureml://registries/(?P<registry>[^/]+)/(?P<kind>\w+)/(?P<asset>[^/]+)"
    r"(?:/(?:versions|labels)/(?P<number>[\w.-]+))?$"
)
OUTPUT = {"type": "uri_folder"}
COLLECTED = ("model_inputs", "model_outputs")
LABELS = ("latest", "prod", None)
KINDS = {
    **dict.fromkeys(("environment", "base_environment_source", "resource_id"), "environments"),
    **dict.fromkeys(("component", "component_id", "pre_processing_component"), "components"),
    "model": "models",
    "connection": "connections",
    "endpoint_deployment_id": "deployments",
    "entities": "entities",
}
GROUPS = {"entities": "feature_store_entities", "deployments": "online_deployments"}
MODELS = (AssetTypes.CUSTOM_MODEL, AssetTypes.MLFLOW_MODEL, AssetTypes.TRITON_MODEL)


def register(path, client, in_registry):
    """Register the assets that a YAML file and those it refers to name.

    Args: in_registry: gives a client of a registry by its name.
    """
    document = yaml.safe_load(path.read_text("utf-8"))
    for name, value, inside in fields(document):
        if not isinstance(value, str):
            continue
        beside = path.parent / value.removeprefix("file:")
        if name in REFERENCES and not ELSEWHERE.match(value) and beside.is_file():
            register(beside, client, in_registry)
        if match := ASSET.match(value):
            at = in_registry(match["registry"]) if match["registry"] else client
            uses = [node for _, same, node in fields(document) if same == value]
            _register(at, _named(name, inside, match), match, uses, path.parent)


def _named(field, inside, match):
    if match["kind"]:
        return match["kind"]
    if field == "path":
        kind = inside.get("type") or inside.get("mode")
        return "models" if kind in MODELS else "data"
    return KINDS.get(field)


def _register(client, kind, match, uses, folder):
    name, version = match["name"] or match["asset"], match["version"] or match["number"]
    version = "1" if version in LABELS else version
    if kind in MAKERS and not _is_there(client, kind, name, version):
        MAKERS[kind](client, name, version, uses, folder)


def _is_there(client, kind, name, version):
    group = getattr(client, GROUPS.get(kind, kind))
    key = {"connections": (name,), "deployments": (version, name)}.get(kind, (name, version))
    try:
        group.get(*key)
    except ResourceNotFoundError:
        return False
    return True


def _component(client, name, version, uses, folder):
    """Register the component of that name if it is beside, else one that takes the same inputs."""
    for path in sorted(folder.rglob("*.y*ml")):
        if f"\nname: {name}\n" in path.read_text("utf-8"):
            add_files(path, folder)
            register(path, client, lambda _: client)
            client.components.create_or_update(load_component(path), version=version)
            return
    document = {
        "type": "command",
        "name": name,
        "inputs": {key: _port(value) for use in uses for key, value in _ports(use, "inputs")},
        "outputs": {
            key: {"type": "uri_folder"} for use in uses for key, _ in _ports(use, "outputs")
        },
        "command": "echo stand-in",
        "environment": "azureml://registries/azureml/environments/any/versions/1",
    }
    stand_in = load_component(io.StringIO(yaml.safe_dump(document)))
    client.components.create_or_update(stand_in, version=version)


def _ports(use, which):
    return (use.get(which) or {}).items()


def _port(value):
    if isinstance(value, dict) and "path" in value:
        return {"type": value.get("type", "uri_folder"), "optional": True}
    return {"type": "string", "optional": True}


def _data(client, name, version, uses, folder):
    uri = f"azureml://datastores/workspaceblobstore/paths/{name}"
    kind = uses[0].get("type", "uri_folder")
    kind = kind if kind in ("uri_file", "mltable") else "uri_folder"
    client.data.create_or_update(Data(name=name, version=version, path=uri, type=kind))


def _deployment(client, name, version, uses, folder):
    """Deploy a model that does not even load: monitors look only whether a deployment is there."""
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name)).result()
    asked = ManagedOnlineDeployment(
        name=version,
        endpoint_name=name,
        model=Model(path=_broken_model(folder), type="mlflow_model"),
        instance_type="Standard_DS3_v2",
        instance_count=1,
        data_collector=DataCollector({part: _collected(part) for part in COLLECTED}),
    )
    client.online_deployments.begin_create_or_update(asked)


def _collected(part):
    uri = f"azureml://datastores/workspaceblobstore/paths/{part}"
    return DeploymentCollection(enabled="true", data=DataAsset(name=part, version="1", path=uri))


def _broken_model(folder):
    place = folder / "stand-in-model"
    place.mkdir(exist_ok=True)
    (place / "MLmodel").write_text("flavors: {}\n", "utf-8")
    return place


def _environment(client, name, version, uses, folder):
    client.environments.create_or_update(Environment(name=name, version=version, image=IMAGE))


def _model(client, name, version, uses, folder):
    kind = uses[0].get("type") if uses[0].get("type") in MODELS else "custom_model"
    asked = Model(name=name, version=version, path=_broken_model(folder), type=kind)
    client.models.create_or_update(asked)


def _connection(client, name, version, uses, folder):
    asked = WorkspaceConnection(name=name, type="azure_sql_db", target="x", credentials=None)
    client.connections.create_or_update(asked)


def _entity(client, name, version, uses, folder):
    asked = FeatureStoreEntity(name=name, version=version, index_columns=[])
    client.feature_store_entities.begin_create_or_update(asked).result()


MAKERS = {
    "components": _component,
    "connections": _connection,
    "data": _data,
    "deployments": _deployment,
    "entities": _entity,
    "environments": _environment,
    "models": _model,
}


def copy(examples, to):
    """Copy the examples to a folder of one's own, blanks filled in; gives that folder."""
    shutil.copytree(examples, to, copy_function=shutil.copyfile)
    for path in Path(to).rglob("*.y*ml"):
        text = path.read_text("utf-8")
        if (filled := fill_in(text)) != text:
            path.write_text(filled, "utf-8")
    return Path(to)
