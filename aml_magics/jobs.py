"""Jobs: follow, show, list, stop, change, fetch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from aml_magics import client, documents, logs, rest, settings
from aml_magics.errors import BadCommand, Detached, JobFailed, NotFound, Refused
from aml_magics.records import Done, Record, Row, brief
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

LIST = "%aml job list"  # what to type when there is no such job
Tell = Callable[[str], None]
PARENTS = ("Pipeline", "Sweep", "AutoML")  # types whose work child jobs do
# What run history calls types of jobs.
TYPES = {
    "scriptrun": "Command",
    "pipelinerun": "Pipeline",
    "hyperdrive": "Sweep",
    "automl": "AutoML",
}
FEW = 6  # child jobs that are told one by one
COLUMNS = {  # of a list: heading and field of the job's properties
    "display_name": "displayName",
    "experiment": "experimentName",
    "status": "status",
    "type": "jobType",
}


class Job(Record):
    """A job as it was when asked for; ``wait``, ``refresh``, ``logs`` and ``cancel`` ask again.

    ``data`` is the job as ARM gives it, ``run`` its MLflow run, empty before it has begun.
    """

    def __init__(self, session: Session, data: dict[str, Any], run: dict[str, Any]) -> None:
        self._session = session
        self.data = data
        self.run = run
        self.kept: dict[str, Any] = {}  # variables of a cell brought back
        self.children: pd.DataFrame | None = None  # of a job whose work child jobs do

    @property
    def session(self) -> Session:
        """Where it was asked for."""
        return self._session

    @property
    def name(self) -> str:
        return str(self.data["name"])

    @property
    def properties(self) -> dict[str, Any]:
        return dict(self.data["properties"])

    @property
    def status(self) -> str:
        return str(self.properties.get("status", ""))

    @property
    def url(self) -> str:
        """Page of the job."""
        studio = (self.properties.get("services") or {}).get("Studio") or {}
        return str(studio.get("endpoint") or "")

    @property
    def metrics(self) -> dict[str, float]:
        """Last value of each metric of its run."""
        return {m["key"]: float(m["value"]) for m in self._logged("metrics")}

    @property
    def params(self) -> dict[str, str]:
        return {p["key"]: p["value"] for p in self._logged("params")}

    @property
    def seconds(self) -> float | None:
        """How long its run took; None before the end."""
        info = self.run.get("info", {})
        start_ms, end_ms = info.get("start_time"), info.get("end_time")
        return (int(end_ms) - int(start_ms)) / 1000 if start_ms and end_ms else None

    @property
    def outputs(self) -> dict[str, str]:
        """Where each output is."""
        outputs = self.properties.get("outputs") or {}
        return {name: str(output.get("uri") or "") for name, output in outputs.items()}

    @property
    def best_trial(self) -> dict[str, Any] | None:
        """Of a sweep, so far: ``name``, ``parameters`` and ``score`` of its best trial."""
        found = self.properties.get("properties") or {}
        name = found.get("best_child_run_id")
        if not name:
            return None
        text = (self.properties.get("tags") or {}).get(f"_aml_system_{name}") or "{}"
        return {"name": name, "parameters": json.loads(text), "score": float(found["score"])}

    def wait(self) -> Job:
        """Wait until it ends.

        Raises: JobFailed: it ended otherwise than completed.
        """
        return follow(self._session, self.name, lambda _text: None)

    def refresh(self) -> Job:
        return show(self._session, name=self.name)

    def logs(self) -> str:
        """All of its log so far."""
        return logs.whole(self._session, self.name)

    def cancel(self) -> Done:
        return cancel(self._session, name=self.name)

    def _logged(self, kind: str) -> list[dict[str, Any]]:
        return list(self.run.get("data", {}).get(kind, []))

    @property
    def _is_sweep(self) -> bool:
        return str(self.properties.get("jobType")).lower() in {"sweep", "hyperdrive"}

    def _best(self) -> str:
        """The best trial in a line; that there is none, once the sweep has ended."""
        metric = (self.properties.get("objective") or {}).get("primaryMetric", "score")
        if best := self.best_trial:
            return f"{best['name']}: {brief(best['parameters'])} → {metric}={best['score']:.4g}"
        return "" if self.status in logs.LIVE else f"none: no trial has reported {metric}"

    def _title(self) -> str:
        return f"Job {self.name} · {self.status}"

    def _rows(self) -> list[Row]:
        properties = self.properties
        display = properties.get("displayName")
        inputs = properties.get("inputs") or {}
        values = {name: i.get("value", i.get("uri")) for name, i in inputs.items()}
        return [
            ("display name", brief(display) if display != self.name else ""),
            ("experiment", brief(properties.get("experimentName"))),
            ("type", brief(properties.get("jobType"))),
            ("compute", brief(properties.get("computeId")).rpartition("/")[2]),
            ("inputs", brief({name: _short(value) for name, value in values.items()})),
            ("trials" if self._is_sweep else "steps", _counts(self.children)),
            ("best trial", self._best() if self._is_sweep else ""),
            ("metrics", ", ".join(f"{k}={v:.4g}" for k, v in self.metrics.items())),
            ("description", brief(properties.get("description"))),
            ("created", _time(self.data)),
            ("took", f"{self.seconds:.1f} s" if self.seconds is not None else ""),
            ("page", self.url),
        ]


def follow(session: Session, name: str, tell: Tell) -> Job:
    """Tell a job's log until it ends.

    Raises: JobFailed: it ended otherwise than completed. Detached: interrupted; it goes on.
    """
    try:
        details, watch = logs.follow(session, name, tell)
    except KeyboardInterrupt:
        raise Detached(
            f"no longer following job {name}, which goes on",
            hint=f"%aml job stream -n {name} follows it again, %aml job cancel -n {name} stops it",
            result=show(session, name=name),
        ) from None
    job = show(session, name=name)
    if details["status"] == "Completed":
        return job
    raise JobFailed(
        f"job {name} {details['status'].lower()}{_reason(details)}",
        hint=f"all of its log: %aml job stream -n {name}",
        detail=_detail(details, job, watch.lines),
        result=job,
    )


def stream(session: Session, *, name: str, tell: Tell) -> Job:
    """Tell a job's log from its beginning until it ends."""
    show(session, name=name)  # an unknown name is an error at once
    return follow(session, name, tell)


