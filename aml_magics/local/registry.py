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
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import ArmError, Call, Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

MOST = 200_000  # the most that MLflow lists
STAGES = ("Staging", "Production", "Archived")
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
        call.local.online.expect(path)
        if version.isdecimal() and call.workspace.collection == "workspaces":
            _enter(call, int(version), _artifact_uri(call.local, path), properties)


def adopt(call: Call) -> None:
    """Bring the assets up to date with what clients did to MLflow's registry."""
    if call.workspace.collection == "registries":  # MLflow knows workspaces only
        return
    mlflow, account = call.local.mlflow, call.workspace.account
    registry = mlflow.store(account, "registry")
    state = mlflow.registry_state(account)  # as it is before the look, which may miss what follows
    if mlflow.adopted.get(account) is state:
        return
    models, store = f"{call.workspace.id}/models", call.local.store
    known = {(v.name, str(v.version)): v for v in registry.search_model_versions("", MOST)}
    with store.transaction():
        for (name, version), entry in known.items():
            row = store.get(f"{models}/{name}/versions/{version}")
            if row is None:
                _add_asset(call, f"{models}/{name}", version, entry)
            elif (changed := {**row.properties, **_facts(entry, row)}) != row.properties:
                store.put(row.id, row.kind, {**row.body, "properties": changed})
        _remove_gone(call, registry, known)
    mlflow.adopted[account] = state


def _remove_gone(call: Call, registry: Any, known: dict[tuple[str, str], Any]) -> None:
    """Remove the versions that MLflow has no more, and models that it has no more either."""
    store, prefix = call.local.store, f"{call.workspace.id}/models/".lower()
    for row in store.of_kind("models/versions"):
        name = row.parent.rpartition("/")[2]
        ours = row.id.lower().startswith(prefix) and store.noted(row.id, "in registry")
        if ours and (name, row.name) not in known:
            store.delete(row.id)
            is_last = not store.names(row.parent, "models/versions")
            if is_last and not registry.search_registered_models(f"name = '{name}'"):
                store.delete(row.parent)


def _facts(entry: Any, asset: Resource) -> Body:
    """What both sides tell of a version, as MLflow has it now.

    MLflow has no other stages than `STAGES`: an asset in one of its own stays there.
    """
    stage = entry.current_stage if entry.current_stage in STAGES else None
    own = asset.properties.get("stage")
    return {
        "description": entry.description or None,
        "tags": dict(entry.tags or {}),
        "stage": stage if stage or own in STAGES else own,
    }


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
        "stage": entry.current_stage if entry.current_stage in STAGES else None,
    }
    if call.local.store.get(container) is None:
        call.local.store.put(container, "models", {"properties": {**shared, "tags": {}}})
    id_ = f"{container}/versions/{version}"
    call.local.store.put(id_, "models/versions", {"properties": properties})
    call.local.store.note(id_, "in registry", True)


def _enter(call: Call, version: int, source: str, properties: Body) -> None:
    """Make the version in MLflow's registry, or bring it up to date with the asset."""
    name, id_ = call.path["name"], call.arm_id
    registry = call.local.mlflow.store(call.workspace.account, "registry")
    from mlflow.exceptions import MlflowException

    try:
        if not call.local.store.noted(id_, "in registry"):
            _make(registry, name, version, source, properties.get("jobName"))
        _tell(registry, name, version, properties)
    except MlflowException as exc:
        raise ArmError(400, "UserError", str(exc), "BadRequest") from exc
    call.local.mlflow.registry_changed(call.workspace.account)
    call.local.store.note(id_, "in registry", True)


def _make(registry: Any, name: str, version: int, source: str, run: str | None) -> None:
    """Make a version in MLflow's registry, under the number the asset has."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    made = registry.create_model_version(name, source, run)
    if made.version != version:
        with registry.ManagedSessionMaker(read_only=False) as session:
            rows = session.query(SqlModelVersion).filter_by(name=name, version=made.version)
            rows.update({"version": version})


def _tell(registry: Any, name: str, version: int, properties: Body) -> None:
    """Give a version in MLflow's registry the description, tags and stage of the asset."""
    from mlflow.entities.model_registry import ModelVersionTag

    known = registry.get_model_version(name, version)
    tags = {key: str(value) for key, value in (properties.get("tags") or {}).items()}
    for key in {*known.tags} - {*tags}:
        registry.delete_model_version_tag(name, version, key)
    for key, value in tags.items():
        if known.tags.get(key) != value:
            registry.set_model_version_tag(name, version, ModelVersionTag(key, value))
    if (description := properties.get("description") or "") != (known.description or ""):
        registry.update_model_version(name, version, description)
    stage = properties.get("stage") if properties.get("stage") in STAGES else "None"
    if stage != known.current_stage:
        registry.transition_model_version_stage(name, version, stage, False)


def _artifact_uri(local: Local, path: Path) -> str:
    return f"mlflow-artifacts:/{path.relative_to(local.home / 'storage').as_posix()}"


def _flavors(path: Path) -> dict[str, Any]:
    """The flavors an MLflow model folder declares, in the form of the asset's property."""
    description = path / "MLmodel"
    if not description.is_file():
        return {}
    flavors = (yaml.safe_load(description.read_text("utf-8")) or {}).get("flavors") or {}
    return {name: {"data": {k: str(v) for k, v in data.items()}} for name, data in flavors.items()}
