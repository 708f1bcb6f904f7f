"""Odd requests to every row of ROUTES: each is refused or done, and the daemon lives on.

The same examples in every run; `AML_FUZZ=1000` tries so many new ones for each path instead.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import socket
from base64 import urlsafe_b64encode
from collections import Counter
from urllib.parse import quote, urlencode, urlsplit
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from aml_magics.local import coverage, daemon, doors
from tests.sdk.bodies import ASKED, BESIDE, COMMON, MLFLOW, THERE

EXAMPLES = int(os.environ.get("AML_FUZZ", "0"))
EXPLORE = settings(
    max_examples=EXAMPLES or 16,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SCOPE = ("00000000-0000-0000-0000-000000000000", "tests", "odd")
ACCOUNT = doors.account_name(*SCOPE)
DONE = (200, 201, 202, 204, 206, 302, 304)
GUID = uuid5(NAMESPACE_URL, daemon.workspace_id(*SCOPE).lower())
VERBS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
KNOWN = {
    "account": (ACCOUNT, "-", "other"),
    "container": ("azureml", "c", "$root"),
    "endpoint": ("xyz",),
    "deployment": ("x",),
    "version": ("1",),
    "name": ("x",),
    "run": ("x",),
    "job": ("x",),
    "operation": tuple(
        urlsafe_b64encode(id_.encode()).decode().rstrip("=")
        for id_ in ("/x", f"{daemon.workspace_id(*SCOPE)}/jobs/x", daemon.workspace_id(*SCOPE))
    ),
    "rest": (
        *(f"/api/2.0/mlflow/{name}" for name in MLFLOW),
        *3 * [f"{ACCOUNT}/azureml/x"],
        "/",
        "x",
    ),
}
ODD = (
    *("..", ".", "%2e%2e", "..%2f..", "a%2fb", "%2F", "%5c..%5c", "%00", "x%0ay", "%", "%zz"),
    *("%ff", "%ed%a0%80", "%c3%a9", "%e2%80%ae", "a" * 300, "a" * 20_000, "{x}", "x:y", "x;y"),
    *("x%20y", "%2520", "'", "%22", "%3Cx%3E", "azureml_default", "AzureML-x", "*", "$top", "-1"),
)
QUERIES = (
    *("$top", "$skip", "$skipToken", "listViewType", "api-version", "hash", "stage", "comp"),
    *("restype", "prefix", "delimiter", "marker", "maxresults", "blockid", "path", "wsid", "type"),
    *("isDefault", "category", "tag", "jobType", "properties", "kind", "computeType", "resource"),
    *("sv", "sr", "sig", "se", "sp", "max_results", "page_token", "run_id", "experiment_id"),
)
VALUES = (
    *("", "0", "1", "-1", "x", "1e9", "9" * 30, "null", "true", "All", "ArchivedOnly", "container"),
    *("list", "metadata", "block", "blocklist", "../..", "/", "\0", "é", "2024-01-01-preview"),
    *("٣", "\ud7ff", "a" * 9000, "uncommitted", "location", "Succeeded", "[]", "{"),
)
HEADERS = {
    "If-Match": ("*", '"x"', "", '"0x1"'),
    "If-None-Match": ("*", '"x"', ""),
    "Range": ("bytes=0-", "bytes=5-2", "bytes=-5", "bytes=x-y", "0-1", "bytes=0-1,3-4", "\xb2"),
    "x-ms-range": ("bytes=0-0", "bytes=9" + "9" * 40 + "-", "bytes=1-", "bytes=\xb2-\xb3"),
    "Content-MD5": ("x", "====", "1B2M2Y8AsgTpgAmY7PhCfg==", "\xff"),
    "Content-Type": ("application/json", "text/xml", "x", "", "application/json; charset=x"),
    "x-ms-blob-type": ("BlockBlob", "PageBlob", "x"),
    "x-ms-blob-content-type": ("text/plain", "\xff"),
    "x-ms-meta-a": ("1", "\xe9", "<&>"),
    "x-ms-meta-a!b": ("1",),
    "Accept": ("text/html", "x"),
    "Cookie": ("aml_local=x", "=;;=", "\xff"),
}
TEXTS = ("", "x", "0", "\0", "é", "\ud800", "../x", "a" * 3000, "azureml:x:1", "runs:/x/y")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NO_JSON = (
    *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b'{"a":' * 3000, b"<x/>", b"1" * 6000),
    *(b'{"properties": {"a": NaN}}', b'{"properties": {"a": 1e999}}', b"<BlockList>", b"a=b&c=%zz"),
    b"<BlockList><Latest>eA==</Latest><Latest/></BlockList>",
    b'<?xml version="1.0" encoding="x"?><BlockList/>',
)


def filled(path):
    """The path of a row with its scopes filled in."""
    scope, group = daemon.workspace_id(*SCOPE), "/subscriptions/s/resourceGroups/tests"
    scope += "-gone" if path == "/{workspace}" else ""  # the one that gets deleted
    text = path.replace("/{workspace}", scope).replace("/{group}", group)
    return text.replace("/{subscription}", "/subscriptions/s").replace("/*/", "/vaults/")


ROWS = [(verb, filled(path)) for verbs, path, _ in coverage.requests() for verb in verbs.split()]


@st.composite
def urls(draw, path):
    def part(match):
        known = tuple(match[1].split(",")) if "," in match[1] else KNOWN.get(match[1], ("x", "1"))
        anything = st.sampled_from(ODD) | st.text(min_size=1, max_size=20).map(
            lambda text: quote(text, safe="", errors="replace")
        )
        return draw(st.sampled_from(known) if draw(st.integers(0, 4)) else anything)

    query = draw(
        st.dictionaries(st.sampled_from(QUERIES), st.sampled_from(VALUES) | st.text(), max_size=3)
    )
    encoded = urlencode(query, errors="replace")
    return re.sub(r"\{([^}]*)\}", part, path) + (f"?{encoded}" if query else "")


def good_body(path):
    """What a client would send there."""
    path = path.partition("?")[0]
    for end, body in {**MLFLOW, **ASKED}.items():
        if path.endswith(end):
            return body
    kinds = [name for name in THERE if path.endswith(f"/{name}")]
    kinds += [name for name in THERE if f"/{name.split('/')[0]}/" in path]
    properties = THERE[kinds[0]] if kinds else {}
    return {"properties": {**COMMON, **properties}, **dict.fromkeys(BESIDE)}


@st.composite
def spoilt(draw, good):
    """A good body with some of it, at any depth, replaced by anything."""
    if isinstance(good, dict) and good and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(good)))
        changed = {**good, key: draw(spoilt(good[key]))}
        return draw(spoilt(changed)) if draw(st.booleans()) else changed
    return draw(json_values)


def harmless(document):
    """Jobs run what they say, so they say the same in every example."""
    properties = document.get("properties") if isinstance(document, dict) else None
    if isinstance(properties, dict) and isinstance(properties.get("command"), str):
        properties = {**properties, "command": "true"}
        return {**document, "properties": properties}
    return document


@st.composite
def requests_to(draw, verb, path):
    url = draw(urls(path))
    good = good_body(url)
    documents = st.just(good) if draw(st.booleans()) else spoilt(good)
    bodies = documents.map(harmless).map(lambda document: json.dumps(document).encode())
    return (
        verb if draw(st.integers(0, 19)) else draw(st.sampled_from(VERBS)),
        url,
        draw(bodies) if draw(st.integers(0, 4)) else draw(st.sampled_from(NO_JSON)),
        draw(
            st.dictionaries(st.sampled_from(sorted(HEADERS)), st.none(), max_size=2).flatmap(
                lambda some: st.fixed_dictionaries({k: st.sampled_from(HEADERS[k]) for k in some})
            )
        ),
    )


class Daemon:
    """A daemon of its own, asked over one connection, byte for byte as written."""

    def __init__(self, home):
        self.address = daemon.ensure(home)
        parts = urlsplit(self.address.url)
        self.host, self.port = parts.hostname, parts.port
        self.counts = Counter()
        self.connection = http.client.HTTPConnection(self.host, self.port, timeout=60)

    def ask(self, verb, url, body=b"", headers=None):
        headers = {"Authorization": f"Bearer {self.address.token}", **(headers or {})}
        try:
            answer = self._answer(verb, url, body, headers)
        except http.client.RemoteDisconnected:  # a connection that was idle for seconds: once more
            self.connection.close()
            answer = self._answer(verb, url, body, headers)
        return answer, answer.read()

    def _answer(self, verb, url, body, headers):
        self.connection.request(verb, url, body, headers)
        return self.connection.getresponse()

    def fill(self):
        """Have something of every kind there, under the names that the examples know."""
        scope = daemon.workspace_id(*SCOPE)
        self.ask("GET", scope)
        self.ask("PUT", f"/blob/{ACCOUNT}/azureml-blobstore-{GUID}/x", b"a model")
        for path, properties in THERE.items():
            self.ask("PUT", f"{scope}/{path}", json.dumps({"properties": properties}).encode())
        self.ask("PUT", f"/blob/{ACCOUNT}/c?restype=container")
        self.ask("PUT", f"/blob/{ACCOUNT}/c/x", b"0123456789")
        self.ask("PUT", f"/blob/{ACCOUNT}/azureml/ExperimentRun/dcid.x/x/y", b"0123456789")

    def last_words(self):
        return (self.address.home / "daemon.log").read_text()[-3000:]

    def is_alive(self):
        answer, _ = self.ask("GET", "/healthz")
        return answer.status == 200 and daemon.find(self.address.home) == self.address


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Daemon(tmp_path_factory.mktemp("odd home"))
    yield server
    server.connection.close()
    daemon.stop(server.address.home)


def check_refusal(verb, url, answer, body):
    """An error is in the words of the service that was asked."""
    where = url.partition("?")[0]
    if verb == "HEAD" or ("/computes/" in where and answer.status == 404):  # as the service does
        assert body == b"" or json.loads(body)["error"]["code"]
    elif where.startswith(("/blob/", "/dfs/", "/file/")):
        error = ET.fromstring(body.decode("utf-8-sig"))
        assert error.find("Code").text == answer.headers["x-ms-error-code"]
        assert error.find("Message").text
    elif where.startswith("/login/") and answer.status in (400, 401):
        assert {"error", "error_description"} <= json.loads(body).keys()
    elif where.startswith("/msi/") and answer.status == 401:
        assert json.loads(body)["statusCode"] == 401
    elif where.startswith("/mlflow/"):
        assert b"error" in body or b"<h1>" in body or b"<!doctype html>" in body
    else:
        error = json.loads(body)["error"]
        assert error["code"]
        assert error["message"]


@pytest.mark.parametrize(("verb", "path"), ROWS)
def test_odd_requests_are_refused_or_done(server, verb, path):
    @seed(random.getrandbits(32) if EXAMPLES else crc32(f"{verb} {path}".encode()))
    @EXPLORE
    @given(requests_to(verb, path))
    def run(request):
        verb, url, body, headers = request
        answer, content = server.ask(verb, url, body, headers)
        server.counts[answer.status] += 1
        assert answer.status < 500 or answer.status == 501, server.last_words()
        if answer.status >= 400:
            check_refusal(verb, url, answer, content)

    server.fill()
    run()
    assert server.is_alive()


def test_the_odd_requests_reached_what_they_were_for(server):
    """Most went past routing, and many were good enough to be done."""
    total, done = sum(server.counts.values()), sum(server.counts[status] for status in DONE)
    assert done > total / 4
    assert server.counts[501] < total / 4


GARBAGE = (
    *(
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"x" * 200_000,
    ),
    b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /\xc3\xa9?\xff=\xff HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"PUT /blob/a/b/c HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"PUT /blob/a/b/c HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 10_000 + b"Connection: close\r\n\r\n",
)


@pytest.mark.parametrize("sent", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_request_ends_only_its_own_connection(server, sent):
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        except OSError:  # the server has hung up
            answer = b""
    assert not answer or answer.split()[1] in (b"400", b"401", b"404", b"421", b"431")
    assert server.is_alive()