def show(session: Session, *, name: str) -> Job:
    """One job.

    Raises: NotFound: there is none of that name.
    """
    data = rest.arm(session, "GET", f"/jobs/{name}", hint=LIST)
    if "properties" not in data:  # a step of a pipeline: run history has what it is
        data["properties"] = _step(rest.history(session, f"runs/{name}"))
    job = Job(session, data, _run(session, name))
    if job.properties.get("jobType") in PARENTS:
        job.children = children(session, name)
    return job


def children(session: Session, name: str) -> pd.DataFrame:
    """The child jobs of a pipeline, a sweep or an AutoML job, oldest first.

    Trials of a sweep have a column for each hyperparameter.

    Raises: NotFound: there is no such job.
    """
    import pandas as pd

    runs = list(rest.history_pages(session, f"runs/{name}/children"))
    tried = [json.loads((run.get("tags") or {}).get("hyperparameters") or "{}") for run in runs]
    rows = [
        {"name": run["runId"], **_row(_step(run)), **parameters, "created": _when(run)}
        for run, parameters in zip(runs, tried, strict=True)
    ]
    searched = dict.fromkeys(name for parameters in tried for name in parameters)
    return pd.DataFrame(
        rows[::-1], columns=[*dict.fromkeys(("name", *COLUMNS, *searched, "created"))]
    )


def _row(properties: dict[str, Any]) -> dict[str, Any]:
    return {heading: properties.get(key) for heading, key in COLUMNS.items()}


def _step(run: dict[str, Any]) -> dict[str, Any]:
    """What ARM would say of a job, from its run in run history."""
    names = ("displayName", "description", "status", "tags", "properties", "services")
    target = (run.get("compute") or {}).get("target") or run.get("target")
    facts = {"experimentName": run.get("experimentId"), "computeId": target}
    run_type = str(run.get("runType") or "").removeprefix("azureml.")
    kind = {"jobType": TYPES.get(run_type.lower(), run_type)}
    return {**{key: run.get(key) for key in names}, **facts, **kind}


def _when(run: dict[str, Any]) -> str:
    return str(run.get("createdUtc") or "")[:19].replace("T", " ")


