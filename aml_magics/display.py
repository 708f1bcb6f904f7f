"""Results as the formats of ``-O``, queried by ``--query``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aml_magics.errors import BadCommand
from aml_magics.records import Secret, Text, brief


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
        return json.loads(result.to_json(orient="records"))
    if isinstance(result, Secret):
        return repr(result)
    if isinstance(result, Mapping):
        return {str(key): plain_data(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [plain_data(value) for value in result]
    if isinstance(result, (str, int, float, bool, type(None))):
        return result
    data = getattr(result, "data", None)
    return plain_data(data if data is not None else dict(result._rows()))


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
