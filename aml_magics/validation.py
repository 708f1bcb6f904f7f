"""The SDK's schema errors, several nested JSON documents long, as one short line per field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHOWN = 3  # fields named in a message; the rest is counted

# What the SDK's sentences say, in fewer words; an empty text drops the sentence.
_SHORTER = (
    (r"In order to specify an existing \w+, please provide either.*", "expected azureml:NAME"),
    (r"In order to specify an existing .*registry path.*", ""),
    (r"In order to specify a git path.*", ""),
    (r"\w+ schema data cannot be a string", ""),
    (r"Not a valid (URL|mapping type)\.", ""),
    (r"Can't find directory or file in resolved absolute path: (.*?)\.?$", r"no such file: \1"),
    (r"No such file or directory: (.*)", r"no such file: \1"),
    (r"File path does not match asset type (\w+): (.*)", r"no such \1: \2"),
    (r"Missing data for required field\.", "missing"),
    (r"Not a valid string\.", "not a string"),
    (r"Unknown field\.", "unknown field"),
)
_CHOICE = re.compile(r"Value '?(.*?)'? passed is not in set \[(.*)\]")
_LINK = re.compile(r"https://aka\.ms/ml-cli-v2[\w-]*")
# Steps the SDK takes into a union of schemas, which no YAML has.
_UNION_STEPS = frozenset({"_schema", "*", "", "value", "null", "None"})


def summary(text: str) -> str:
    """One line per field at fault, at most four; its first line when it holds no document."""
    found: dict[str, list[str]] = {}
    for path, problem in _problems(_document(text)):
        if problem and problem not in found.setdefault(path, []):
            found[path].append(problem)
    lines = [f"{path or 'file'}: {_joined(found[path])}" for path in _telling(found)]
    if not lines:
        return _relative(text.strip().splitlines()[0] if text.strip() else "invalid")
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


def reference(text: str) -> str:
    """A hint with the page of the schema that an error names, or what there is to do."""
    link = _LINK.search(text)
    return f"its fields: {link.group()}" if link else "correct it and run the cell again"


def _telling(found: dict[str, list[str]]) -> list[str]:
    """Paths to name: below a wrong choice, what the other choices miss says nothing."""
    wrong = [path for path, problems in found.items() if any(map(_CHOICE.match, problems))]
    parents = {path.rpartition(".")[0] for path in wrong} - {""}
    return [
        path
        for path, problems in found.items()
        if problems
        and (path in wrong or not any(path == p or path.startswith(f"{p}.") for p in parents))
    ]


def _joined(problems: list[str]) -> str:
    """Alternatives as one sentence, the choices of a field in one list."""
    choices = [match for match in map(_CHOICE.match, problems) if match]
    if not choices:
        return " or ".join(problems)
    allowed = ", ".join(match.group(2).replace("'", "") for match in choices)
    return f"'{choices[0].group(1)}' is not one of {allowed}"


def _document(text: str) -> Any:
    """The first JSON object within a text, or None."""
    start = text.find("{")
    try:
        return json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else None
    except ValueError:
        return None


def _problems(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Walk a document to (path of the field, what is wrong with it)."""
    if isinstance(node, str):
        inner = _document(node) if "Validation for" in node else None
        yield from _problems(inner, path) if inner else [(path, _shorter(node))]
    elif isinstance(node, list):
        for item in node:
            yield from _problems(item, path)
    elif isinstance(node, dict) and "errors" in node:
        for error in node["errors"]:
            yield from _problems(error["message"], _join(path, str(error.get("path", ""))))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _problems(value, _join(path, str(key)))


def _join(path: str, key: str) -> str:
    if key in _UNION_STEPS:
        return path
    return f"{path}.{key}" if path else key


def _shorter(text: str) -> str:
    for pattern, replacement in _SHORTER:
        text = re.sub(rf"^{pattern}", replacement, text, count=1, flags=re.DOTALL)
    return _relative(text.strip().splitlines()[0]) if text.strip() else ""


def _relative(text: str) -> str:
    """Without this machine's folders: an error is stored in the notebook."""
    return text.replace(f"{Path.cwd()}/", "")
