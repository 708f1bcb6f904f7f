"""Results as the formats of ``-O``, queried by ``--query``; which of them are shown live."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from aml_magics import settings
from aml_magics.errors import BadCommand
from aml_magics.records import Secret, Text, brief, exact

LIVE = {  # what is shown live, and by what
    ("aml_magics.comparison", "Comparison"): "forms:show_comparison",
    ("aml_magics.endpoints", "Endpoint"): "forms:show_endpoint",
    ("aml_magics.jobs", "Job"): "live:show_job",
}


def offer(shell: Any) -> None:
    """Show results live where somebody looks on, else as what they are."""
    formatter = shell.display_formatter.ipython_display_formatter
    live = looked_at(shell)
    for (module, name), function in LIVE.items():
        if live:
            formatter.for_type_by_name(module, name, partial(_show, function))
        else:
            formatter.pop(f"{module}.{name}", None)


def looked_at(shell: Any) -> bool:
    """Whether a front end that can show widgets is likely there.

    Programs that execute notebooks tell the kernel that nobody can be asked for input; front ends
    that people use tell the contrary.
    """
    choice = settings.get("widgets")
    if choice in {"always", "never"}:
        return bool(choice == "always")
    kernel = getattr(shell, "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False)) and not os.environ.get("CI")


def _show(function: str, result: Any) -> None:
    module, _, name = function.partition(":")
    getattr(import_module(f"aml_magics.{module}"), name)(result)


def shaped(result: Any, query: str = "", form: str = "") -> Any:
    """A result after ``--query`` and in the format of ``-O``.

    Returns: the result itself when neither is given; plain data for a query alone; a Text for a
        format.
    Raises: BadCommand: the query does not parse.
    """
    if not query and not form:
        return result
    data = plain_data(result)
    if query:
        data = _queried(data, query)
    return Text(FORMATS[form](data)) if form else data


def plain_data(result: Any) -> Any:
    """A result as dicts, lists and scalars; secrets stay masked."""
    if hasattr(result, "to_dict") and hasattr(result, "columns"):  # a DataFrame
        return plain_data(exact(result).to_dict("records"))
    if isinstance(result, Mapping):
        return {str(key): plain_data(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [plain_data(value) for value in result]
    return _plain_value(result)


def _plain_value(value: Any) -> Any:
    if isinstance(value, Secret):
        return repr(value)
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
        return None
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if hasattr(value, "isoformat"):  # a time
        return value.isoformat()
    if hasattr(value, "tolist"):  # of NumPy
        return plain_data(value.tolist())
    data = getattr(value, "data", None)
    return plain_data(data if data is not None else dict(value._rows()))


def _queried(data: Any, query: str) -> Any:
    import jmespath

    try:
        return jmespath.search(query, data)
    except jmespath.exceptions.JMESPathError as exc:
        first = str(exc).splitlines()[0]
        raise BadCommand(f"--query: {first}", hint="see https://jmespath.org") from exc


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, default=str)


def _yaml(data: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False)
    return text.removesuffix("...\n").rstrip()  # the mark that ends a lone scalar


def _table(data: Any) -> str:
    import pandas as pd

    return pd.DataFrame(_records(data)).to_string(index=False)


def _tsv(data: Any) -> str:
    rows = _records(data)
    return "\n".join("\t".join(str(value) for value in row.values()) for row in rows)


def _records(data: Any) -> list[dict[str, Any]]:
    """Rows for a table: nested values in one line each."""
    rows = data if isinstance(data, list) else [data]
    rows = [row if isinstance(row, dict) else {"value": row} for row in rows]
    return [{key: brief(value) for key, value in row.items()} for row in rows]


FORMATS = {"json": _json, "yaml": _yaml, "table": _table, "tsv": _tsv}
