"""Online endpoints: deploy a model, ask it, read its keys and logs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aml_magics import client, rest, settings
from aml_magics.assets import Asset, find, plain
from aml_magics.errors import AmlError, BadInput, DeploymentFailed, NotFound
from aml_magics.records import Fields, Secret, Text
from aml_magics.session import Session

Tell = Callable[[str], None]
LOG_LINES = 50
DEFAULT_DEPLOYMENT = "blue"


def deploy(
    session: Session,
    *,
    tell: Tell,
    model: str,
    endpoint: str,
    deployment: str = DEFAULT_DEPLOYMENT,
    instance_type: str = "",
    instance_count: int = 1,
) -> Asset:
    """Deploy an MLflow model to an online endpoint, which is made when there is none.

    The endpoint's first deployment gets all of its traffic; later ones get none until told.

    Raises: NotFound: no such model. DeploymentFailed: it did not become ready.
    """
    with client.calling(session, hint="%aml model list") as ml:
        registered = find(ml, "model", model)
    tell(f"model {registered.name}:{registered.version}\n")
    traffic = _ensure_endpoint(session, endpoint, tell)
    started = time.monotonic()
    tell(f"deployment {deployment} … ")
    _deploy(
        session,
        tell,
        endpoint,
        deployment,
        model=registered.id,
        instance_type=instance_type or settings.get("instance_type"),
        instance_count=instance_count,
    )
    tell(f"ready after {time.monotonic() - started:.0f} s\n")
    with client.calling(session) as ml:
        current = ml.online_endpoints.get(endpoint)
        if not traffic:
            current.traffic = {deployment: 100}
            ml.online_endpoints.begin_create_or_update(current).result()
            current = ml.online_endpoints.get(endpoint)
    return Asset("online-endpoint", plain(current))


def invoke(session: Session, *, endpoint: str, value: Any, deployment: str = "") -> Any:
    """Ask an endpoint about a DataFrame, array, list, dict, JSON text or JSON file.

    Returns: the answer: a DataFrame for a list of records, else what the JSON says.
    Raises: BadInput: a value JSON cannot hold. NotFound: no such endpoint. Refused: as answered.
    """
    answer = _score(session, endpoint, body_of(value), deployment)
    if isinstance(answer, list) and answer and all(isinstance(row, dict) for row in answer):
        import pandas as pd

        return pd.DataFrame(answer)
    return answer


def invoke_file(
    session: Session, *, name: str, request_file: str, deployment_name: str = ""
) -> Any:
    """Send a JSON file to an endpoint as it is."""
    return _score(session, name, _json_file(request_file), deployment_name)


def get_credentials(session: Session, *, name: str) -> Fields:
    """The keys or token of an endpoint, masked."""
    with client.calling(session, hint="%aml online-endpoint list") as ml:
        keys = ml.online_endpoints.get_keys(name)
    secrets = ("primary_key", "secondary_key", "access_token")
    found = {key: Secret(getattr(keys, key)) for key in secrets if getattr(keys, key, None)}
    return Fields(f"credentials of {name}", found)


def get_logs(
    session: Session, *, name: str, endpoint_name: str, lines: int = LOG_LINES, container: str = ""
) -> Text:
    """The last lines a deployment has written."""
    chosen = {"container_type": container} if container else {}
    with client.calling(session, hint=f"%aml online-deployment list -e {endpoint_name}") as ml:
        return Text(ml.online_deployments.get_logs(name, endpoint_name, lines=lines, **chosen))


def body_of(value: Any) -> dict[str, Any]:
    """A value as the request Azure's MLflow servers take: ``{"input_data": …}``."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith(("{", "[")) else _json_file(value)
    if isinstance(value, dict) and "input_data" in value:
        return value
    if hasattr(value, "to_frame") and not hasattr(value, "columns"):  # a Series: one row
        value = value.to_frame().T
    if hasattr(value, "to_json") and hasattr(value, "columns"):
        return {"input_data": json.loads(value.to_json(orient="split"))}
    if hasattr(value, "tolist"):
        return {"input_data": value.tolist()}
    if isinstance(value, dict):
        return {"input_data": _split([value])}
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return {"input_data": _split(value)}
    return {"input_data": value}


