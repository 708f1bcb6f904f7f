"""Runs found on the tracking server, as records and as a wide DataFrame."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from aml_magics import histories, rest
from aml_magics.errors import BadCommand, NotFound, NotSupported, Refused, did_you_mean
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

PAGE = 999  # Azure refuses pages of 1,000 and more
EXPERIMENTS = 500  # in one search
NEWEST = "attributes.start_time DESC"
CHOSEN = "hyperparameters"  # the tag of a sweep's trial
OWN_TAGS = ("mlflow.", "azureml.")  # of the services, not of the user
HIDDEN_TAGS = (CHOSEN, "cell_sha256")
DURATION = "run duration"  # of a record, in seconds: a metric may well be called duration
SEVERAL = 4  # runs of one name that are told

Run = dict[str, Any]


def find(
    session: Session, experiment: str, filter_: str, order_by: str, limit: int
) -> Iterator[Run]:
    """Runs of an experiment, or of all, the newest first if no order is asked for.

    Raises: NotFound: there is no such experiment. Refused: the filter or the order is wrong.
    """
    ids = [_experiment(session, experiment)] if experiment else _experiments(session)
    query = {"filter": filter_, "order_by": [order_by or NEWEST]}
    found = islice(_pages(session, ids, query, limit), limit)
    yield from _completed(session, found)


def _pages(session: Session, ids: list[str], query: dict[str, Any], limit: int) -> Iterator[Run]:
    for start in range(0, len(ids), EXPERIMENTS):
        some = {"experiment_ids": ids[start : start + EXPERIMENTS], "max_results": min(limit, PAGE)}
        yield from _every(session, "runs/search", {**query, **some}, "runs")


def _experiment(session: Session, name: str) -> str:
    query = {"experiment_name": name}
    try:
        found = rest.mlflow(session, "GET", "experiments/get-by-name", query)
    except NotFound as exc:
        hint = did_you_mean(name, [one["name"] for one in _known_experiments(session)])
        raise NotFound(f"no experiment '{name}'", hint or "%aml runs lists those of all") from exc
    return str(found["experiment"]["experiment_id"])


def _experiments(session: Session) -> list[str]:
    return [str(experiment["experiment_id"]) for experiment in _known_experiments(session)]


def _known_experiments(session: Session) -> Iterator[dict[str, Any]]:
    return _every(session, "experiments/search", {"max_results": PAGE}, "experiments")


def _every(session: Session, path: str, query: dict[str, Any], field: str) -> Iterator[Run]:
    while True:
        answer = rest.mlflow(session, "POST", path, query)
        yield from answer.get(field, [])
        if not answer.get("next_page_token"):
            return
        query = {**query, "page_token": answer["next_page_token"]}


def _completed(session: Session, found: Iterable[Run]) -> Iterator[Run]:
    """The runs with all their metrics: Azure's search leaves some out, its `get` does not."""
    if histories.service(session) != "single":
        yield from found
        return
    names = [run["info"]["run_id"] for run in found]
    with ThreadPoolExecutor(rest.THREADS) as pool:
        yield from pool.map(lambda name: _get(session, name), names)


def named(session: Session, names: list[str], limit: int) -> list[Run]:
    """Runs by id, or by what they are called; an experiment's name stands for its runs.

    Of a sweep or a pipeline that has logged nothing itself, its children. Args: limit: at most so
    many of an experiment.
    Raises: NotFound: there is no such run. BadCommand: several runs are called so.
    """
    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor(rest.THREADS) as pool:
        found = pool.map(lambda name: _all_named(session, name, limit), names)
        return list({run["info"]["run_id"]: run for run in chain.from_iterable(found)}.values())


def _all_named(session: Session, name: str, limit: int) -> list[Run]:
    try:
        return _with_children(session, name)
    except NotFound as unknown:
        if called := _called(session, name):
            return _with_children(session, called)
        try:
            return list(find(session, name, "", "", limit))
        except NotFound as exc:
            unknown.hint = exc.hint if "did you mean" in exc.hint else unknown.hint
        raise


def _called(session: Session, display_name: str) -> str:
    """The id of the one run with this display name; empty if there is none."""
    quote = '"' if "'" in display_name else "'"
    query = f"attributes.run_name = {quote}{display_name}{quote}"
    try:
        found = [run["info"]["run_id"] for run in find(session, "", query, "", SEVERAL)]
    except Refused:  # the name has both quotes, or the server cannot be asked so
        return ""
    if len(found) > 1:
        raise BadCommand(f"several runs are called '{display_name}'", f"by id: {', '.join(found)}")
    return found[0] if found else ""


