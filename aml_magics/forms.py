"""Forms that register, deploy and look after a model: what they show, and how their lines run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aml_magics import (
    client,
    deploying,
    display,
    endpoints,
    examples,
    grammar,
    latency,
    live,
    models,
    runs,
    settings,
)
from aml_magics.commands import function
from aml_magics.errors import AmlError, BadCommand, NotFound
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd
    from aml_widgets.forms import Desk, Form

Facts = dict[str, Any]
# The commands that clicks give; a form runs no others.
LINES = frozenset(
    (
        *("register", "deploy", "traffic", "rollback", "invoke"),
        *("endpoint logs", "endpoint delete"),
    )
)


def show_comparison(found: runs.Comparison) -> None:
    """The live view of a comparison, whose rows register and deploy."""
    live.show_comparison(found, desk(found.session))


def show_endpoint(found: endpoints.Endpoint) -> None:
    """The record, and the live view of the endpoint over it."""
    form = endpoint_form(found)
    live.show_over(found, form, f"live view of endpoint {found.name}")


def endpoint_form(found: endpoints.Endpoint) -> Form:
    """The widget of an endpoint."""
    from aml_widgets.forms import Form

    return Form("endpoint", _endpoint(found), desk(found.session))


def desk(session: Session) -> Desk:
    """Who answers the forms of a session."""
    from aml_widgets.forms import Desk

    return Desk(partial(facts, session), partial(run, session))


def facts(session: Session, form: str, asked: Facts) -> Facts:
    """What a form shows: `register` of a run, `deploy` of a model, `endpoint` of a name, …

    Raises: AmlError: as the workspace answers.
    """
    return _FACTS[form](session, **asked)


def run(session: Session, line: str, tell: Callable[[str], None]) -> Facts:
    """Run the line of a click as the magic does.

    Returns: ``text``, the result as it is printed, and ``data``, as JSON has it.
    Raises: AmlError: as the command does.
    """
    call = grammar.parse(line.removeprefix("%aml"), {})
    if call.command.name not in LINES:
        raise BadCommand(f"'{call.command.name}' is none of a form", hint="type it in a cell")
    command = function(call.command)
    given = {"tell": tell} if "tell" in grammar.parameters(command) else {}
    result = command(session=session, **given, **call.options)
    return {"text": str(result), "data": _json(result)}


def _json(result: Any) -> Any:
    return json.loads(json.dumps(display.plain_data(result), default=str))


def _register(session: Session, run: str, artifact: str = "", name: str = "") -> Facts:
    """The models that a run has logged, and what the one to register would be."""
    folders = models.folders(session, run)
    folder = artifact or next(iter(folders), "")
    said = models.mlmodel(session, f"runs:/{run}/{folder}") if folder else {}
    name = name or folder.rpartition("/")[2]
    return {
        "run": run,
        "folders": folders,
        "folder": folder,
        "name": name,
        "version": _next_version(session, name) if name else "",
        "signature": columns(said),
    }


def _next_version(session: Session, name: str) -> str:
    """The version that a registration of this name gets."""
    try:
        with client.calling(session) as ml:
            known = [str(one.version) for one in ml.models.list(name=name)]
    except NotFound:
        known = []
    return str(1 + max((int(version) for version in known if version.isdigit()), default=0))


def columns(said: Facts) -> list[dict[str, str]] | None:
    """Name and type of each input that an MLmodel file tells; None without a signature."""
    inputs = (said.get("signature") or {}).get("inputs")
    if not inputs:
        return None
    return [_column(one) for one in json.loads(inputs)]


def _column(one: Facts) -> dict[str, str]:
    if one.get("type") == "tensor":
        spec = one["tensor-spec"]
        kind = f"{spec['dtype']} {tuple(spec['shape'])}"
    else:
        kind = str(one["type"])
    optional = " (optional)" if one.get("required") is False else ""
    return {"name": str(one.get("name", "")), "type": f"{kind}{optional}"}


def _deploy(session: Session, model: str) -> Facts:
    """Where a model can be deployed, and what it can be asked."""
    name, _, version = model.partition(":")
    with client.calling(session) as ml:
        there = {one.name: dict(one.traffic or {}) for one in ml.online_endpoints.list()}
    return {
        "model": model,
        "endpoint": deploying.default_name(name),
        "endpoints": there,
        "instance_type": settings.get("instance_type"),
        "prices": _prices(session),
        "example": _example(session, name, version),
    }


def _prices(session: Session) -> dict[str, float]:
    """What an hour of a machine costs, in USD, by size, as far as the service estimates it."""
    with client.calling(session) as ml:
        sizes = [vars(size) for size in ml.compute.list_sizes()]
    found = {}
    for size in sizes:
        prices = (size.get("estimatedVMPrices") or {}).get("values") or []
        linux = [one["retailPrice"] for one in prices if one.get("osType") == "Linux"]
        if linux:
            found[str(size["name"])] = float(min(linux))
    return found


def _example(session: Session, name: str, version: str) -> Facts:
    """The columns and the first row that a model can be asked about, or a whole request."""
    try:
        found = examples.of_model(session, name, version)
        said = models.mlmodel(session, f"models:/{name}/{version}")
    except AmlError:
        return {"body": {"input_data": []}}
    if found is None:
        return {"body": {"input_data": []}}
    body = examples.rows(found.body)[0]
    data = body["input_data"]
    known = {one["name"]: one["type"] for one in columns(said) or []}
    if not (isinstance(data, dict) and isinstance(data.get("columns"), list) and known):
        return {"body": body}
    shown = [{"name": key, "type": known.get(key, "string")} for key in data["columns"]]
    return {"body": body, "columns": shown, "row": data["data"][0]}


def _endpoint(found: endpoints.Endpoint) -> Facts:
    """An endpoint as its view shows it."""
    shares, copied = found.data.get("traffic") or {}, found.data.get("mirror_traffic") or {}
    return {
        "name": found.name,
        "state": str(found.data.get("provisioning_state") or ""),
        "uri": str(found.data.get("scoring_uri") or ""),
        "auth": str(found.data.get("auth_mode") or ""),
        "deployments": [
            {
                "name": one["name"],
                "share": int(shares.get(one["name"], 0)),
                "mirrored": int(copied.get(one["name"], 0)),
                "model": ":".join(filter(None, endpoints.model_of(one))),
                "state": str(one.get("provisioning_state") or ""),
                "machines": f"{one.get('instance_count')} x {one.get('instance_type')}",
            }
            for one in found.deployments
        ],
    }


def _endpoint_of(session: Session, name: str) -> Facts:
    return _endpoint(endpoints.show(session, endpoint=name))


def _metrics_of(session: Session, name: str) -> Facts:
    """The requests of an endpoint in the last hour, by deployment."""
    table = latency.metrics(session, endpoint=name)
    deployments = {str(one): _load(rows) for one, rows in table.groupby("deployment")}
    return {"name": name, "deployments": deployments}


def _load(rows: pd.DataFrame) -> Facts:
    """Requests in each of the last 60 minutes, and the latencies of the last that had some."""
    import pandas as pd

    minutes = pd.date_range(end=pd.Timestamp.now("UTC").floor("min"), periods=60, freq="min")
    counts = rows.set_index("minute")["requests"].reindex(minutes, fill_value=0)
    last = rows.iloc[-1]
    return {
        "requests": [int(count) for count in counts],
        **{key: None if pd.isna(last[key]) else float(last[key]) for key in ("p50_ms", "p95_ms")},
    }


def _models_of(session: Session, run: str) -> Facts:
    """The registered versions of a run's models, the newest first."""
    with models.registry(session) as registry:
        found = registry.search_model_versions(f"run_id = '{run}'")
    newest = sorted(found, key=lambda one: one.creation_timestamp, reverse=True)
    return {"run": run, "models": [f"{one.name}:{one.version}" for one in newest]}


_FACTS: dict[str, Callable[..., Facts]] = {
    "register": _register,
    "models": _models_of,
    "deploy": _deploy,
    "endpoint": _endpoint_of,
    "metrics": _metrics_of,
}
