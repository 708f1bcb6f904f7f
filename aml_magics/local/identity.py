"""Who may come in: tokens, the endpoints that issue them, and the guard at both doors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from aml_magics.local.bodies import OBJECT_ID
from aml_magics.local.doors import CLOUD, Door
from aml_magics.local.wire import TENANT, Call

TOKEN_SECONDS = 24 * 3600
COOKIE = "aml_local"
WORKSPACE = "aml_workspace"  # a claim of our own
NO_WORKSPACE = "-"
RUN = "runs/"  # before the name of a run, in the audience of a token
CLIENT = "00000000-0000-0000-0000-00000000a2a2"

# Checked by their own handlers (shared keys and SAS, keys of endpoints, secrets of identities), or
# asked by clients before they have a token, as on Azure.
OPEN_PATHS = (
    "/blob/",
    "/dfs/",
    "/file/",
    "/inference/",
    "/login/",
    "/msi/",
    "/discovery",
    "/metadata/endpoints",
    "/schemas/",
    "/healthz",
    "/favicon.ico",
)


def guard(app: ASGIApp, secret: str) -> ASGIApp:
    """Wrap ``app`` so that only requests with a valid token reach it; ``secret`` is the daemon's.

    A page opened with ``?token=…`` gets a cookie and is sent to the same URL without the token.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await app(scope, receive, send)
            return
        request = Request(scope)
        if is_valid(bearer(request.headers), secret) or _has_cookie(request, secret):
            await app(scope, receive, send)
        elif request.method == "GET" and is_valid(request.query_params.get("token", ""), secret):
            await _signed_in(request, secret)(scope, receive, send)
        else:
            await _unauthorized(request)(scope, receive, send)

    return guarded


def is_open(path: str) -> bool:
    """Claim that the guard leaves a path to its handler."""
    return path.startswith(OPEN_PATHS)


def bearer(headers: Mapping[str, str]) -> str:
    """Return the token of the Authorization header, "" without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def is_valid(token: str, secret: str) -> bool:
    """Claim that a token is the daemon's own, or was issued by it and has not expired."""
    if hmac.compare_digest(token.encode(), secret.encode()):
        return True
    return _expiry(token, secret) > time.time()


@lru_cache(maxsize=256)  # clients send the same one with every request
def _expiry(token: str, secret: str) -> float:
    """When a token expires; 0 for one that was not issued with this secret."""
    head, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(head, secret).encode()):
        return 0.0
    return float(json.loads(_decode(head.partition(".")[2]))["exp"])


def issue(audience: str, secret: str, seconds: float = TOKEN_SECONDS, workspace: str = "") -> str:
    """Make a token shaped as Azure's (JWT): clients read ``exp``, ``oid`` and ``tid`` in it.

    Args: workspace: what `workspace_of` gives for it.
    """
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now,
        "nbf": now,
        "exp": now + int(seconds),
        "appid": CLIENT,
        "oid": OBJECT_ID,
        "sub": OBJECT_ID,
        "tid": TENANT,
        "name": "local",
        "ver": "1.0",
        WORKSPACE: workspace,
    }
    head = ".".join(_encode(part) for part in ({"typ": "JWT", "alg": "HS256"}, claims))
    return f"{head}.{_signature(head, secret)}"


def workspace_of(token: str) -> str:
    """The storage account of the only workspace that a valid token makes by asking for it.

    "" when any will be made, `NO_WORKSPACE` when none.
    """
    claims = token.partition(".")[2].partition(".")[0]
    return str(json.loads(_decode(claims)).get(WORKSPACE, "")) if claims else ""


def issue_to_run(run: str, secret: str, seconds: float) -> str:
    """Make a token for the process of a job, which tells by it whose requests these are."""
    return issue(RUN + run, secret, seconds)


def run_of(token: str, secret: str) -> str:
    """The run whose process has this token; "" for any other token."""
    if token.count(".") != 2 or not is_valid(token, secret):
        return ""
    audience = str(json.loads(_decode(token.split(".")[1]))["aud"])
    return audience.removeprefix(RUN) if audience.startswith(RUN) else ""