def _split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Records in the split form of a table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    data = [[row.get(column) for column in columns] for row in rows]
    return {"columns": columns, "index": list(range(len(rows))), "data": data}


def _json_file(name: str) -> Any:
    path = Path(name).expanduser()
    if not path.is_file():
        raise BadInput(f"no such file: {name}", hint="give $variable, JSON, or a JSON file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise BadInput(f"{name} is not JSON: {exc}", hint='{"input_data": …}') from exc


def _score(session: Session, endpoint: str, body: Any, deployment: str) -> Any:
    try:
        content = json.dumps(body)
    except TypeError as exc:
        raise BadInput(f"the value cannot be sent as JSON: {exc}", "send a DataFrame") from exc
    place = f"endpoint {endpoint}"
    known = place in session.cache
    url, key = session.cache.get(place) or _door(session, endpoint)
    headers = {"Authorization": f"Bearer {key.value}", "Content-Type": "application/json"}
    if deployment:
        headers["azureml-model-deployment"] = deployment
    response = rest.raw(session, "POST", url, data=content, headers=headers)
    if response.status_code < 400:
        session.cache[place] = (url, key)
        return response.json()
    session.cache.pop(place, None)
    if known and response.status_code in {401, 404}:  # made anew since
        return _score(session, endpoint, body, deployment)
    error = rest.refusal(response.status_code, rest.message(response))
    shown = f"%aml online-deployment get-logs -e {endpoint} -n {deployment or DEFAULT_DEPLOYMENT}"
    listed = f"%aml online-deployment list -e {endpoint}"
    error.hint = listed if isinstance(error, NotFound) else shown
    raise error


def _door(session: Session, endpoint: str) -> tuple[str, Secret]:
    """Where an endpoint is asked and the key to it."""
    with client.calling(session, hint="%aml online-endpoint list") as ml:
        url = ml.online_endpoints.get(endpoint).scoring_uri
        keys = ml.online_endpoints.get_keys(endpoint)
    return url, Secret(getattr(keys, "primary_key", None) or keys.access_token)


def _ensure_endpoint(session: Session, name: str, tell: Tell) -> dict[str, int]:
    """Make the endpoint where there is none; returns the traffic it has."""
    try:
        with client.calling(session) as ml:
            return dict(ml.online_endpoints.get(name).traffic or {})
    except NotFound:
        tell(f"endpoint {name} … ")
    started = time.monotonic()
    with client.calling(session) as ml:
        made = client.sdk().entities.ManagedOnlineEndpoint(name=name, auth_mode="key")
        ml.online_endpoints.begin_create_or_update(made).result()
    tell(f"ready after {time.monotonic() - started:.0f} s\n")
    return {}


def _deploy(session: Session, tell: Tell, endpoint: str, name: str, **fields: Any) -> None:
    try:
        with client.calling(session) as ml:
            make = client.sdk().entities.ManagedOnlineDeployment
            made = make(name=name, endpoint_name=endpoint, **fields)
            ml.online_deployments.begin_create_or_update(made).result()
    except AmlError as error:
        tell("failed\n")
        raise DeploymentFailed(
            str(error),
            hint=f"%aml online-deployment get-logs -e {endpoint} -n {name}",
            detail=_last_lines(session, endpoint, name),
        ) from error


def _last_lines(session: Session, endpoint: str, name: str) -> list[str]:
    """What a failed deployment said last; nothing where it has no log."""
    try:
        text = get_logs(session, name=name, endpoint_name=endpoint)
    except AmlError:
        return []
    return [line for line in text.splitlines() if line.strip()]
