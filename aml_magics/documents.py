"""YAML documents and the changes that flags make to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_magics.errors import BadCommand, BadInput


def read(file: str) -> str:
    """The text of a YAML file.

    Raises: BadInput: there is no such file.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"no such file: {file}", hint=_nearby(path))
    return path.read_text(encoding="utf-8")


def assignments(words: list[str] | None, flag: str) -> dict[str, Any]:
    """``a.b=c`` words as changes by path; a value in braces or brackets is JSON, others are text.

    Raises: BadCommand: a word without ``=``, or JSON that does not parse.
    """
    changes: dict[str, Any] = {}
    for word in words or []:
        path, equals, text = str(word).partition("=")
        if not equals or not path:
            raise BadCommand(f"{flag} cannot read '{word}'", hint=f"{flag} PATH=VALUE")
        changes[path] = _value(text, flag)
    return changes


def below(parent: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as changes below one field; a dot in a key is escaped, for it is no step."""
    return {".".join([parent, key.replace(".", r"\.")]): value for key, value in values.items()}


def steps(path: str) -> list[str]:
    """The keys a path leads through."""
    return [step.replace(r"\.", ".") for step in re.split(r"(?<!\\)\.", path)]


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes by dotted path as one tree."""
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        *parents, leaf = steps(path)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _value(text: str, flag: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as exc:
        raise BadCommand(f"{flag}: not JSON: {text}", hint="""quote it: '{"a": 1}'""") from exc


def _nearby(path: Path) -> str:
    """What could have been meant by a path that does not exist."""
    folder = path.parent
    if not folder.is_dir():
        return f"no folder '{folder}' either"
    found = sorted(p.name for p in folder.iterdir() if p.suffix in {".yml", ".yaml", ".json"})
    return f"here are: {', '.join(found[:5])}" if found else "no YAML file in that folder"
