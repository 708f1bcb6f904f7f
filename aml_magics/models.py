"""Register the model a job has logged."""

from __future__ import annotations

from functools import partial

from aml_magics import client, documents
from aml_magics.assets import Asset, plain
from aml_magics.errors import BadInput
from aml_magics.records import Done
from aml_magics.session import Session

MLMODEL = "MLmodel"  # the file that makes a folder an MLflow model


def register(
    session: Session,
    *,
    job: str,
    name: str = "",
    artifact: str = "",
    description: str = "",
    tags: list[str] | None = None,
) -> Asset:
    """Register the MLflow model among a job's artifacts as a model of the workspace.

    Args: artifact: the model's folder; found when left out. name: the folder's when left out.
    Raises: BadInput: the job has no model, or more than one and none is named.
    """
    folder = artifact or _model_folder(session, job)
    with client.calling(session, hint="%aml job list") as ml:
        model = client.sdk().entities.Model(
            name=name or folder.rpartition("/")[2],
            path=f"azureml://jobs/{job}/outputs/artifacts/paths/{folder}",
            type="mlflow_model",
            description=description or None,
            tags=documents.assignments(tags, "--tags"),
        )
        return Asset("model", plain(ml.models.create_or_update(model)))


def download(session: Session, *, name: str, version: str, download_path: str = ".") -> Done:
    """Download the files of a model to a folder."""
    with client.calling(session, hint="%aml model list") as ml:
        ml.models.download(name, version, download_path=download_path)
    return Done(f"downloaded model {name}:{version} to {download_path}")


def _model_folder(session: Session, job: str) -> str:
    """The one folder with an MLmodel file among a run's artifacts."""
    found = _model_folders(session, job)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(
            f"job {job} has logged no MLflow model",
            hint='in the job: mlflow.sklearn.save_model(m, "model"); '
            'mlflow.log_artifacts("model", "model")',
        )
    raise BadInput(
        f"job {job} has {len(found)} models: {', '.join(found)}", "add --artifact FOLDER"
    )


def _model_folders(session: Session, job: str) -> list[str]:
    """Folders at the top with an MLmodel file, through MLflow's own client.

    Azure answers artifact lists through MLflow's azureml plugin only.
    """
    with client.quiet(), client.translating("%aml job list"):
        from mlflow.artifacts import list_artifacts

        listed = partial(list_artifacts, run_id=job, tracking_uri=session.tracking_uri)
        folders = [item.path for item in listed() if item.is_dir]
        return [
            folder
            for folder in folders
            if any(item.path.endswith(f"/{MLMODEL}") for item in listed(artifact_path=folder))
        ]
