"""Create jobs: from a Python cell, a YAML cell or a YAML file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aml_magics import cells, client, documents, jobs, settings
from aml_magics.errors import BadCommand, BadInput, NotFound, Refused
from aml_magics.quiet import quiet
from aml_magics.records import Done
from aml_magics.session import Session


def create(
    session: Session,
    *,
    namespace: Mapping[str, Any],
    tell: jobs.Tell,
    origin: cells.Origin | None = None,
    cell: str | None = None,
    job_type: str = "",
    file: list[str] | None = None,
    overrides: list[str] | None = None,
    inputs: list[Any] | None = None,
    outputs: list[str] | None = None,
    stream: bool = False,
    no_wait: bool = False,
    skip_validation: bool = False,
    name: str = "",
    experiment: str = "",
    display_name: str = "",
    description: str = "",
    compute: str = "",
    environment: str = "",
    tags: list[str] | None = None,
) -> jobs.Job:
    """Create a job from a cell (Python or YAML) or from a YAML file, and follow it.

    A cell is followed unless ``no_wait``, a file when ``stream``. A cell that says its ``job_type``
    is YAML, which need not say it again. The flags from ``name`` to
    ``tags`` win over what the YAML says, ``overrides`` (``--set``) over both.

    Raises: BadCommand, BadInput: what was given cannot be used. JobFailed: it was followed and
        ended otherwise than completed. Detached: the wait was interrupted.
    """
    keep = outputs or []
    cell = cells.typed(cell, job_type) if cell is not None and job_type else cell
    _check(cell, file, keep, no_wait)
    changes = {
        "name": name,
        "experiment_name": experiment,
        "display_name": display_name,
        "description": description,
        "compute": compute,
        "environment": environment,
        **documents.below("tags", documents.assignments(tags, "--tags")),
        **documents.below("tags", cells.tags(cell or "", origin or cells.Origin())),
    }
    with tempfile.TemporaryDirectory(prefix="aml-") as folder:
        if _is_python(cell):
            place = Path(folder)
            job = cells.python_job(
                str(cell), place, inputs or [], outputs=keep, files=file or [], namespace=namespace
            )
            job["environment"] = settings.get("environment")
            source = yaml.safe_dump(job, sort_keys=False)
        else:
            source, place = _yaml_source(cell, file)
            given = dict(cells.input_of(word, namespace) for word in inputs or [])
            changes |= documents.below("inputs", given)
        changes |= documents.assignments(overrides, "--set")
        name = _submit(session, source, place, changes, skip_validation)
    if no_wait if cell is not None else not stream:
        return jobs.show(session, name=name)
    done = jobs.follow(session, name, tell)
    done.kept = _fetch(session, name, keep)
    return done


def validate(session: Session, *, file: str, overrides: list[str] | None = None) -> Done:
    """Check a job's YAML without creating it.

    Raises: BadInput: it fails the schema or names what does not exist.
    """
    source, place = documents.read(file), Path(file)
    with client.calling(session) as ml:
        job = _load(source, place, documents.assignments(overrides, "--set"))
        found = ml.jobs.validate(job)
    problems = [f"{path}: {text}" for path, text in found.error_messages.items()]
    if problems:
        raise BadInput("\n".join(problems[:3]), hint=f"correct {file}")
    return Done(f"{file} is valid")


def _is_python(cell: str | None) -> bool:
    return cell is not None and not cells.is_yaml(cell)


def _check(cell: str | None, file: list[str] | None, keep: list[str], no_wait: bool) -> None:
    """Refuse flags that do not go together with each other or with the body."""
    if keep and not _is_python(cell):
        raise BadCommand("-o brings back a variable of a Python cell", hint="--as NAME is the job")
    if keep and no_wait:
        raise BadCommand("-o needs the end of the job", hint="leave out -o or --no-wait")
    if file and cell is not None and not _is_python(cell):
        raise BadCommand("--file goes with a Python cell", hint="a YAML body says code: FOLDER")


def _check_new(session: Session, name: str | None) -> None:
    """Refuse a name that is taken: the service would answer with the old job, not run a new one."""
    try:
        taken = name and jobs.show(session, name=name)
    except NotFound:
        return
    if taken:
        raise Refused(
            f"there is a job '{name}' already", hint="another -n, or none: one is made up"
        )


def _yaml_source(cell: str | None, file: list[str] | None) -> tuple[str, Path]:
    """The YAML text and where its relative paths begin."""
    if cell is not None:
        return cell, Path.cwd() / "cell.yml"
    if not file or len(file) != 1:
        raise BadCommand("which job?", hint="%aml job create -f JOB.yml, or %%aml job above a cell")
    return documents.read(file[0]), Path(file[0]).expanduser().resolve()


def _load(source: str, place: Path, changes: dict[str, Any]) -> Any:
    overrides = [{path: value} for path, value in changes.items() if value != ""]
    return client.sdk().load_job(
        io.StringIO(source), relative_origin=str(place), params_override=overrides
    )


def _submit(
    session: Session, source: str, place: Path, changes: dict[str, Any], skip_validation: bool
) -> str:
    """Create the job; returns its name."""
    with client.calling(session, hint="%aml data list, %aml environment list") as ml:
        job = _load(source, place, changes)
        _check_new(session, job.name)
        return str(ml.jobs.create_or_update(job, skip_validation=skip_validation).name)


def _fetch(session: Session, name: str, keep: list[str]) -> dict[str, Any]:
    """Variables of a cell, from the artifacts of its run."""
    if not keep:
        return {}
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="aml-") as folder, quiet():
        path = download_artifacts(
            run_id=name,
            artifact_path=cells.VARIABLES,
            dst_path=folder,
            tracking_uri=session.tracking_uri,
        )
        return cells.saved(Path(path))
