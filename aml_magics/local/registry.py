"""Models: one set, seen as workspace assets and as MLflow's registry.

A model version that is created on one side is there on the other at the next look. Versions whose
name is no whole number exist only as assets: MLflow counts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aml_magics.local import uris
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Call, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

MOST = 200_000  # the most that MLflow lists
_JOB_URI = re.compile(r"(?:azureml://(?:.*/)?jobs/|runs:/|.*/ExperimentRun/dcid\.)(?P<job>[^/]+)")


def model_folder(local: Local, ws: Workspace, model_id: str) -> Path:
    """The folder (or file) of a model version on this machine.

    Args: model_id: its ARM id, `azureml:NAME:VERSION`, or any URI of data.
    Raises: ArmError: there is no such model here.
    """
    if re.fullmatch(r"azureml:[^:/]+:[^:/]+", model_id):
        _, name, version = model_id.split(":")
        model_id = f"{ws.id}/models/{name}/versions/{version}"
    return uris.local_path(local, ws, model_id)


def complete(call: Call, version: str, properties: Body) -> None:
    """Add what the service knows of a new version, and enter it in MLflow's registry."""
    uri = properties.get("modelUri") or ""
    properties["modelUri"] = long = uris.long_uri(call.workspace, uri)
    job = _JOB_URI.match(uri)
    if job and not properties.get("jobName"):
        properties["jobName"] = job["job"]
    if long.startswith(("azureml:", "runs:", "mlflow-artifacts:")):
        path = uris.local_path(call.local, call.workspace, long)
        properties["modelUri"] = uris.datastore_uri(call.local, call.workspace, path)
        properties["flavors"] = properties.get("flavors") or _flavors(path)
        if version.isdecimal() and call.workspace.collection == "workspaces":
            _enter(call, int(version), _artifact_uri(call.local, path), properties)


def adopt(call: Call) -> None:
    """Bring the assets up to date with what clients did to MLflow's registry."""
    if call.workspace.collection == "registries":  # MLflow knows workspaces only
        return
    mlflow, account = call.local.mlflow, call.workspace.account
    registry = mlflow.store(account, "registry")
    state = _state(registry)
    if mlflow.adopted.get(account) == state:
        return
    models, store = f"{call.workspace.id}/models", call.local.store
    known = {(v.name, str(v.version)): v for v in registry.search_model_versions("", MOST)}
    with store.transaction():
        for (name, version), entry in known.items():
            if store.get(f"{models}/{name}/versions/{version}") is None:
                _add_asset(call, f"{models}/{name}", version, entry)
        prefix = models.lower() + "/"
        for row in store.of_kind("models/versions"):
            name = row.parent.rpartition("/")[2]
            ours = row.id.lower().startswith(prefix) and store.noted(row.id, "in registry")
            if ours and (name, row.name) not in known:
                store.delete(row.id)
    mlflow.adopted[account] = state


def _state(registry: Any) -> Any:
    """Changes with every change of MLflow's model versions, and is read without reading them."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from sqlalchemy import func

    version = SqlModelVersion
    times = (version.creation_time, version.last_updated_time)
    facts = (func.count(), *map(func.max, times), *map(func.sum, times))
    with registry.ManagedSessionMaker() as session:
        return tuple(session.query(*facts).select_from(version).one())


def _add_asset(call: Call, container: str, version: str, entry: Any) -> None:
    path = uris.local_path(call.local, call.workspace, entry.source)
    shared: Body = {
        "description": entry.description or None,
        "tags": dict(entry.tags or {}),
        "properties": {},
        "isArchived": False,
    }
    properties = {
        **shared,
        "isAnonymous": False,
        "flavors": _flavors(path),
        "modelType": "mlflow_model",
        "modelUri": uris.datastore_uri(call.local, call.workspace, path),
        "jobName": entry.run_id or None,
        "provisioningState": "Succeeded",
        "stage": None,
    }
    if call.local.store.get(container) is None:
        call.local.store.put(container, "models", {"properties": {**shared, "tags": {}}})
    id_ = f"{container}/versions/{version}"
    call.local.store.put(id_, "models/versions", {"properties": properties})
    call.local.store.note(id_, "in registry", True)


def _enter(call: Call, version: int, source: str, properties: Body) -> None:
    """Make the version in MLflow's registry, under the number the asset has."""
    name, id_ = call.path["name"], call.arm_id
    if call.local.store.noted(id_, "in registry"):
        return
    registry = call.local.mlflow.store(call.workspace.account, "registry")
    from mlflow.entities.model_registry import ModelVersionTag
    from mlflow.exceptions import MlflowException
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

    tags = [ModelVersionTag(k, str(v)) for k, v in (properties.get("tags") or {}).items()]
    try:
        if not registry.search_registered_models(f"name = '{name}'"):
            registry.create_registered_model(name)
        about = {"description": properties.get("description"), "tags": tags}
        made = registry.create_model_version(name, source, properties.get("jobName"), **about)
    except MlflowException as exc:
        raise ArmError(400, "UserError", str(exc), "BadRequest") from exc
    if made.version != version:
        with registry.ManagedSessionMaker(read_only=False) as session:
            rows = session.query(SqlModelVersion).filter_by(name=name, version=made.version)
            rows.update({"version": version})
    call.local.store.note(id_, "in registry", True)


def _artifact_uri(local: Local, path: Path) -> str:
    return f"mlflow-artifacts:/{path.relative_to(local.home / 'storage').as_posix()}"


def _flavors(path: Path) -> dict[str, Any]:
    """The flavors an MLflow model folder declares, in the form of the asset's property."""
    description = path / "MLmodel"
    if not description.is_file():
        return {}
    flavors = (yaml.safe_load(description.read_text("utf-8")) or {}).get("flavors") or {}
    return {name: {"data": {k: str(v) for k, v in data.items()}} for name, data in flavors.items()}
