"""Batch endpoints: deploy a model, score files with a job, read the predictions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aml_magics import client, deploying, documents, jobs, models, settings
from aml_magics.assets import Asset, find, plain
from aml_magics.deploying import DEFAULT_DEPLOYMENT
from aml_magics.errors import BadInput
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

FOLDER, FILE = "uri_folder", "uri_file"
MINI_BATCH = 10  # files, as for az ml
RESULT = "predictions.csv"
COLUMNS = ("row", "prediction", "file")  # of the results of an MLflow model


def invoke(
    session: Session,
    *,
    tell: jobs.Tell,
    name: str,
    deployment_name: str = "",
    file: str = "",
    input: str = "",  # noqa: A002  az ml's word
    input_type: str = "",
    output_path: str = "",
    job_name: str = "",
    experiment_name: str = "",
    mini_batch_size: int = 0,
    instance_count: int = 0,
    overrides: list[str] | None = None,
    no_wait: bool = False,
) -> jobs.Job:
    """Have a batch endpoint score a file, a folder or an asset, and follow the job that does it.

    Args: file: YAML with the `inputs` and `outputs` of the job. input: path, URL, or
        `azureml:NAME:VERSION`, of `input_type` (a folder's or file's, by what it is).
        output_path: where on a datastore the results go.

    Raises: NotFound: no such endpoint or deployment. JobFailed: it ended otherwise than completed.
        Detached: the wait was interrupted.
    """
    said = yaml.safe_load(documents.read(file)) if file else {}
    if not isinstance(said, dict):
        raise BadInput(f"{file} is not a mapping", hint="inputs: {NAME: {type: …, path: …}}")
    options: dict[str, Any] = {"job_name": job_name, "experiment_name": experiment_name}
    changes: dict[str, Any] = {"mini_batch_size": mini_batch_size, "output_path": output_path}
    changes |= {"compute.instance_count": instance_count}
    changes |= documents.assignments(overrides, "--set")
    options["params_override"] = [{path: value} for path, value in changes.items() if value]
    with client.calling(session, hint="%aml batch-endpoint list") as ml:
        # Said each time: the SDK keeps the deployment of an invocation for the next one.
        default = ml.batch_endpoints.get(name).defaults
        chosen = deployment_name or getattr(default, "deployment_name", None)
        options["inputs"] = _inputs(said.get("inputs") or {}, Path(file).parent)
        if input:
            options["input"] = _input(_located(input, input_type))
        if outputs := said.get("outputs"):
            make = client.sdk().Output
            options["outputs"] = {key: make(**value) for key, value in outputs.items()}
        options = {key: value for key, value in options.items() if value}
        job = ml.batch_endpoints.invoke(name, deployment_name=chosen, **options)
    return jobs.show(session, name=job.name) if no_wait else jobs.follow(session, job.name, tell)


def _located(path: str, kind: str) -> dict[str, str]:
    """An input by its path; a file of this machine is one unless told otherwise."""
    guessed = FILE if Path(path).expanduser().is_file() else FOLDER
    return {"path": path, "type": kind or guessed}


def _inputs(said: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {name: _input(value, folder) for name, value in said.items()}


def _input(said: Any, folder: Path = Path()) -> Any:
    """The SDK's Input for what YAML says of one: a literal, a path or a mapping."""
    make = client.sdk().Input
    if not isinstance(said, dict):
        names = {bool: "boolean", int: "integer", float: "number"}
        return make(type=names.get(type(said), "string"), default=said)
    if "path" not in said:
        return make(**said)
    path = str(said["path"])
    here = folder / Path(path).expanduser()
    return make(**{"type": FOLDER, **said, "path": str(here.resolve()) if here.exists() else path})


