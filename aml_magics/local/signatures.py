"""Who may read or write blobs: shared keys, shared access signatures, bearer tokens."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

from starlette.responses import Response

from aml_magics.local.wire import ArmError, Call

if TYPE_CHECKING:
    from aml_magics.local.app import Local

SAS_VERSION = "2021-08-06"
UNSPEAKABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML
PERMISSIONS = {"GET": "r", "HEAD": "r", "PUT": "wc", "PATCH": "wa", "DELETE": "d"}


class BlobError(ArmError):
    """A refusal as blob storage words it: XML, with the code in a header as well."""

    def response(self) -> Response:
        text = escape(UNSPEAKABLE.sub("?", str(self)))
        body = f"<Error><Code>{self.code}</Code><Message>{text}</Message></Error>"
        return Response(
            '﻿<?xml version="1.0" encoding="utf-8"?>' + body,
            self.status,
            {"x-ms-error-code": self.code, "x-ms-version": SAS_VERSION},
            "application/xml",
        )


def account_key(local: Local, account: str) -> str:
    """The base64 key of a storage account: derived, so that there is nothing to keep."""
    half = [hmac.digest(local.secret, f"{account}/{n}".encode(), "sha256") for n in (1, 2)]
    return b64encode(b"".join(half)).decode()


def sign(key: str, text: str) -> str:
    return b64encode(hmac.digest(b64decode(key), text.encode(), "sha256")).decode()


def sas(local: Local, account: str, container: str, name: str = "", allow: str = "r") -> str:
    """A service SAS for one container, or one blob in it, for a day."""
    query = {
        "sv": SAS_VERSION,
        "sr": "b" if name else "c",
        "sp": allow,
        "se": (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    place = f"/blob/{account}/{container}" + (f"/{name}" if name else "")
    query["sig"] = sign(account_key(local, account), _sas_text(query, place))
    return urlencode(query)


def _sas_text(query: dict[str, str], place: str) -> str:
    """Source: "Create a service SAS", string-to-sign of versions 2018-11-09 and 2020-12-06."""
    fields = ["sp", "st", "se", "", "si", "sip", "spr", "sv", "sr", "snapshot"]
    fields += ["ses"] if query["sv"] >= "2020-12-06" else []
    fields += ["rscc", "rscd", "rsce", "rscl", "rsct"]
    values = [query.get(field, "") for field in fields]
    values[3] = place
    return "\n".join(values)


def authorize(call: Call, account: str, container: str, name: str) -> None:
    """Let the request through, or raise the 403 that storage would answer."""
    key, query = account_key(call.local, account), dict(parse_qsl(call.request.url.query))
    header = call.request.headers.get("authorization", "")
    if header.startswith("Bearer ") and call.local.is_token(header[7:]):
        return None
    if "sig" in query:
        return _check_sas(call, key, query, f"/blob/{account}/{container}", name)
    expected = f"SharedKey {account}:{sign(key, _shared_key_text(call, account))}"
    if not hmac.compare_digest(header.encode(), expected.encode()):
        raise BlobError(403, "AuthenticationFailed", "The signature or token does not fit.")
    return None


def _check_sas(call: Call, key: str, query: dict[str, str], place: str, name: str) -> None:
    if query.get("sr") == "b":
        place = f"{place}/{name}"
    needed, granted = PERMISSIONS[call.request.method], query.get("sp", "")
    if call.query.get("comp") == "list" or (needed == "r" and "resource" in call.query):
        needed = "l"
    if query.get("se", "") < datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"):
        raise BlobError(403, "AuthenticationFailed", "The signature has expired.")
    fits = hmac.compare_digest(query["sig"], sign(key, _sas_text({"sv": "", **query}, place)))
    if not fits:
        raise BlobError(403, "AuthenticationFailed", "The signature does not fit.")
    if not set(needed) & set(granted):
        raise BlobError(403, "AuthorizationPermissionMismatch", f"The SAS lacks {needed!r}.")


_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def _shared_key_text(call: Call, account: str) -> str:
    """Source: "Authorize with Shared Key", string-to-sign of the blob service."""
    request = call.request
    headers = [request.headers.get(name, "") for name in _SIGNED_HEADERS]
    headers[2] = headers[2] if headers[2] != "0" else ""
    headers[5] = "" if "x-ms-date" in request.headers else headers[5]
    own = sorted((k, v) for k, v in request.headers.items() if k.startswith("x-ms-"))
    raw = request.scope.get("aml.raw_path", request.scope["raw_path"]).decode()
    query = sorted((k.lower(), v) for k, v in parse_qsl(request.url.query, keep_blank_values=True))
    resource = f"/{account}{raw}" + "".join(f"\n{k}:{v}" for k, v in query)
    lines = [request.method, *headers, *(f"{k}:{v.strip()}" for k, v in own), resource]
    return "\n".join(lines)
