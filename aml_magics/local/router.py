"""The router of online endpoints: checks the key, picks a deployment, passes the request on."""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aml_magics.local import identity, lanes
from aml_magics.local.controllers import online
from aml_magics.local.deployments import REQUEST_SETTINGS
from aml_magics.local.endpoints import KIND
from aml_magics.local.lanes import Answer, Gone, Limits, Lost
from aml_magics.local.store import Body, Resource
from aml_magics.local.wire import BODY_LIMIT, ArmError, Call, read_body

if TYPE_CHECKING:
    from aml_magics.local.app import Local

DEPLOYMENT_HEADER = "azureml-model-deployment"
# By path, as Microsoft's inference server has them.
ALLOWED = {"": "GET, HEAD", "score": "GET, POST, OPTIONS", "swagger.json": "GET"}
PAYLOAD_LIMIT = 10 << 20  # bytes, of a request to a managed endpoint on Azure
GONE_PAUSE = 0.02  # seconds until the end of a process is known
MOST_MIRRORED = 64  # at a time; what comes on top of them is not mirrored, as nobody waits for it
# Between two parties only, or for us and not for the model.
_NOT_PASSED_ON = {
    *("authorization", "connection", "content-length", "date", "expect", "host", "keep-alive"),
    *("proxy-authorization", "server", "te", "trailer", "transfer-encoding", "upgrade"),
}


class Deployment(NamedTuple):
    """`is_up`: it serves, or will again."""

    id: str
    name: str
    limits: Limits
    is_up: bool


class Endpoint(NamedTuple):
    """An endpoint as the router needs it."""

    id: str
    name: str
    account: str
    mode: str
    keys: Mapping[str, str]
    traffic: Mapping[str, int]
    mirror: Mapping[str, int]
    most_bytes: int
    deployments: Mapping[str, Deployment]


