"""Recorded exchanges with Azure ML as shapes: what was asked, and what an answer has to have.

A shape is JSON whose values are names of types (`str`, `int`, `bool`, `null` …) or, where the
service enumerates them, the value itself. A key `<str>` stands for names that are the user's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = "shared/contract_shapes.json"
ROOT = Path(__file__).parents[2]
PATH = next((up / FILE for up in ROOT.parents if (up / FILE).exists()), None)
SCOPE = "/subscriptions/{subscription}/resourceGroups/{resourceGroup}/providers/"
SHORT = {
    "/mferp/managementfrontend": "",  # the same, reached past ARM
    SCOPE + "Microsoft.MachineLearningServices/workspaces/{workspace}": "/WS",
    SCOPE + "Microsoft.MachineLearningServices/registries/{registrie}": "/REG",
}
# Maps whose keys are the user's: names of inputs, of nodes, of log files, of regions.
MAPS = {
    *("inputs", "outputs", "jobs", "tags", "environmentVariables", "flavors", "parameters"),
    *("Inputs", "Outputs", "Jobs", "Tags", "InputBindings", "OutputBindings", "inputData"),
    *("actionUris", "data", "dataReferences", "logFiles", "quotas", "registryFqdns", "values"),
    *("managedResourceGroupTags", "metadata", "userAssignedIdentities"),
}
TYPES = {"bool": False, "int": 1, "null": None, "number": 1.0}


class Exchange(NamedTuple):
    """One recorded exchange; `number` is its place in the file."""

    number: int
    method: str
    host: str
    url: str
    api_version: str | None
    status: int
    query: list[str]
    headers: list[str]
    request: Any
    response: Any

    @property
    def label(self) -> str:
        """How tables name it: whatever host and api-version, with the type of its job if any."""
        url = self.url
        for long, short in SHORT.items():
            url = url.replace(long, short)
        kinds = (of_job(self.request), of_job(self.response))
        kind = next((f" {kind}" for kind in kinds if kind), "")
        return f"{self.method} {url} {self.status}{kind}"

    def __str__(self) -> str:
        return f"{self.number} {self.label} {self.api_version or ''}".strip()


def of_job(shape: Any) -> str | None:
    """The type of the job that a shape describes."""
    properties = shape.get("properties") if isinstance(shape, dict) else None
    return properties.get("jobType") if isinstance(properties, dict) else None


def exchanges() -> list[Exchange]:
    """All recorded exchanges; none where the file is absent."""
    rows = json.loads(PATH.read_bytes())["exchanges"] if PATH else []
    return [
        Exchange(number, **{key: row[key] for key in Exchange._fields[1:]})
        for number, row in enumerate(rows)
    ]


def filled(shape: Any, values: dict[str, Any], key: str = "") -> Any:
    """A body of that shape: `values` by key, and any text for other text."""
    if isinstance(shape, dict):
        named = {"key" if name == "<str>" else name: item for name, item in shape.items()}
        return {name: filled(item, values, name) for name, item in named.items()}
    if isinstance(shape, list):
        return [filled(item, values, key) for item in shape]
    if key in values:
        return values[key]
    return "text" if shape == "str" else TYPES.get(shape, shape)


def lacks(exchange: Exchange, answer: Any) -> list[str]:
    """What the answer (of `requests`) lacks of the recorded one; [] when it has all of it."""
    if answer.status_code != exchange.status:
        return [f"status {answer.status_code}, not {exchange.status}: {answer.text[:300]}"]
    wanted = {*exchange.headers} - ({"content-type"} if exchange.response == "null" else set())
    absent = [f"header {name}" for name in sorted(wanted) if name not in answer.headers]
    return absent + _lacking_content(exchange.response, answer)


def _lacking_content(shape: Any, answer: Any) -> list[str]:
    if shape == "<bytes>":
        return [] if answer.content else ["content"]
    if shape == "<xml>" or shape == ["str"]:
        return [] if b"</" in answer.content else ["XML"]
    if not isinstance(shape, dict):
        return []
    body = answer.json()
    missing = paths(shape) - paths(body)
    return sorted(map(".".join, missing)) + _other_codes(shape, body)


def paths(value: Any, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every key in a body as a path; the keys of users' maps are `*`, an item of a list `[]`."""
    if isinstance(value, list):
        return set().union(*(paths(item, (*at, "[]")) for item in value))
    if not isinstance(value, dict):
        return set()
    found: set[tuple[str, ...]] = set()
    for key, item in value.items():
        is_free = key == "<str>" or (at and at[-1] in MAPS)
        here = (*at, "*" if is_free else key)
        found |= paths(item, here) | (set() if is_free else {here})
    return found


def _other_codes(shape: dict[str, Any], body: dict[str, Any]) -> list[str]:
    """Codes of errors decide which exception a client raises."""
    wanted, got = (list(_codes(one.get("error"))) for one in (shape, body))
    return [] if wanted == got[: len(wanted)] else [f"error codes {got}, not {wanted}"]


def _codes(error: Any) -> Any:
    if isinstance(error, dict) and error.get("code"):
        yield error["code"]
        for detail in error.get("details") or []:
            yield from _codes(detail)
