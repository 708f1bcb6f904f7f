"""Online endpoints: ask them, see what they are, read their keys and logs."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_magics import assets, client, examples, rest
from aml_magics.assets import named, plain
from aml_magics.errors import AmlError, BadCommand, BadInput, NotFound
from aml_magics.records import Done, Fields, Row, Secret, Text, exact
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd
    import requests

Tell = Callable[[str], None]
LIST = "%aml online-endpoint list"
LOG_LINES = 50
ASKED_SECONDS = 190.0  # Azure lets a request take 180 at most
FOLLOWED = 500  # lines asked for again and again while a log is followed
FOLLOW_SECONDS = 1.0
TABLES = {".csv": "read_csv", ".parquet": "read_parquet"}  # of pandas


class Endpoint(Fields):
    """An online endpoint with its deployments: ``deployments`` has a dict for each."""

    def __init__(
        self, session: Session, data: dict[str, Any], deployments: list[dict[str, Any]]
    ) -> None:
        super().__init__(f"endpoint {data['name']}", {**data, "deployments": deployments})
        self.session = session

    def _rows(self) -> list[Row]:
        fields = ("provisioning_state", "scoring_uri", "auth_mode")
        rows = [(key.replace("_", " "), str(self.data.get(key) or "")) for key in fields]
        return rows + [(one["name"], self._about(one)) for one in self.data["deployments"]]

    def _about(self, deployment: dict[str, Any]) -> str:
        """Share, model, state and machines of a deployment in one line."""
        name = deployment["name"]
        copied = (self.data.get("mirror_traffic") or {}).get(name)
        model, version = model_of(deployment)
        words = (
            f"{(self.data.get('traffic') or {}).get(name, 0)} %",
            f"and {copied} % mirrored" if copied else "",
            f"{model}:{version}" if version else model,
            str(deployment.get("provisioning_state") or ""),
            f"{deployment.get('instance_count')} x {deployment.get('instance_type')}",
        )
        return "  ".join(word for word in words if word)


def show(session: Session, *, endpoint: str) -> Endpoint:
    """An online endpoint with its deployments and their shares.

    Raises: NotFound: no such endpoint.
    """
    with client.calling(session, hint=LIST) as ml:
        data = plain(ml.online_endpoints.get(endpoint))
        found = [plain(one) for one in ml.online_deployments.list(endpoint)]
    return Endpoint(session, data, sorted(found, key=lambda one: str(one["name"])))


def list_(session: Session, *, max_results: int = 0) -> pd.DataFrame:
    """The online endpoints, as of ``online-endpoint list``."""
    return assets.list_(session, kind="online-endpoint", max_results=max_results)


def delete(session: Session, *, endpoint: str, yes: bool = False) -> Done:
    """Delete an online endpoint with all its deployments.

    Raises: BadCommand: ``yes`` is missing. NotFound: there is none.
    """
    return assets.delete(session, kind="online-endpoint", name=endpoint, yes=yes)


def model_of(deployment: dict[str, Any]) -> tuple[str, str]:
    """Name and version of a deployment's model, as far as it says."""
    text = str(deployment.get("model") or "")
    if "/models/" not in text:
        return named(text)[:2]
    name, _, version = text.partition("/models/")[2].partition("/versions/")
    return name, version


def logs(
    session: Session,
    *,
    tell: Tell,
    endpoint: str,
    deployment: str = "",
    lines: int = LOG_LINES,
    follow: bool = False,
) -> Text | Done:
    """The last lines of an endpoint's deployments, or of one.

    Args: follow: go on with what they write, until interrupted.
    Raises: NotFound: no such endpoint or deployment.
    """
    found = show(session, endpoint=endpoint)
    names = [deployment] if deployment else [one["name"] for one in found.deployments]
    texts = {
        name: get_logs(session, name=name, endpoint_name=endpoint, lines=lines) for name in names
    }
    if not follow:
        return Text("\n".join(_headed(name, text, names) for name, text in texts.items()))
    with contextlib.suppress(KeyboardInterrupt):
        _follow(session, tell, endpoint, texts)
    return Done(f"not following the logs of {endpoint} any more")