class Table:
    """All endpoints by lower-case name, read again when the store has changed."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._changes = -1
        self._endpoints: dict[str, list[Endpoint]] = {}

    async def named(self, name: str) -> list[Endpoint]:
        if self._changes != self._local.store.changes():
            await run_in_threadpool(self._read)
        return self._endpoints.get(name.lower(), [])

    def _read(self) -> None:
        changes, found = self._local.store.changes(), dict[str, list[Endpoint]]()
        for row in self._local.store.of_kind(KIND):
            found.setdefault(row.name.lower(), []).append(self._endpoint(row))
        self._endpoints, self._changes = found, changes

    def _endpoint(self, row: Resource) -> Endpoint:
        properties, store = row.properties, self._local.store
        is_managed = not properties.get("compute")
        return Endpoint(
            row.id,
            row.name,
            self._local.workspace_of(row.id).account,
            properties["authMode"],
            store.noted(row.id, "keys") or {},
            {name: share for name, share in (properties["traffic"] or {}).items() if share > 0},
            {name: share for name, share in (properties["mirrorTraffic"] or {}).items() if share},
            PAYLOAD_LIMIT if is_managed else BODY_LIMIT,
            {
                one.name.lower(): self._deployment(one)
                for one in store.children(row.id, online.KIND)
            },
        )

    def _deployment(self, row: Resource) -> Deployment:
        asked = row.properties["requestSettings"]
        is_given = asked != REQUEST_SETTINGS  # those are shown where nothing was asked for
        limits = lanes.limits(asked, int(row.body["sku"]["capacity"] or 1), is_given=is_given)
        is_creating = row.properties["provisioningState"] == "Creating"
        is_up = not is_creating and online.may_serve(self._local, row)
        return Deployment(row.id, row.name, limits, is_up)


async def score(call: Call) -> Response:
    """Check the key, choose a deployment by header or traffic, and pass the request on to it."""
    started = time.perf_counter()
    endpoint = _open(call, await call.local.table.named(call.path["endpoint"]))
    deployment = _chosen(call, endpoint)
    body = await _body(call, endpoint)
    _mirror(call, endpoint, body)
    response = await _answered(call, deployment, body)
    ms = 1000 * (time.perf_counter() - started)
    call.local.monitor.add(endpoint.id, deployment.name, response.status_code, ms)
    return response


async def not_allowed(call: Call) -> Response:
    """Say with which methods a path of an endpoint is asked, to who may ask."""
    _open(call, await call.local.table.named(call.path["endpoint"]))
    allowed = ALLOWED[call.path["operation"].lower()]
    error = ArmError(405, "MethodNotAllowed", f"{call.request.method} is none of {allowed}.")
    return _failed(error, {"Allow": allowed})


async def _answered(call: Call, deployment: Deployment, body: bytes) -> Response:
    """The model's answer; one that is an error of its own is 424, with that error in headers.

    Source: "HTTP status codes for online endpoints" of Azure's documentation.
    """
    headers = {DEPLOYMENT_HEADER: deployment.name}
    try:
        async with asyncio.timeout(deployment.limits.total):
            answer = await _sent(call, deployment, body)
    except TimeoutError:
        return _failed(_too_late(call, deployment), headers)
    except ArmError as exc:
        return _failed(exc, headers)
    headers |= {key: text for key, text in answer.headers.items() if _passes(key)}
    if answer.status >= 400:
        headers |= {"ms-azureml-model-error-statuscode": str(answer.status)}
        headers |= {"ms-azureml-model-error-reason": "model_error"}
        return Response(answer.body, 424, headers)
    return Response(answer.body, answer.status, headers)


async def _sent(call: Call, deployment: Deployment, body: bytes) -> Answer:
    """The answer of an instance; one that was gone before it saw the request is not asked again."""
    local, id_ = call.local, deployment.id
    while True:
        if not deployment.is_up and not local.online.instances(id_):
            raise lanes.unavailable(id_)
        instance = await local.lanes.enter(id_, deployment.limits)
        try:
            async with asyncio.timeout(deployment.limits.timeout):
                return await local.lanes.send(
                    instance, call.request.method, _path(call), _asked(call), body
                )
        except Lost as exc:
            message = "The process of the deployment ended while it had the request."
            raise ArmError(502, "BadGateway", message) from exc
        except Gone:
            await asyncio.sleep(GONE_PAUSE)
        finally:
            local.lanes.leave(id_, instance)


def _mirror(call: Call, endpoint: Endpoint, body: bytes) -> None:
    """Send a share of the requests to a second deployment, whose answers nobody sees."""
    if call.request.method != "POST" or call.path["operation"].lower() != "score":
        return
    for name, share in endpoint.mirror.items():
        deployment = endpoint.deployments.get(name.lower())
        is_chosen = random.random() * 100 < share  # noqa: S311 (a load balancer)
        if deployment and is_chosen and len(_mirrored) < MOST_MIRRORED:
            task = asyncio.ensure_future(_copied(call, deployment, body))
            _mirrored.add(task)
            task.add_done_callback(_mirrored.discard)


async def _copied(call: Call, deployment: Deployment, body: bytes) -> None:
    try:
        async with asyncio.timeout(deployment.limits.total):
            await _sent(call, deployment, body)
    except (TimeoutError, ArmError):
        pass  # its log has it


_mirrored: set[asyncio.Future[None]] = set()


async def _body(call: Call, endpoint: Endpoint) -> bytes:
    limit = endpoint.most_bytes
    message = (
        f"The payload is larger than the {limit >> 20} MB an online endpoint takes: "
        "send it in parts, or invoke a batch endpoint."
    )
    too_large = ArmError(413, "RequestEntityTooLarge", message)
    if int(call.request.headers.get("content-length") or 0) > limit:
        raise too_large
    body = await read_body(call.request)
    if len(body) > limit:
        raise too_large
    return body


def _asked(call: Call) -> dict[str, str]:
    headers = call.request.headers
    return {name: value for name, value in headers.items() if _passes(name)}


def _passes(header: str) -> bool:
    return header.lower() not in _NOT_PASSED_ON


def _path(call: Call) -> str:
    query = call.request.url.query
    return f"/{call.path['operation']}" + (f"?{query}" if query else "")


def _open(call: Call, named: list[Endpoint]) -> Endpoint:
    """The endpoint that the request has the key of.

    One through the direct door; a host of Azure names no workspace.

    Raises: ArmError 401: its key fits no endpoint of that name; 404: there is none.
    """
    account = call.path["account"]
    named = [one for one in named if account in ("-", one.account)]
    if not named:
        raise ArmError(404, "NotFound", f"There is no endpoint {call.path['endpoint']}.")
    given = identity.bearer(call.request.headers)
    endpoint = next((one for one in named if _may_score(call.local, given, one)), None)
    if endpoint is None:
        message = "The key or token of the endpoint is missing or wrong."
        raise ArmError(401, "key_auth_access_denied", message)
    return endpoint


def _may_score(local: Local, given: str, endpoint: Endpoint) -> bool:
    if endpoint.mode == "AADToken":
        return local.is_token(given)
    if endpoint.mode == "AMLToken":
        return identity.is_valid(given, endpoint.keys["Primary"])
    return any(hmac.compare_digest(given.encode(), key.encode()) for key in endpoint.keys.values())


def _chosen(call: Call, endpoint: Endpoint) -> Deployment:
    asked = call.request.headers.get(DEPLOYMENT_HEADER)
    if asked:
        if asked.lower() not in endpoint.deployments:
            raise ArmError(404, "NotFound", f"Endpoint {endpoint.name} has no deployment {asked}.")
        return endpoint.deployments[asked.lower()]
    traffic = {k: v for k, v in endpoint.traffic.items() if k.lower() in endpoint.deployments}
    if not traffic:
        message = f"No deployment of {endpoint.name} gets traffic: set some, or name a deployment."
        raise ArmError(404, "NoDeployment", message)
    name = random.choices([*traffic], [*traffic.values()])[0]  # noqa: S311 (a load balancer)
    return endpoint.deployments[name.lower()]


def _failed(error: ArmError, headers: Body) -> Response:
    response = error.response()
    response.headers.update(headers)
    return response


def _too_late(call: Call, deployment: Deployment) -> ArmError:
    if not call.local.lanes.serves(deployment.id):
        return lanes.unavailable(deployment.id)
    limit = deployment.limits.timeout
    message = f"The model did not answer within {limit:g} s: raise request_timeout_ms."
    return ArmError(408, "RequestTimeout", message)
