"""Outputs of jobs that become assets: those that were given a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_magics.local import assets
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import Workspace

if TYPE_CHECKING:
    from aml_magics.local.app import Local

MODELS = ("custom_model", "mlflow_model", "triton_model")


def register(local: Local, ws: Workspace, job: Resource) -> None:
    """Make a data asset or a model of every output of a job that has an asset name.

    The version that was asked for, or the next one, is written into the job.
    """
    made = {
        name: _register(local, ws, job.name, output)
        for name, output in (job.properties.get("outputs") or {}).items()
        if output.get("assetName")
    }

    def change(properties: Body) -> None:
        for name, version in made.items():
            properties["outputs"][name]["assetVersion"] = version

    if made:
        local.store.update(job.id, change)


def _register(local: Local, ws: Workspace, job: str, output: Body) -> str:
    kind = output["jobOutputType"]
    description = {"description": output.get("description")}
    if kind in MODELS:
        collection, about = "models", {"modelType": kind, "modelUri": output["uri"], "jobName": job}
    else:
        collection, about = "data", {"dataType": kind, "dataUri": output["uri"]}
    about |= description
    version = output.get("assetVersion") or ""
    return assets.register(local, ws, collection, output["assetName"], about, version=version)
