"""Register models: what a job has logged, or files of this machine."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aml_magics import assets, client, documents, rest
from aml_magics.assets import Asset, named, plain
from aml_magics.errors import AmlError, BadInput, NotFound, Refused
from aml_magics.quiet import quiet
from aml_magics.records import Done
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

MLMODEL = "MLmodel"  # the file that makes a folder an MLflow model
DEPTH = 3  # folders below a run's artifacts in which models are looked for
LOGS = frozenset({"azureml-logs", "logs", "system_logs", "user_logs"})
COMMITS = ("mlflow.source.git.commit", "git_commit")  # tags of a run
# As MLflow has it; `latest` and version numbers mean something else.
ALIAS = re.compile(r"(?!latest$|v\d+$)[\w\-]{1,255}", re.ASCII | re.IGNORECASE)
RUN_URI = re.compile(r"runs:/([^/]+)(?:/(.+))?")  # MLflow's
NO_SIGNATURE = (
    "log_model(…, signature=mlflow.models.infer_signature(X, model.predict(X))), "
    "or --allow-no-signature"
)


def register(
    session: Session,
    *,
    source: Any,
    name: str = "",
    artifact: str = "",
    description: str = "",
    tags: list[str] | None = None,
    alias: str = "",
    allow_no_signature: bool = False,
) -> Asset:
    """Register the MLflow model of a job, or a model in a file or folder of this machine.

    Args:
        source: a job or run by its name or record, ``runs:/RUN/FOLDER``, or a path; without
            MLmodel that is a custom_model.
        artifact: the model's folder among the job's artifacts; found when left out.
        name: the folder's when left out. alias: moved to the new version, such as `champion`.
    Raises: BadInput: there is no model, more than one and none is named, or it has no signature,
        which it needs to be deployed without a scoring script.
    """
    if alias and not ALIAS.fullmatch(alias):
        raise BadInput(f"'{alias}' cannot be an alias", "letters, digits, - and _, as champion")
    job = run_of(source)
    if uri := RUN_URI.fullmatch(job):
        job, artifact = uri[1], artifact or uri[2] or ""
    place = Path(job).expanduser()
    fields = _of_folder(place) if place.exists() else _of_job(session, job, artifact)
    if fields.pop("signature", True) is None and not allow_no_signature:
        raise BadInput("the model has no signature", hint=NO_SIGNATURE)
    fields["name"] = name or fields["name"]
    more = {"description": description or None, "tags": documents.assignments(tags, "--tags")}
    with client.calling(session, hint="%aml job list") as ml:
        made = ml.models.create_or_update(client.sdk().entities.Model(**fields, **more))
    model = Asset("model", {**plain(made), **({"alias": alias} if alias else {})})
    lineage = {key: value for key, value in fields.get("properties", {}).items() if key != "job"}
    try:
        _tell_registry(session, model, alias, lineage)
    except AmlError as error:
        what = "the alias" if alias else "its commit in MLflow's registry"
        told = f"registered {made.name}:{made.version}, but without {what}: {error}"
        raise Refused(told, error.hint, result=model) from error
    return model


def show(
    session: Session,
    *,
    name: str,
    version: str = "",
    label: str = "",
    registry_name: str = "",
) -> Asset:
    """A model; also by an alias of MLflow's registry, and with its aliases.

    Raises: NotFound: there is none.
    """
    if registry_name:
        return assets.show(
            session,
            kind="model",
            name=name,
            version=version,
            label=label,
            registry_name=registry_name,
        )
    found = versioned(session, f"{name}@{label}" if label else name)
    model = assets.show(session, kind="model", name=found, version=version)
    aliases = _aliases(session, model.name).get(str(model.version), [])
    return Asset("model", {**model.data, "aliases": aliases}) if aliases else model


def list_(
    session: Session,
    *,
    name: str = "",
    registry_name: str = "",
    **options: Any,
) -> pd.DataFrame:
    """All models; with a name, its versions and their aliases."""
    table = assets.list_(session, kind="model", name=name, registry_name=registry_name, **options)
    if name and not registry_name and len(table):
        aliases = _aliases(session, name)
        table["aliases"] = [", ".join(aliases.get(str(one), [])) for one in table["version"]]
    return table


def _aliases(session: Session, name: str) -> dict[str, list[str]]:
    """The aliases of a model by version; none where the registry has no such thing."""
    try:
        with registry(session) as known:
            found = known.get_registered_model(name).aliases or {}
    except AmlError:
        return {}
    by_version: dict[str, list[str]] = {}
    for alias, version in sorted(found.items()):
        by_version.setdefault(str(version), []).append(alias)
    return by_version


def _tell_registry(session: Session, model: Asset, alias: str, lineage: dict[str, str]) -> None:
    """Keep in MLflow's registry what the workspace knows of a version."""
    if not (alias or lineage):
        return
    with registry(session) as known:
        if alias:
            known.set_registered_model_alias(model.name, alias, model.version)
        for key, value in lineage.items():
            known.set_model_version_tag(model.name, model.version, key, value)


def download(session: Session, *, name: str, version: str, download_path: str = ".") -> Done:
    """Download the files of a model to a folder."""
    with client.calling(session, hint="%aml model list") as ml:
        ml.models.download(name, version, download_path=download_path)
    return Done(f"downloaded model {name}:{version} to {download_path}")


