"""What a handler receives and what it may raise: requests, workspaces and ARM's error envelope."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import NAMESPACE_URL, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from aml_magics.local.app import Local
    from aml_magics.local.doors import Door

PROVIDER = "Microsoft.MachineLearningServices"
REGION = "eastus"
TENANT = "00000000-0000-0000-0000-00000000a2a1"
BODY_LIMIT = 32 << 20
DEEPEST = 128  # levels of JSON in a body
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class ArmError(Exception):
    """A request that is answered with ARM's error envelope.

    Source: recorded answers of the management front end; `code` decides which exception the
    SDK raises, `reason` is the service's inner error code, `detail` the code of the one detail
    that some failures have.
    """

    def __init__(
        self, status: int, code: str, message: str, reason: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.reason, self.detail = status, code, reason, detail

    def response(self) -> Response:
        body = error_body(self.code, str(self), self.reason, self.detail)
        return JSONResponse(body, self.status)


class GatewayError(ArmError):
    """A failure that ARM itself tells of: it never came to the service."""

    def response(self) -> Response:
        body = {"error": {"code": self.code, "message": str(self)}}
        return JSONResponse(body, self.status, {"x-ms-failure-cause": "gateway"})


class AccountError(ArmError):
    """A failure as the service that keeps connections words it."""

    def response(self) -> Response:
        facts = _facts()
        inner = {"code": self.reason or self.code, "innerError": None}
        error = {
            **dict.fromkeys(("severity", "messageFormat", "messageParameters", "referenceCode")),
            **dict.fromkeys(("detailsUri", "target", "debugInfo", "additionalInfo")),
            **{"code": self.code, "message": str(self), "details": [], "innerError": inner},
        }
        beside = {key[0].lower() + key[1:]: value for key, value in facts.items()}
        return JSONResponse({"error": error, **beside, "componentName": "account-rp"}, self.status)


def error_body(code: str, message: str, reason: str = "", detail: str = "") -> dict[str, Any]:
    """The envelope the management front end puts around every failure."""
    inner = {"code": reason or code, "innerError": None}
    facts = {"ComponentName": "managementfrontend", **_facts(), "InnerError": inner}
    extra = [{"type": key, "info": {"value": value}} for key, value in facts.items()]
    about = {"code": detail, "message": message, "details": [], "additionalInfo": []}
    return {
        "error": {
            "code": code,
            "message": message,
            "details": [about] if detail else [],
            "additionalInfo": extra,
        },
    }


def _facts() -> dict[str, Any]:
    return {
        "Correlation": {"operation": uuid4().hex, "request": uuid4().hex[:16]},
        "Environment": REGION,
        "Location": REGION,
        "Time": datetime.now(UTC).isoformat(),
    }


def not_found(message: str, detail: str = "") -> ArmError:
    return ArmError(404, "UserError", message, "NotFoundError", detail)


def bad_request(message: str) -> ArmError:
    return ArmError(400, "UserError", message, "BadRequest")


# What the fields of a resource and of its properties are, whatever kind it is; null is none of it.
FIELDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(
        (
            *("identity", "properties", "sku", "tags"),
            *("credentials", "defaults", "environmentVariables", "flavors", "inputs", "outputs"),
            *("mirrorTraffic", "traffic"),
        ),
        (dict, "a mapping"),
    ),
    **dict.fromkeys(
        (
            *("kind", "location", "codeUri", "dataType", "dataUri", "description", "displayName"),
            *("experimentName", "image", "jobName", "modelType", "modelUri", "storageUri"),
        ),
        (str, "text"),
    ),
    **dict.fromkeys(
        ("isAnonymous", "isArchived", "isDefault", "isEnabled"), (bool, "true or false")
    ),
}


def check_fields(body: Mapping[str, Any]) -> None:
    """Refuse a field that is not of the type it has in every kind of resource.

    Raises: ArmError 400.
    """
    for name, value in body.items():
        kind, words = FIELDS.get(name, (object, ""))
        if value is not None and not isinstance(value, kind):
            raise bad_request(f"The field {name!r} is {words}, not {type(value).__name__}.")


def check_name(name: str) -> None:
    """Refuse a name that no resource may have: a path, a control character, an endless one.

    Raises: ArmError 400.
    """
    if not NAME.fullmatch(name):
        raise bad_request(
            f"The name {name[:80]!r} is not valid: letters, digits, '-', '_' and '.', at most 255, "
            "with a letter, digit or '_' first."
        )


class Workspace(NamedTuple):
    """Which workspace a request is about. `account` is its storage account.

    A registry is a workspace that holds assets only, of the collection `registries`.
    """

    subscription: str
    resource_group: str
    name: str
    account: str
    collection: str = "workspaces"

    @property
    def group_id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def id(self) -> str:
        return f"{self.group_id}/providers/{PROVIDER}/{self.collection}/{self.name}"

    @property
    def guid(self) -> str:
        return str(uuid5(NAMESPACE_URL, self.id.lower()))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _check_depth(value: Any) -> None:
    """Refuse what is nested deeper than any resource, before something recurses into it."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


class Call(NamedTuple):
    """One request, routed: `path` holds the named groups of its pattern."""

    request: Request
    path: Mapping[str, str]
    body: bytes
    door: Door
    local: Local
    ws: Workspace | None = None

    @property
    def workspace(self) -> Workspace:
        assert self.ws is not None  # noqa: S101 (the route's pattern has {ws})
        return self.ws

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters by lower-case name: ARM does not mind how they are written."""
        return {key.lower(): value for key, value in self.request.query_params.items()}

    @property
    def arm_id(self) -> str:
        """The resource the URL names: its path, with the service's own spelling of the scope."""
        return self.workspace.id + self.path["below"]

    def document(self) -> dict[str, Any]:
        """The request body as a JSON object.

        Raises: ArmError 400: it is not one.
        """
        try:
            document = json.loads(
                self.body or b"{}", parse_constant=_refuse_constant, parse_float=_finite
            )
            _check_depth(document)
            if b"\\ud" in self.body.lower():  # half a surrogate pair cannot be sent again
                json.dumps(document, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as exc:
            message = f"The request content was invalid and could not be deserialized: {exc}"
            raise ArmError(400, "InvalidRequestContent", message) from exc
        if not isinstance(document, dict):
            raise ArmError(400, "InvalidRequestContent", "The request body is not a JSON object.")
        check_fields(document)
        check_fields(document.get("properties") or {})
        return document


async def read_body(request: Request) -> bytes:
    """The request body in memory; large ones are for storage, which streams.

    Raises: ArmError 413.
    """
    body = bytearray()
    async for chunk in request.stream():
        body.extend(chunk)
        if len(body) > BODY_LIMIT:
            raise ArmError(413, "RequestEntityTooLarge", "The request body is too large.")
    return bytes(body)
