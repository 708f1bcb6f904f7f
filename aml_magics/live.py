"""Live views of comparisons and jobs: tells the widgets what to call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aml_magics import jobs, logs, rest, runs, searches
from aml_magics.comparison import Comparison
from aml_magics.errors import AmlError
from aml_magics.quiet import quiet
from aml_magics.records import Record, brief
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd
    from aml_widgets.cards import Reading
    from aml_widgets.compare import Compare
    from aml_widgets.curves import Curve
    from aml_widgets.forms import Desk
    from aml_widgets.job_card import JobCard

FILES = 200  # of a run that are listed
SHOWN_BYTES = 20 << 20  # of a file: all of it is in memory, and goes to the browser
POINTS = 200  # of a curve on a card
ASKED = ("experiment", "filter", "top", "by", "goal", "max_results")  # told by the line of a view
LOCAL_PAGES = "http://127.0.0.1:"
VIEW = "application/vnd.jupyter.widget-view+json"


# Opened again without the view's state, JupyterLab has only an error to show in its place; an
# output without any element is such a place.
_WITHOUT_EMPTY_VIEW = (
    "<style>.jp-OutputArea-child:has(.aml-static) ~ "
    ".jp-OutputArea-child:not(:has(.jp-OutputArea-output > *)) { display: none }</style>"
)


def show_comparison(found: Comparison, desk: Desk | None = None) -> None:
    """The static form, which the saved notebook keeps, and the live view over it.

    Args: desk: who answers the forms that a run's row opens.
    """
    from IPython.display import display

    display(_forms(found), raw=True)
    found.display_charts()
    _display(comparison(found, desk), f"live comparison of {len(found.rows)} runs")


def show_over(record: Record, widget: Any, text: str) -> None:
    """A record, which the saved notebook keeps, and a live view over it."""
    from IPython.display import display

    display(_forms(record), raw=True)
    _display(widget, text)


def show_job(job: jobs.Job) -> None:
    """The record, kept up to date, and the card over it while the job goes on."""
    from IPython.display import display

    if job.status not in logs.LIVE:
        display(_forms(job), raw=True)
        return
    handle = display(_forms(job), raw=True, display_id=True)

    def changed(_reading: Reading) -> None:
        handle.update(_forms(job.refresh()), raw=True)

    _display(card(job, changed), f"live card of job {job.name}")


_by_cell: dict[str, tuple[str, list[Any]]] = {}  # of each: its last execution and its views


def _replace_earlier(widget: Any) -> None:
    """Close the views of the cell's execution before: they are seen no more, and would be saved."""
    from IPython import get_ipython

    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = str((parent.get("metadata") or {}).get("cellId") or "")
    execution = str((parent.get("header") or {}).get("msg_id") or "")
    before, views = _by_cell.get(cell, ("", []))
    for view in views if cell and before != execution else ():
        view.close()
    _by_cell[cell] = (execution, [*(views if before == execution else ()), widget])


def _display(widget: Any, text: str) -> None:
    from IPython.display import display

    _replace_earlier(widget)
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({VIEW: view, "text/plain": text}, raw=True)


def _forms(record: Record | Comparison) -> dict[str, str]:
    """What a saved notebook keeps of it, under a view."""
    return {
        "text/plain": repr(record),
        "text/html": record._repr_html_() + _WITHOUT_EMPTY_VIEW,
        "text/markdown": record._repr_markdown_(),
    }


def comparison(found: Comparison, desk: Desk | None = None) -> Compare:
    """The widget of a comparison."""
    from aml_widgets.compare import Compare, Source

    session = found.session

    def rows() -> list[dict[str, Any]]:
        return runs.compare(session, **found.asked).rows

    source = Source(
        rows,
        reader(session),
        lambda run: files(session, run),
        lambda run, path: read(session, run, path),
        desk,
    )
    metrics = {
        key
        for row in found.rows
        for key, value in row.items()
        if isinstance(value, float) and key != searches.DURATION
    }
    goals = {key: found.goal_of(key) for key in metrics}
    asked = found.asked
    view = {
        "metric": found.metric,
        "x": asked["x"],
        "log": bool(asked["log"]),
        "smooth": float(asked["smooth"]),
        "differ": not asked["everything"],
        "baseline": found.view.baseline,
        "group": f"params.{found.view.group}" if found.view.group else "",
    }
    origin = {name: asked[name] for name in ASKED}
    origin["runs"] = asked["names"] or []
    origin |= {"metric": found.metric, "metrics": found.metrics if asked["metric"] else []}
    shown = drawable(found.history) if found.metrics else []
    return Compare(found.rows, shown, source, goals=goals, view=view, origin=origin)