def list_(
    session: Session,
    *,
    max_results: int = 0,
    include_archived: bool = False,
    archived_only: bool = False,
    parent_job_name: str = "",
) -> pd.DataFrame:
    """The newest jobs as a DataFrame; with a parent, its child jobs."""
    import pandas as pd

    if parent_job_name:
        show(session, name=parent_job_name)  # an unknown name is an error
        found = children(session, parent_job_name)
        return found.head(max_results or len(found))
    view = "ArchivedOnly" if archived_only else "All" if include_archived else "ActiveOnly"
    limit = max_results or settings.get("max_results")
    jobs = islice(rest.pages(session, "/jobs", listViewType=view), limit)
    rows = [
        {
            "name": job["name"],
            **_row(job["properties"]),
            "created": _time(job),
        }
        for job in jobs
    ]
    return pd.DataFrame(rows, columns=["name", *COLUMNS, "created"])


def cancel(session: Session, *, name: str) -> Done:
    """Ask for a job to be stopped."""
    rest.arm(session, "POST", f"/jobs/{name}/cancel", hint=LIST)
    return Done(f"asked job {name} to stop")


def archive(session: Session, *, name: str) -> Done:
    """Leave a job out of lists."""
    with client.calling(session, hint=LIST) as ml:
        ml.jobs.archive(name)
    return Done(f"archived job {name}")


def restore(session: Session, *, name: str) -> Done:
    """Bring an archived job back into lists."""
    with client.calling(session, hint=LIST) as ml:
        ml.jobs.restore(name)
    return Done(f"restored job {name}")


def update(session: Session, *, name: str, overrides: list[str] | None = None) -> Job:
    """Change a job's display_name, description, tags or properties.

    Raises: BadCommand: another field, or none.
    """
    changes = documents.nested(documents.assignments(overrides, "--set"))
    allowed = {"display_name", "description", "tags", "properties"}
    if not changes or set(changes) - allowed:
        raise BadCommand(
            f"of a job, --set changes {', '.join(sorted(allowed))}",
            hint=f"%aml job update {name} --set display_name=NAME tags.KEY=VALUE",
        )
    with client.calling(session, hint=LIST) as ml:
        ml.jobs.update(name, **changes)
    return show(session, name=name)


def download(
    session: Session,
    *,
    name: str,
    download_path: str = ".",
    output_name: str = "",
    everything: bool = False,
) -> Done:
    """Download a job's logs and artifacts, one of its outputs, or everything."""
    with client.calling(session, hint=LIST) as ml:
        chosen = {"output_name": output_name} if output_name else {"all": everything}
        ml.jobs.download(name, download_path=download_path, **chosen)
    return Done(f"downloaded {output_name or 'the files'} of job {name} to {download_path}")


def _run(session: Session, name: str) -> dict[str, Any]:
    """A job's MLflow run, empty where there is none yet."""
    try:
        return dict(rest.mlflow(session, "GET", "runs/get", {"run_id": name})["run"])
    except (NotFound, Refused):
        return {}


def _detail(details: dict[str, Any], job: Job, lines: list[str]) -> list[str]:
    """The last lines of the job's log; of a parent, why its child jobs failed."""
    error = (details.get("error") or {}).get("error") or {}
    reasons = str(error.get("message") or "").splitlines()[1:]
    return reasons[: logs.TAIL_LINES] if reasons and job.children is not None else lines


def _reason(details: dict[str, Any]) -> str:
    """Why a run failed, in a line; what quotes the log is left out, for its lines follow."""
    error = (details.get("error") or {}).get("error") or {}
    first = str(error.get("message") or "").partition("\n")[0]
    reason = re.split(r" (?:The last lines of|Please check log file) ", first)[0]
    return f": {reason}" if reason else ""


def _counts(children: pd.DataFrame | None) -> str:
    """Child jobs by status: each by name while they are few."""
    if children is None or children.empty:
        return ""
    if len(children) <= FEW:
        pairs = zip(children["display_name"], children["status"], strict=True)
        return ", ".join(f"{name} {status}" for name, status in pairs)
    counts = children["status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _short(value: Any) -> str:
    """An asset's id by its end: a workspace's own part says nothing."""
    return brief(value).rpartition("/data/")[2].replace("/versions/", ":")


def _time(data: dict[str, Any]) -> str:
    """When a resource was made, to the second, in UTC."""
    created = str((data.get("systemData") or {}).get("createdAt") or "")
    return created[:19].replace("T", " ")
