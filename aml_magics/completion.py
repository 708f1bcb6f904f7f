"""Completion of ``%aml``: commands, flags, choices, files, and live names."""

from __future__ import annotations

import re
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

from aml_magics import session as sessions
from aml_magics.commands import (
    CELLS,
    SHARED,
    Command,
    Flag,
    commands,
    flags_of,
    groups,
    parse_flags,
)
from aml_magics.errors import AmlError
from aml_magics.session import Session

LINE = re.compile(r"^\s*(?:%%aml|(?:[\w.,\s]+=\s*)?%aml)\s(.*)$", re.DOTALL)
PATH_FLAGS = frozenset({"--file", "--path", "--request-file", "--download-path", "--conda-file"})
# Flag or bare word → ARM collection whose names it takes.
COLLECTIONS = {
    "job": "jobs",
    "data": "data",
    "model": "models",
    "environment": "environments",
    "component": "components",
    "compute": "computes",
    "datastore": "datastores",
    "online-endpoint": "onlineEndpoints",
    "batch-endpoint": "batchEndpoints",
    "connection": "connections",
    "feature-set": "featuresets",
    "feature-store-entity": "featurestoreEntities",
    "marketplace-subscription": "marketplaceSubscriptions",
    "schedule": "schedules",
    "serverless-endpoint": "serverlessEndpoints",
    "endpoint": "onlineEndpoints",
    "endpoint_name": "onlineEndpoints",
    "source": "jobs",
}
OF_ENDPOINT = {"deployment": "", "shares": "=", "mirror": "="}  # → what follows a name
FRESH_SECONDS = 10.0
WAIT_SECONDS = 0.2  # a near workspace has answered by then; front ends give up after 1
NAMES = 100  # at most so many of a collection


def complete(line: str, cursor: int) -> tuple[str, list[str]] | None:
    """What can follow in a line of ``%aml``.

    Returns: the word being typed and what it can become; None for a line that is not ours.
    """
    match = LINE.match(line[:cursor])
    if not match:
        return None
    *before, word = re.split(r"\s+", match.group(1).lstrip())
    cells = CELLS if not before and line.lstrip().startswith("%%") else ()
    found = {text for text in (*_candidates(before, word), *cells) if text.startswith(word)}
    return word, sorted(found)


def _candidates(before: list[str], word: str) -> list[str]:
    command = _command([*before, word] if before == ["job"] else before)
    if command is None:
        return _next_words(before)
    flags = (*flags_of(command), *parse_flags(SHARED))
    last = next((f for f in flags if before and before[-1] in f.names), None)
    if last is not None and last.kind in {"value", "many"}:
        return _values(command, last, word, before)
    names = _names(command, _bare(command, before), before) if command.words else []
    if names and not word.startswith("-"):
        return names
    return sorted(name for flag in flags for name in flag.names if name.startswith("--"))


def _command(before: list[str]) -> Command | None:
    sizes = (size for size in (3, 2, 1) if " ".join(before[:size]) in commands())
    size = next(sizes, 0)
    name = " ".join(before[:size]) if size else "job create" if _is_cell_job(before) else ""
    command = commands().get(name)
    return command if command and command.target else None


def _is_cell_job(before: list[str]) -> bool:
    """Whether the words are a job's that is in the cell: of a group's other words, flags only."""
    if not before or before[0] not in CELLS:
        return False
    return before[0] not in groups() or (len(before) > 1 and before[1].startswith("-"))


def _next_words(before: list[str]) -> list[str]:
    """Commands and groups, or a group's verbs."""
    if not before:
        return sorted({name.partition(" ")[0] for name in commands()})
    verbs = groups().get(before[0], [])
    typed = " ".join(before[1:])
    rest = [verb[len(typed) :].lstrip() for verb in verbs if verb.startswith(typed)]
    return sorted({verb.partition(" ")[0] for verb in rest})


def _bare(command: Command, before: list[str]) -> str:
    """The parameter that a bare word fills next."""
    rest = before[len(command.name.split()) :]
    words = [word.rstrip("+=") for word in command.words]
    is_first = not rest or rest[0].startswith("-")
    return words[0] if is_first or len(words) == 1 else words[1]


def _values(command: Command, flag: Flag, word: str, before: list[str]) -> list[str]:
    if flag.choices:
        return list(flag.choices)
    if flag.names[0] in PATH_FLAGS:
        return _files(word)
    return _names(command, flag.key, before)


def _files(word: str) -> list[str]:
    """Files and folders that a path can become."""
    folder = word[: word.rfind("/") + 1]
    try:
        found = sorted(Path(folder).expanduser().iterdir())
    except OSError:
        return []
    return [f"{folder}{path.name}{'/' if path.is_dir() else ''}" for path in found]


def _names(command: Command, key: str, before: list[str]) -> list[str]:
    """Names in the workspace that a parameter takes."""
    group = command.name.partition(" ")[0]
    if key in OF_ENDPOINT and group != "batch":
        return [f"{name}{OF_ENDPOINT[key]}" for name in _deployments(command, before)]
    if group == "batch" and key == "endpoint":
        group, key = "batch-endpoint", "name"
    if command.name in {"job create", "register"} and key == "name":
        return []  # a new name
    if group == "batch-deployment" and key == "endpoint_name":
        group, key = "batch-endpoint", "name"
    place = COLLECTIONS.get(group if key == "name" else key)
    session = sessions.active()
    return live_names(session, place) if place and session else []


def _deployments(command: Command, before: list[str]) -> list[str]:
    """Deployments of the endpoint that the line names."""
    session, rest = sessions.active(), before[len(command.name.split()) :]
    flags = [
        word for word, flag in zip(rest[1:], rest, strict=False) if flag in {"-e", "--endpoint"}
    ]
    named = flags if command.words[:1] != ("endpoint",) else rest
    place = f"onlineEndpoints/{named[0]}/deployments" if named else ""
    return live_names(session, place) if session and place else []


def live_names(session: Session, collection: str) -> list[str]:
    """Names in the workspace; a far one answers in the background, for the next time."""
    cached = session.cache.setdefault(f"names {collection}", {"at": 0.0, "names": []})
    if time.monotonic() - cached["at"] > FRESH_SECONDS:
        cached["at"] = time.monotonic()
        asking = threading.Thread(target=_refresh, args=(session, collection, cached), daemon=True)
        asking.start()
        asking.join(WAIT_SECONDS)
    names: list[str] = cached["names"]
    return names


def outdate(session: Session) -> None:
    """Have names asked for anew: a command may have made or removed some."""
    for key, cached in session.cache.items():
        if key.startswith("names "):
            cached["at"] = 0.0


def _refresh(session: Session, collection: str, cached: dict[str, Any]) -> None:
    from aml_magics import rest

    try:
        found = islice(rest.pages(session, f"/{collection}"), NAMES)
        cached["names"] = [item["name"] for item in found]
    except AmlError:
        cached["names"] = []