def _with_children(session: Session, name: str) -> list[Run]:
    run = _get(session, name)
    if run.get("data", {}).get("metrics"):
        return [run]
    try:
        children = [
            child["runId"] for child in rest.history_pages(session, f"runs/{name}/children")
        ]
    except (NotFound, NotSupported, Refused):  # a server of MLflow's alone
        children = []
    return [_get(session, child) for child in children] or [run]


def _get(session: Session, name: str) -> Run:
    try:
        return dict(rest.mlflow(session, "GET", "runs/get", {"run_id": name})["run"])
    except NotFound as exc:
        hint = "%aml runs, or %aml job list; of an experiment: --experiment NAME"
        raise NotFound(f"no run '{name}'", hint) from exc


# Records


def params(run: Run) -> dict[str, str]:
    """What was logged; and of a sweep's trial what the sweep has chosen, which is in a tag."""
    logged = {row["key"]: row["value"] for row in run.get("data", {}).get("params", [])}
    return {**_chosen(_tags(run).get(CHOSEN, "")), **logged}


def _chosen(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:  # no tag, or one of the user's own
        return {}
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def metrics(run: Run) -> dict[str, float]:
    """The last value of each metric; what is not finite comes as text."""
    return {row["key"]: _value(row["value"]) for row in run.get("data", {}).get("metrics", [])}


def _value(text: float | str) -> float:
    """A number; MLflow's database keeps the greatest one there is for infinity."""
    value = float(text)
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def row(run: Run) -> dict[str, Any]:
    """A run as one flat record; parameters are prefixed, for metrics may have the same names."""
    info = run["info"]
    facts = {
        "name": info["run_id"],
        "display_name": info.get("run_name") or info["run_id"],
        "status": _status(info),
        DURATION: _duration(info),
    }
    prefixed = {f"params.{key}": value for key, value in params(run).items()}
    return {**facts, **prefixed, **metrics(run), **facts}  # a metric may be called name


def _duration(info: dict[str, Any]) -> float | None:
    start, end = (int(info.get(key) or 0) for key in ("start_time", "end_time"))
    return (end - start) / 1000 if start and end else None


def _status(info: dict[str, Any]) -> str:
    return "DELETED" if info.get("lifecycle_stage") == "deleted" else str(info["status"])


def frame(found: Iterable[Run]) -> pd.DataFrame:
    """One row for each run.

    Returns: name, display_name, status, start_time (UTC), duration (seconds; of a run that goes on,
        none), user, job (the run itself, or the one it is nested in), then `metrics.*`, `params.*`
        (numbers where all are) and `tags.*` (the user's).
    """
    import pandas as pd

    runs = list(found)
    table = pd.DataFrame([_info(run) for run in runs], columns=[*_info(_NOTHING)])
    table["start_time"] = pd.to_datetime(table["start_time"], unit="ms", utc=True)
    wide = {
        **_columns("metrics.", [metrics(run) for run in runs]),
        **{key: _typed(column) for key, column in _columns("params.", map(params, runs)).items()},
        **_columns("tags.", [_user_tags(run) for run in runs]),
    }
    return pd.concat([table, pd.DataFrame(wide, index=table.index)], axis=1)


_NOTHING: Run = {"info": {"run_id": "", "status": ""}}


def _info(run: Run) -> dict[str, Any]:
    info, tags = run["info"], _tags(run)
    above = tags.get("mlflow.rootRunId") or tags.get("mlflow.parentRunId")
    return {
        "name": info["run_id"],
        "display_name": info.get("run_name") or info["run_id"],
        "status": _status(info),
        "start_time": int(info.get("start_time") or 0) or None,
        "duration": _duration(info),
        "user": info.get("user_id") or tags.get("mlflow.user", ""),
        "job": above or info["run_id"],
    }


def _tags(run: Run) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}


def _user_tags(run: Run) -> dict[str, str]:
    return {
        key: value
        for key, value in _tags(run).items()
        if not key.startswith(OWN_TAGS) and key not in HIDDEN_TAGS
    }


def _columns(prefix: str, records: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    records = list(records)
    keys = dict.fromkeys(chain.from_iterable(records))
    return {f"{prefix}{key}": [record.get(key) for record in records] for key in keys}


def _typed(column: list[str | None]) -> Any:
    """A column of parameters as numbers, if that is what all of them are."""
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce")
    are_numbers = all(text is None for text, bad in zip(column, numbers.isna(), strict=True) if bad)
    return numbers.to_numpy() if are_numbers else column