def invoke(session: Session, *, endpoint: str, value: Any = None, deployment: str = "") -> Any:
    """Ask an endpoint about a DataFrame, array, list, dict, JSON text, or a JSON or CSV file.

    Args: value: the input example of its model when left out. A scoring script gets JSON, dicts
        and lists as they are; an MLflow model gets them as ``input_data``, as Azure's servers ask.
    Returns: the answer: a DataFrame for a list of records, an array for one of values, else what
        the JSON says.
    Raises: BadInput: a value JSON cannot hold. NotFound: no such endpoint. Refused: as answered.
    """
    if value is None:
        body: Any = example_of(session, endpoint, deployment).body
    else:
        body = _read(str(value)) if isinstance(value, (str, Path)) else value
        own = isinstance(body, (dict, list)) and _has_script(session, endpoint, deployment)
        body = body if own else body_of(body)
    return _shaped(score(session, endpoint, body, deployment))


def _has_script(session: Session, endpoint: str, deployment: str) -> bool:
    """Whether a scoring script answers: of the deployment named, else of one with traffic."""
    found = show(session, endpoint=endpoint)
    shares = found.data.get("traffic") or {}
    asked = [one for one in found.deployments if deployment or shares.get(one["name"])]
    chosen = [one for one in asked if deployment in {"", one["name"]}]
    return any(one.get("code_configuration") for one in chosen)


def example_of(session: Session, endpoint: str, deployment: str = "") -> examples.Example:
    """A request for the model of a deployment: the one named, else that with most traffic.

    Raises: BadInput: its model says nothing of its inputs. NotFound: no such endpoint.
    """
    found = show(session, endpoint=endpoint)
    shares = found.data.get("traffic") or {}
    by_share = sorted(found.deployments, key=lambda one: -int(shares.get(one["name"], 0)))
    chosen = [one for one in by_share if deployment in {"", one["name"]}]
    if not chosen:
        missing = f"deployment '{deployment}'" if deployment else "deployment"
        raise NotFound(f"endpoint {endpoint} has no {missing}", f"%aml endpoint show {endpoint}")
    name, version = model_of(chosen[0])
    scripted = bool(chosen[0].get("code_configuration"))
    example = examples.of_model(session, name, version) if version and not scripted else None
    if example is None:
        what = "scoring script says nothing of its input" if scripted else "model has no example"
        hint = f"%aml invoke {endpoint} $value, or JSON"
        raise BadInput(f"the {what}: give a value to ask {endpoint} about", hint)
    return example


def invoke_file(
    session: Session, *, name: str, request_file: str = "", deployment_name: str = ""
) -> Any:
    """Send a JSON file to an endpoint as it is.

    Raises: BadCommand: no file is named.
    """
    if not request_file:
        raise BadCommand("ask about what?", f"--request-file FILE, or %aml invoke {name} $value")
    return score(session, name, _json_file(request_file), deployment_name)


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
    """A value as the request Azure's MLflow servers take: ``{"input_data": …}``.

    Raises: BadInput: a file that is not there, or not what its name says.
    """
    if isinstance(value, (str, Path)):
        value = _read(str(value))
    if isinstance(value, dict) and "input_data" in value:
        return value
    if hasattr(value, "to_frame") and not hasattr(value, "columns"):  # a Series: one row
        value = value.to_frame().T.infer_objects()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return {"input_data": exact(value).to_dict("split")}
    if hasattr(value, "tolist"):
        return {"input_data": value.tolist()}
    if isinstance(value, dict):
        return {"input_data": _split([value])}
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return {"input_data": _split(value)}
    return {"input_data": value}


