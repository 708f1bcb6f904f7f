"""Requests to try a model with: its input example, else a row made from its signature."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from aml_magics import models
from aml_magics.errors import AmlError
from aml_magics.session import Session

Body = dict[str, Any]
# A value of each of MLflow's types of columns; others get text.
VALUES: dict[str, Any] = {
    "boolean": False,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "datetime": "2000-01-01T00:00:00",
    "binary": "",
}
FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")  # of MLflow's own servers


class Example(NamedTuple):
    """A request and where it is from: `input example` or `signature`."""

    body: Body  # {"input_data": …}
    source: str


def of_model(session: Session, name: str, version: str) -> Example | None:
    """A request for a registered MLflow model; None for one that says nothing of its inputs.

    Raises: NotFound: no such model.
    """
    uri = f"models:/{name}/{version}"
    said = models.mlmodel(session, uri)
    if (said.get("saved_input_example_info") or {}).get("serving_input_path"):
        try:
            return Example(_saved(session, uri, said), "input example")
        except AmlError:  # named, but not among the files
            pass
    inputs = (said["signature"] or {}).get("inputs")
    return Example({"input_data": _made(json.loads(inputs))}, "signature") if inputs else None


def rows(body: Body) -> list[Body]:
    """A request of each row alone."""
    data = body["input_data"]
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        split = [{**data, "index": [0], "data": [row]} for row in data["data"]]
        return [{**body, "input_data": one} for one in split]
    many = isinstance(data, list) and all(isinstance(row, (list, dict)) for row in data)
    return [{**body, "input_data": [row]} for row in data] if many and data else [body]


def _saved(session: Session, uri: str, said: Body) -> Body:
    file = said["saved_input_example_info"]["serving_input_path"]
    with tempfile.TemporaryDirectory() as folder:
        path = models.fetched(session, f"{uri}/{file}", Path(folder))
        example = json.loads(path.read_text(encoding="utf-8"))
    form = next((form for form in FORMS if isinstance(example, dict) and form in example), "")
    if not form:
        return {"input_data": example}
    return {"input_data": example.pop(form), **example}


def _made(inputs: list[dict[str, Any]]) -> Any:
    """One row of the columns, or one tensor, that a signature asks for."""
    if inputs[0].get("type") == "tensor":
        tensors = {one.get("name"): _zeros(one["tensor-spec"]["shape"]) for one in inputs}
        return tensors.get(None) or tensors
    wanted = [one for one in inputs if one.get("required", True)]
    values = [_value(one) for one in wanted]
    if all("name" not in one for one in wanted):
        return [values]
    return {"columns": [one["name"] for one in wanted], "index": [0], "data": [values]}


def _value(column: dict[str, Any]) -> Any:
    """A value of a column's type, which may be a list or an object of others."""
    if column["type"] == "array":
        return [_value(column["items"])]
    if column["type"] == "object":
        return {name: _value(inner) for name, inner in column.get("properties", {}).items()}
    return VALUES.get(column["type"], "a")


def _zeros(shape: list[int]) -> Any:
    """Zeros of a shape; a length that is free is 1."""
    if not shape:
        return 0
    return [_zeros(shape[1:]) for _ in range(max(1, shape[0]))]