def deploy(
    session: Session,
    *,
    tell: jobs.Tell,
    model: str,
    endpoint: str = "",
    deployment: str = DEFAULT_DEPLOYMENT,
    compute: str = "",
    instance_count: int = 1,
    mini_batch_size: int = MINI_BATCH,
) -> Asset:
    """Deploy an MLflow model to a batch endpoint, either of which is made or changed.

    Args: model: ``NAME``, ``NAME:VERSION``, ``NAME@ALIAS`` or ``NAME@latest``. endpoint: named like
        the model when left out. compute: where its jobs run. mini_batch_size: files at a time.
    Raises: NotFound: no such model. BadInput: it is no MLflow model, or the name is not valid.
    """
    with client.calling(session, hint="%aml model list") as ml:
        registered = find(ml, "model", models.versioned(session, model))
    if str(registered.type) != "mlflow_model":
        told = f"{registered.name}:{registered.version} is no MLflow model"
        raise BadInput(told, hint="%aml batch-deployment create -f, with its scoring script")
    name = endpoint or f"{deploying.default_name(registered.name)[:26]}-batch"
    deploying.check_name(name)
    deploying.check_name(deployment, "deployment")
    entities = client.sdk().entities
    with client.calling(session) as ml:
        if name not in {one.name for one in ml.batch_endpoints.list()}:
            tell(f"batch endpoint {name} …\n")
            made = entities.BatchEndpoint(name=name)
            client.begun(ml.batch_endpoints.begin_create_or_update, made).result()
        tell(f"deployment {deployment} of {registered.name}:{registered.version} …\n")
        made = entities.ModelBatchDeployment(
            name=deployment,
            endpoint_name=name,
            model=registered.id,
            compute=compute or settings.get("compute"),
            resources=entities.ResourceConfiguration(instance_count=instance_count),
            settings=entities.ModelBatchDeploymentSettings(mini_batch_size=mini_batch_size),
        )
        client.begun(ml.batch_deployments.begin_create_or_update, made).result()
        current = ml.batch_endpoints.get(name)
        current.defaults = {"deployment_name": deployment}
        client.begun(ml.batch_endpoints.begin_create_or_update, current).result()
        tell(f"delete it: %aml batch-endpoint delete -n {name} --yes\n")
        return Asset("batch-endpoint", plain(ml.batch_endpoints.get(name)))


def score(
    session: Session,
    *,
    tell: jobs.Tell,
    endpoint: str,
    path: str | pd.DataFrame,
    deployment: str = "",
    no_wait: bool = False,
) -> jobs.Job | pd.DataFrame:
    """Have a batch endpoint score a file, a folder, an asset or a table, and read what it says.

    Returns: the predictions, a row each, with ``row``, ``prediction`` and ``file``; the job's name
        is in ``.attrs["job"]``. The job itself with ``no_wait``.
    Raises: NotFound: no such endpoint. JobFailed: the job ended otherwise than completed.
        Detached: the wait was interrupted.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = invoke(
            session,
            tell=tell,
            name=endpoint,
            deployment_name=deployment,
            input=_file(path, Path(folder)),
            no_wait=True,  # what it scores is on the workspace by then
        )
    if no_wait:
        return job
    jobs.follow(session, job.name, tell)
    return predictions(session, job.name)


def _file(value: Any, folder: Path) -> str:
    """A path as it is; the path of a table that is written as CSV."""
    if not hasattr(value, "to_csv"):
        return str(value)
    file = folder / "table.csv"
    value.to_csv(file, index=False)
    return str(file)


def predictions(session: Session, job: str) -> pd.DataFrame:
    """What a batch endpoint's job has scored.

    Raises: BadInput: its results are no table of rows, predictions and files.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        with client.calling(session, hint=jobs.LIST) as ml:
            ml.jobs.download(job, download_path=folder, output_name="score")
        files = sorted(Path(folder).rglob(RESULT))
        if not files:
            shown = f"%aml job download {job} --output-name score"
            raise BadInput(f"job {job} has no {RESULT}", hint=shown)
        filled = [file for file in files if file.stat().st_size]
        if not filled:
            told = f"job {job} has scored no row: a file may have columns that the model lacks"
            raise BadInput(told, hint=f"%aml job stream {job}")
        table = pd.concat(pd.read_csv(file, header=None) for file in filled)
    if len(table.columns) == len(COLUMNS):
        table.columns = pd.Index(COLUMNS)
    table.attrs["job"] = job
    return table.reset_index(drop=True)