def token(call: Call) -> Response:
    """Exchange the daemon's secret for a token, as Microsoft Entra ID does for a program's."""
    form = {name: values[0] for name, values in parse_qs(call.body.decode("latin-1")).items()}
    grant = form.get("grant_type", "")
    if grant != "client_credentials":
        message = f"AADSTS70003: The local workspace does not support the grant type '{grant}'."
        return _refused(400, "unsupported_grant_type", message, [70003])
    secret = call.local.address.token
    given = form.get("client_assertion") or form.get("client_secret", "")
    if not is_valid(given, secret):
        message = "AADSTS7000215: Invalid client secret provided."
        return _refused(401, "invalid_client", message, [7000215])
    scope = form.get("scope") or form.get("resource", "")
    issued = issue(scope.removesuffix("/.default"), secret, workspace=workspace_of(given))
    return JSONResponse(
        {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": issued,
        }
    )


# AzureMLOnBehalfOfCredential sends no header: the secret is in its URL.
OBO_SECRET = "identity_header"  # noqa: S105 (the name of a parameter)


def managed_identity_token(call: Call) -> Response:
    """Give a token to a program that sends its ``IDENTITY_HEADER``, as App Service does."""
    secret = call.local.address.token
    header = call.request.headers.get("x-identity-header") or call.query.get(OBO_SECRET, "")
    if not is_valid(header, secret):
        return JSONResponse({"statusCode": 401, "message": "The X-IDENTITY-HEADER is wrong."}, 401)
    resource = call.query.get("resource", "")
    return JSONResponse(
        {
            "access_token": issue(resource, secret, workspace=workspace_of(header)),
            "expires_on": str(int(time.time()) + TOKEN_SECONDS),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": CLIENT,
        }
    )


def openid_configuration(call: Call) -> Response:
    """Name the endpoints of a tenant, as msal asks before its first request."""
    tenant, base = call.path["tenant"], login_url(call.door)
    return JSONResponse(
        {
            "issuer": f"{base}/{tenant}/v2.0",
            "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/{tenant}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code", "id_token"],
            "tenant_region_scope": "NA",
        }
    )


def instance_discovery(call: Call) -> Response:
    """Tell msal that the authority it asks is a known one."""
    base = login_url(call.door)
    host = urlsplit(base).netloc
    return JSONResponse(
        {
            "tenant_discovery_endpoint": f"{base}/{TENANT}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [
                {"preferred_network": host, "preferred_cache": host, "aliases": [host]},
            ],
        }
    )


def login_url(door: Door) -> str:
    """Root of the token endpoints, without a slash at the end."""
    return "https://login.microsoftonline.com" if door is CLOUD else f"{door.arm}/login"


def _refused(status: int, code: str, message: str, numbers: list[int]) -> Response:
    body = {
        "error": code,
        "error_description": message,
        "error_codes": numbers,
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "trace_id": str(uuid4()),
        "correlation_id": str(uuid4()),
    }
    return JSONResponse(body, status)


def _has_cookie(request: Request, secret: str) -> bool:
    """A cookie goes with any page's requests: what changes something must come from our own."""
    if request.method not in ("GET", "HEAD"):
        origin = urlsplit(request.headers.get("origin", ""))
        if origin.netloc != request.headers.get("host"):
            return False
    try:
        jar = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return False
    return COOKIE in jar and is_valid(jar[COOKIE].value, secret)


def _signed_in(request: Request, secret: str) -> Response:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    path = str(request.scope["aml.raw_path"].decode("latin-1"))
    target = path + (f"?{urlencode(query)}" if query else "")
    response = RedirectResponse(target, 303)
    response.set_cookie(
        COOKIE,
        issue("pages", secret),
        max_age=TOKEN_SECONDS,
        httponly=True,
        samesite="lax",  # links in notebooks, which are of another site, lead here
        secure=request.url.scheme == "https",
    )
    return response


def _unauthorized(request: Request) -> Response:
    headers = {"WWW-Authenticate": f'Bearer authorization_uri="https://login.windows.net/{TENANT}"'}
    if "text/html" in request.headers.get("accept", ""):
        text = "This page opens with the address that `aml-local status` prints.\n"
        return PlainTextResponse(text, 401, headers)
    message = "The access token is missing, wrong or expired. Log in again: %aml login --local"
    body = {"error": {"code": "InvalidAuthenticationToken", "message": message}}
    return JSONResponse(body, 401, headers)


def _signature(head: str, secret: str) -> str:
    digest = hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
