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
    (
        r"In order to specify an existing \w+, please provide either.*",
        "expected azureml:NAME[:VERSION]",
    ),
    (r"In order to specify an existing .*registry path.*", ""),
    (r"In order to specify a git path.*", ""),
    (r"\w+ schema data cannot be a string", ""),
    (r"Not a valid (URL|mapping type)\.", ""),
    (
        r"Can't find directory or file in resolved absolute path: (.*)",
        r"no such file or folder: \1",
    ),
    (r"Missing data for required field\.", "missing"),
    (r"Not a valid string\.", "not a string"),
    (r"Unknown field\.", "unknown field"),
    (r"Value (.*) passed is not in set (.*)", r"\1 is not one of \2"),
)


def summary(text: str) -> str:
    """One line per field at fault, at most four; its first line when it holds no document."""
    found: dict[str, list[str]] = {}
    for path, problem in _problems(_document(text)):
        if problem and problem not in found.setdefault(path, []):
            found[path].append(problem)
    lines = [f"{path or 'file'}: {' or '.join(problems)}" for path, problems in found.items()]
    if not lines:
        return _relative(text.strip().splitlines()[0] if text.strip() else "invalid")
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(lines[:SHOWN] + more)


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
            yield from _problems(value, _join(path, key))


def _join(path: str, key: str) -> str:
    if key in {"_schema", "*", ""}:
        return path
    return f"{path}.{key}" if path else key


def _shorter(text: str) -> str:
    for pattern, replacement in _SHORTER:
        if re.match(pattern, text, re.DOTALL):
            text = re.sub(pattern, replacement, text, count=1, flags=re.DOTALL)
    return _relative(text.strip().splitlines()[0]) if text.strip() else ""


def _relative(text: str) -> str:
    """Without this machine's folders: an error is stored in the notebook."""
    return text.replace(f"{Path.cwd()}/", "")
