"""The router of online endpoints: checks the key, picks a deployment, passes the request on."""

from __future__ import annotations

import hmac
import random
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aml_magics.local import identity
from aml_magics.local.controllers.online import Server
from aml_magics.local.endpoints import KIND
from aml_magics.local.scoring import SECRET_HEADER
from aml_magics.local.store import Resource
from aml_magics.local.wire import ArmError, Call

if TYPE_CHECKING:
    import httpx

SCORE_SECONDS = 180.0  # the longest request timeout a deployment can ask Azure for
DEPLOYMENT_HEADER = "azureml-model-deployment"
FORWARDED = ("content-type", "x-ms-run-fn-exec-ms", "x-ms-run-function-failed")


class Target(NamedTuple):
    """Where a request to an endpoint goes."""

    deployment: str
    server: Server


async def score(call: Call) -> Response:
    """Check the key, choose a deployment by header or traffic, and pass the request on to it."""
    import httpx

    request = call.request
    target = await run_in_threadpool(_target, call)
    url = f"http://127.0.0.1:{target.server.port}/{call.path['operation']}"
    headers = {SECRET_HEADER: target.server.secret}
    if kind := request.headers.get("content-type"):
        headers["content-type"] = kind
    try:
        answer = await _client().request(
            request.method, url, content=await request.body(), headers=headers
        )
    except httpx.TimeoutException as exc:
        raise ArmError(408, "RequestTimeout", "The model took too long to answer.") from exc
    except httpx.TransportError as exc:
        raise _unavailable(target.deployment) from exc
    kept = {name: answer.headers[name] for name in FORWARDED if name in answer.headers}
    return Response(
        answer.content, answer.status_code, {**kept, DEPLOYMENT_HEADER: target.deployment}
    )


@cache
def _client() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(trust_env=False, verify=False, timeout=SCORE_SECONDS)  # noqa: S501


def _target(call: Call) -> Target:
    """Find where a request goes.

    Raises: ArmError 401: its key fits no endpoint of that name; 404: no deployment; 503.
    """
    named = _endpoints_named(call)
    if not named:
        raise ArmError(404, "NotFound", f"There is no endpoint {call.path['endpoint']}.")
    endpoint = next((row for row in named if _may_score(call, row)), None)
    if endpoint is None:
        message = "The key or token of the endpoint is missing or wrong."
        raise ArmError(401, "key_auth_access_denied", message)
    name = _chosen(call, endpoint)
    server = call.local.online.server(f"{endpoint.id}/deployments/{name}")
    if server is None:
        raise _unavailable(name)
    return Target(name, server)


def _endpoints_named(call: Call) -> list[Resource]:
    """Endpoints of that name: one through the direct door; a host of Azure names no workspace."""
    name, account = call.path["endpoint"].lower(), call.path["account"]
    return [
        row
        for row in call.local.store.of_kind(KIND)
        if row.name.lower() == name and account in ("-", call.local.workspace_of(row.id).account)
    ]


def _may_score(call: Call, endpoint: Resource) -> bool:
    given = identity.bearer(call.request.headers)
    keys = call.local.store.noted(endpoint.id, "keys")
    mode = endpoint.properties["authMode"]
    if mode == "AADToken":
        return call.local.is_token(given)
    if mode == "AMLToken":
        return identity.is_valid(given, keys["Primary"])
    return any(hmac.compare_digest(given.encode(), key.encode()) for key in keys.values())


def _chosen(call: Call, endpoint: Resource) -> str:
    asked = call.request.headers.get(DEPLOYMENT_HEADER)
    if asked:
        if call.local.store.get(f"{endpoint.id}/deployments/{asked}") is None:
            raise ArmError(404, "NotFound", f"Endpoint {endpoint.name} has no deployment {asked}.")
        return str(asked)
    traffic = {name: share for name, share in endpoint.properties["traffic"].items() if share > 0}
    if not traffic:
        message = f"No deployment of {endpoint.name} gets traffic: set some, or name a deployment."
        raise ArmError(404, "NoDeployment", message)
    return str(random.choices([*traffic], [*traffic.values()])[0])  # noqa: S311 (a load balancer)


def _unavailable(deployment: str) -> ArmError:
    message = f"Deployment {deployment} does not answer: it is starting, or it failed."
    return ArmError(503, "ServiceUnavailable", message)
