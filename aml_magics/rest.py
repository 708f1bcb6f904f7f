"""Requests to the workspace that need no SDK: ARM, run history, logs, MLflow, scoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aml_magics import settings
from aml_magics.errors import (
    AmlError,
    NotFound,
    NotLoggedIn,
    NotSupported,
    Refused,
    WorkspaceUnreachable,
)
from aml_magics.session import Session

if TYPE_CHECKING:
    import requests

API_VERSION = "2024-10-01"
THREADS = 16  # that ask at the same time
RECONNECT_HINT = "is it still running? `%aml login --local` starts it again; `%aml login` for Azure"


def send(
    session: Session, verb: str, url: str, *, hint: str = "", **options: Any
) -> requests.Response:
    """One request with the session's token; connections are kept open.

    Args: hint: what to type when something is not found.

    Raises: WorkspaceUnreachable: no answer. NotLoggedIn, NotFound, Refused: as the status says.
    """
    return checked(_with_token(session, verb, url, **options), hint)


def _with_token(session: Session, verb: str, url: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {session.token()}", **options.pop("headers", {})}
    return raw(session, verb, url, headers=headers, **options)


def checked(response: requests.Response, hint: str = "") -> requests.Response:
    """The response, if it is not an error."""
    if response.status_code >= 400:
        error = refusal(response.status_code, message(response))
        error.hint = error.hint or hint
        raise error
    return response


def raw(session: Session, verb: str, url: str, **options: Any) -> requests.Response:
    """One request as it is: no token added, any status returned."""
    import requests

    if "http" not in session.cache:
        session.cache["http"] = _connections()
    http: requests.Session = session.cache["http"]
    options.setdefault("timeout", settings.get("timeout_seconds"))
    bundle = session.connection.environment.get("REQUESTS_CA_BUNDLE")
    options.setdefault("verify", bundle or True)  # also while another session is the current one
    try:
        return http.request(verb, url, **options)
    except requests.RequestException as exc:
        raise WorkspaceUnreachable(
            f"workspace '{session.name}' does not answer ({type(exc).__name__})", RECONNECT_HINT
        ) from exc


def _connections() -> requests.Session:
    """Connections kept open; a GET on one that the server has closed meanwhile is sent again."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    http = requests.Session()
    retries = Retry(total=1, allowed_methods={"GET"})
    adapter = HTTPAdapter(max_retries=retries, pool_maxsize=THREADS)
    http.mount("https://", adapter)
    http.mount("http://", adapter)
    return http


def arm(session: Session, verb: str, path: str = "", **options: Any) -> dict[str, Any]:
    """An ARM operation on the workspace; ``path`` is relative to its id."""
    url = f"{session.arm_url}{session.scope}{path}"
    params = {"api-version": API_VERSION, **options.pop("params", {})}
    return _json(send(session, verb, url, params=params, **options))


def pages(session: Session, path: str, **params: str) -> Iterator[dict[str, Any]]:
    """Every item of an ARM list, a page at a time."""
    yield from _every(session, arm(session, "GET", path, params=params))


def _every(session: Session, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The items of a page and of those after it."""
    yield from answer.get("value", [])
    while answer.get("nextLink"):
        answer = _json(send(session, "GET", answer["nextLink"]))
        yield from answer.get("value", [])


def history_pages(session: Session, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list of the run-history service, a page at a time."""
    yield from _every(session, history(session, path))


def history(session: Session, path: str) -> dict[str, Any]:
    """An answer of the run-history service."""
    return _json(send(session, "GET", f"{session.api_url}/history/v1.0{session.scope}/{path}"))


def mlflow(session: Session, verb: str, path: str, data: dict[str, Any]) -> dict[str, Any]:
    """An answer of MLflow's REST API; ``data`` is the query of a GET, the body of a POST."""
    root = _mlflow_root(session.tracking_uri)
    place = "params" if verb == "GET" else "json"
    options: dict[str, Any] = {place: data}
    return _json(send(session, verb, f"{root}/api/2.0/mlflow/{path}", **options))


def mlflow_page(
    session: Session, verb: str, path: str, data: dict[str, Any], **options: Any
) -> requests.Response:
    """Any answer, an error too, of what MLflow's web page uses, which not every server has."""
    root = _mlflow_root(session.tracking_uri)
    place = "params" if verb == "GET" else "json"
    options[place] = data
    return _with_token(session, verb, f"{root}/ajax-api/2.0/mlflow/{path}", **options)


def _mlflow_root(tracking_uri: str) -> str:
    """Where a tracking URI's REST API is; of Azure's two, the one MLflow 2 and later speak to."""
    root = tracking_uri.partition("?")[0].rstrip("/")
    if root.startswith("azureml://"):
        return root.replace("azureml://", "https://", 1).replace("/mlflow/v1.0", "/mlflow/v2.0", 1)
    return root


def message(response: requests.Response) -> str:
    """The reason in an error answer, in whichever of the services' envelopes it is."""
    try:
        body = response.json()
    except ValueError:
        return f"{response.status_code} {response.reason}"
    error = body.get("error", body) if isinstance(body, dict) else body
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text) or f"{response.status_code} {response.reason}"


def refusal(status: int, reason: str) -> AmlError:
    """The error an HTTP status stands for."""
    if status in {401, 403}:
        return NotLoggedIn(f"the workspace refused the credential: {reason}", "%aml login")
    if status == 404:
        return NotFound(reason)
    if status == 501:
        return NotSupported(reason, "a workspace on Azure has it: %aml login -g GROUP -w WORKSPACE")
    return Refused(reason)


def _json(response: requests.Response) -> dict[str, Any]:
    return response.json() if response.content else {}