def run_of(source: Any) -> str:
    """Name of the job, run id, URI or path that a word or an object stands for."""
    if info := getattr(source, "info", None):  # MLflow's Run
        return str(info.run_id)
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "best", None) or getattr(source, "name", source))


def folders(session: Session, job: str) -> list[str]:
    """The MLflow models that a job has logged, as folders among its artifacts.

    Raises: NotFound: no such job.
    """
    with quiet(), client.translating("%aml job list"):
        from mlflow import MlflowClient  # type: ignore[attr-defined, unused-ignore]

        runs = MlflowClient(tracking_uri=session.tracking_uri)
        outputs = getattr(runs.get_run(job).outputs, "model_outputs", None) or []
        logged = [runs.get_logged_model(output.model_id).name for output in outputs]
        return [*logged, *(f for f in _with_models(runs, job, "", DEPTH) if f not in logged)]


def _with_models(runs: Any, job: str, folder: str, depth: int) -> list[str]:
    """Folders with an MLmodel file, the folder itself or some below it."""
    items = runs.list_artifacts(job, folder)
    if any(item.path.rpartition("/")[2] == MLMODEL for item in items):
        return [folder]
    below = [item.path for item in items if item.is_dir and item.path not in LOGS]
    return [found for path in below if depth for found in _with_models(runs, job, path, depth - 1)]


def mlmodel(session: Session, uri: str) -> dict[str, Any]:
    """What the MLmodel file of a model says; ``signature`` is None where it has none.

    Args: uri: ``runs:/RUN/FOLDER`` or ``models:/NAME/VERSION``.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _said(fetched(session, f"{uri}/{MLMODEL}", Path(folder)))


def fetched(session: Session, uri: str, folder: Path) -> Path:
    """A file of a model, downloaded.

    Raises: NotFound: there is none.
    """
    with quiet(), client.translating("%aml model list"):
        from mlflow.artifacts import download_artifacts

        download = {"dst_path": str(folder), "tracking_uri": session.tracking_uri}
        return Path(download_artifacts(artifact_uri=uri, **download))


def versioned(session: Session, text: str) -> str:
    """``NAME:VERSION`` for ``NAME@ALIAS``; other names, and ``@latest``, as they are.

    Raises: NotFound: no such alias.
    """
    name, _, alias = named(text)
    if alias in {"", "latest"}:
        return text
    shown = f"%aml model list -n {name}"
    try:
        with registry(session, shown) as known:
            return f"{name}:{known.get_model_version_by_alias(name, alias).version}"
    except Refused as error:  # MLflow calls it a wrong parameter
        raise NotFound(f"model {name} has no alias '{alias}'", shown) from error


@contextmanager
def registry(session: Session, hint: str = "") -> Iterator[Any]:
    """MLflow's registry of the workspace, which has the aliases."""
    with quiet(), client.translating(hint):
        from mlflow import MlflowClient  # type: ignore[attr-defined, unused-ignore]

        uri = session.tracking_uri
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)


def _of_job(session: Session, job: str, artifact: str) -> dict[str, Any]:
    if "/" in job:
        raise BadInput(f"there is no file {job}, and that is no job's name", "%aml job list")
    folder = _named_folder(session, job, artifact.strip("/"))
    said = mlmodel(session, f"runs:/{job}/{folder}")
    return {
        "name": folder.rpartition("/")[2],
        "path": f"azureml://jobs/{job}/outputs/artifacts/paths/{folder}",
        "type": "mlflow_model",
        "properties": {"job": job, **_commit(session, job)},
        "signature": said["signature"],
    }


def _of_folder(place: Path) -> dict[str, Any]:
    if not (place / MLMODEL).is_file():
        return {"name": place.stem, "path": str(place), "type": "custom_model"}
    fields = {"name": place.resolve().name, "path": str(place), "type": "mlflow_model"}
    return {**fields, "signature": _said(place / MLMODEL)["signature"]}


def _named_folder(session: Session, job: str, artifact: str) -> str:
    """The model of a job that is named, or the one that it has logged.

    Raises: BadInput: there is none, or there are more.
    """
    found = folders(session, job)
    if artifact and found and artifact not in found:
        told = f"job {job} has no model '{artifact}'"
        raise BadInput(told, f"--artifact {' or '.join(found)}")
    if artifact and found:
        return artifact
    if len(found) == 1:
        return found[0]
    if not found:
        how = 'mlflow.sklearn.save_model(m, "model"); mlflow.log_artifacts("model", "model")'
        raise BadInput(f"job {job} has logged no MLflow model", hint=f"in the job: {how}")
    raise BadInput(
        f"job {job} has {len(found)} models: {', '.join(found)}", "add --artifact FOLDER"
    )


def _commit(session: Session, job: str) -> dict[str, str]:
    """The git commit that a job's code is from, as far as its run says."""
    run = rest.mlflow(session, "GET", "runs/get", {"run_id": job})["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
    return next(({"git_commit": tags[key]} for key in COMMITS if tags.get(key)), {})


def _said(file: Path) -> dict[str, Any]:
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {"signature": None, **said}