def reader(session: Session) -> Callable[[Sequence[str], str], list[Curve]]:
    """How to read the curves of runs and a metric; again, only what has grown is read."""
    known: dict[str, pd.DataFrame] = {}

    def history(names: Sequence[str], metric: str) -> list[Curve]:
        known[metric] = runs.history(session, list(names), [metric], since=known.get(metric))
        return drawable(known[metric])

    return history


def drawable(table: pd.DataFrame) -> list[Curve]:
    """The curves of a table of `runs.history`."""
    from aml_widgets.curves import curve

    found = []
    for (run, metric), rows in table.groupby(["run", "metric"], observed=True, sort=False):
        seconds = rows["time"].dt.as_unit("ms").astype("int64") / 1000
        found.append(curve(str(run), str(metric), rows["step"], seconds, rows["value"]))
    return found


def files(session: Session, run: str) -> list[str]:
    """Paths of a run's artifacts, the first ``FILES`` of them, without those too large to show."""
    found: list[str] = []
    folders = [""]
    while folders and len(found) < FILES:
        query = {"run_id": run, "path": folders.pop()}
        answer = rest.mlflow(session, "GET", "artifacts/list", query)
        for file in answer.get("files", []):
            if int(file.get("file_size") or 0) > SHOWN_BYTES:
                continue
            (folders if file.get("is_dir") else found).append(file["path"])
    return sorted(found)[:FILES]


def read(session: Session, run: str, path: str) -> bytes:
    """An artifact's bytes."""
    from mlflow.artifacts import download_artifacts

    with TemporaryDirectory(prefix="aml-") as folder, quiet():
        found = download_artifacts(
            run_id=run, artifact_path=path, dst_path=folder, tracking_uri=session.tracking_uri
        )
        return Path(found).read_bytes()


def card(job: jobs.Job, changed: Callable[[Reading], None]) -> JobCard:
    """The card of a job, following it."""
    from aml_widgets.job_card import JobCard

    properties = job.properties
    about = {
        "title": str(properties.get("displayName") or job.name),
        "kind": str(properties.get("jobType") or ""),
        "url": job.url,
    }
    session = job.session
    stop = partial(jobs.cancel, session, name=job.name)
    page = partial(_signed_in, session, job.url)
    return JobCard(job.name, about, Reader(job).read, stop, changed=changed, page=page).start()


def _signed_in(session: Session, url: str) -> str:
    """A page's address; of the local workspace, one that lets a browser in."""
    mark = "&" if "?" in url else "?"
    return f"{url}{mark}token={session.token()}" if url.startswith(LOCAL_PAGES) else url


class Reader:
    """Reads a job again and again: only what is new of its log and curves."""

    def __init__(self, job: jobs.Job) -> None:
        from aml_widgets.cards import edges

        self._session = job.session
        self._name = job.name
        self._text: list[str] = []
        self._watch = logs.Watch(job.session, job.name, self._text.append)
        self._parent = job.properties.get("jobType") in jobs.PARENTS
        self._steps = job.properties.get("jobs") or {}
        self._edges = edges(self._steps)
        self._history: pd.DataFrame | None = None
        self._logged: list[str] = []

    def read(self) -> Reading:
        """The job now."""
        from aml_widgets.cards import Reading

        details = self._watch.look()
        text = "".join(self._text)
        self._text.clear()
        error = (details.get("error") or {}).get("error") or {}
        return Reading(
            details["status"],
            text,
            _seconds(details.get("startTimeUtc")),
            _seconds(details.get("endTimeUtc")),
            time.time(),
            str(error.get("message") or "").partition("\n")[0],
            self._metrics(),
            self._children(),
            self._edges,
        )

    def _metrics(self) -> list[Curve]:
        """The curves; only those that have grown are read again."""
        try:
            run = rest.mlflow(self._session, "GET", "runs/get", {"run_id": self._name})["run"]
            metrics = sorted(row["key"] for row in run.get("data", {}).get("metrics", []))
            before = self._history if metrics == self._logged else None
            if metrics:
                self._history = runs.history(
                    self._session, [self._name], metrics, max_points=POINTS, since=before
                )
            self._logged = metrics
        except AmlError:  # it has no run yet
            pass
        return [] if self._history is None else drawable(self._history)

    def _children(self) -> list[dict[str, Any]]:
        if not self._parent:
            return []
        table = jobs.children(self._session, self._name)
        searched = [
            name for name in table.columns if name not in ("name", *jobs.COLUMNS, "created")
        ]
        found = [
            {
                "name": row["name"],
                "title": row["display_name"],
                "status": row["status"],
                "detail": brief({name: row[name] for name in searched}),
            }
            for row in table.to_dict("records")
        ]
        begun = {child["title"] for child in found}
        waiting = [step for step in self._steps if step not in begun]
        return [
            *found,
            *(
                {"name": "", "title": step, "status": "NotStarted", "detail": ""}
                for step in waiting
            ),
        ]


def _seconds(text: str | None) -> float:
    """A time of run history in seconds since the epoch, 0 for none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