def _read(text: str) -> Any:
    """What JSON text or a file says."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError as exc:
            raise BadInput(f"this is not JSON: {exc}", """quote it: '{"x": 1}'""") from exc
    reader = TABLES.get(Path(text).suffix.lower())
    if reader is None or not Path(text).expanduser().is_file():
        return _json_file(text)
    import pandas as pd

    try:
        return getattr(pd, reader)(Path(text).expanduser())
    except ValueError as exc:
        raise BadInput(f"{text} cannot be read as a table: {exc}", "give a DataFrame") from exc


def _shaped(answer: Any) -> Any:
    """An answer as people go on with it."""
    if not isinstance(answer, list) or not answer:
        return answer
    if all(isinstance(row, dict) for row in answer):
        import pandas as pd

        return pd.DataFrame(answer)
    import numpy as np

    try:
        found = np.asarray(answer)
    except ValueError:  # rows of different lengths
        return answer
    return answer if found.dtype == object else found


def _split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Records in the split form of a table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    data = [[row.get(column) for column in columns] for row in rows]
    return {"columns": columns, "index": list(range(len(rows))), "data": data}


def _json_file(name: str) -> Any:
    path = Path(name).expanduser()
    if not path.is_file():
        raise BadInput(f"no such file: {name}", hint="give $variable, JSON, or a JSON or CSV file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise BadInput(f"{name} is not JSON: {exc}", hint='{"input_data": …}') from exc


def content_of(body: Any) -> str:
    """A request as JSON; what is not a number is null, as in a DataFrame.

    Raises: BadInput: something in it has no JSON.
    """
    try:
        return json.dumps(body, default=_json_value, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(json.loads(json.dumps(body, default=_json_value))))
    except TypeError as exc:
        raise BadInput(f"the value cannot be sent as JSON: {exc}", "send a DataFrame") from exc


def _json_value(value: Any) -> Any:
    """What NumPy, pandas and the calendar have instead of JSON's own values."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is none of its types")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score(session: Session, endpoint: str, body: Any, deployment: str = "") -> Any:
    """Ask an endpoint, or one of its deployments; returns what the JSON of the answer says.

    Raises: BadInput: no JSON. NotFound: no such endpoint or deployment. Refused: as answered.
    """
    content = content_of(body)
    place = f"endpoint {endpoint}"
    known = place in session.cache
    url, key = session.cache.get(place) or door(session, endpoint)
    headers = headers_of(key, deployment)
    response = rest.raw(session, "POST", url, data=content, headers=headers, timeout=ASKED_SECONDS)
    if response.status_code < 400:
        session.cache[place] = (url, key)
        return _answer(response)
    session.cache.pop(place, None)
    if known and response.status_code in {401, 404}:  # made anew since
        return score(session, endpoint, body, deployment)
    error = rest.refusal(response.status_code, rest.message(response))
    shown = f"%aml endpoint logs {endpoint}" + (f" --deployment {deployment}" if deployment else "")
    listed = f"%aml endpoint show {endpoint}"
    error.hint = listed if isinstance(error, NotFound) else shown
    raise error


def _answer(response: requests.Response) -> Any:
    """What an answer says: of a script that answers in no JSON, its text."""
    try:
        return response.json()
    except ValueError:
        return Text(response.text)


def headers_of(key: Secret, deployment: str) -> dict[str, str]:
    """Headers of a request for predictions."""
    chosen = {"azureml-model-deployment": deployment} if deployment else {}
    return {"Authorization": f"Bearer {key.value}", "Content-Type": "application/json", **chosen}


def door(session: Session, endpoint: str) -> tuple[str, Secret]:
    """Where an endpoint is asked and the key to it."""
    with client.calling(session, hint=LIST) as ml:
        url = ml.online_endpoints.get(endpoint).scoring_uri
        keys = ml.online_endpoints.get_keys(endpoint)
    return url, Secret(getattr(keys, "primary_key", None) or keys.access_token)


def last_lines(session: Session, endpoint: str, name: str) -> list[str]:
    """What a failed deployment said last; nothing where it has no log."""
    try:
        text = get_logs(session, name=name, endpoint_name=endpoint)
    except AmlError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _follow(session: Session, tell: Tell, endpoint: str, texts: dict[str, Text]) -> None:
    """Tell what deployments write from now on, each under its name."""
    seen = {name: text.splitlines() for name, text in texts.items()}
    new = seen
    while True:
        for name, lines in new.items():
            if lines:
                tell("".join(f"{name}  {line}\n" for line in lines))
        time.sleep(FOLLOW_SECONDS)
        looks = {
            name: get_logs(session, name=name, endpoint_name=endpoint, lines=FOLLOWED).splitlines()
            for name in seen
        }
        new = {name: after(seen[name], lines) for name, lines in looks.items()}
        seen = looks


def after(before: list[str], now: list[str]) -> list[str]:
    """The lines of a log's end that have come since an earlier look at its end."""
    if now[: len(before)] == before:
        return now[len(before) :]
    for size in range(min(len(before), len(now)), 0, -1):
        starts = range(len(now) - size, -1, -1)
        match = next((at for at in starts if now[at : at + size] == before[-size:]), None)
        if match is not None:
            return now[match + size :]
    return now


def _headed(name: str, text: str, names: list[str]) -> str:
    return text if len(names) == 1 else f"── {name} ──\n{text}"
