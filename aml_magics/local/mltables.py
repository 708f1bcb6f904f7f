"""MLTables as inputs of jobs: a folder whose MLTable file names only what is on this machine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import yaml

from aml_magics.local import external
from aml_magics.local.store import Body
from aml_magics.local.wire import Workspace, bad_request

if TYPE_CHECKING:
    from aml_magics.local.app import Local

NAME = "MLTable"
_WILD = re.compile(r"[*?\[]")


def place(local: Local, ws: Workspace, folder: Path, to: Path) -> None:
    """Put a table at `to`: a link to its folder, or a like folder whose MLTable is written anew.

    The latter when it names data by a URI: that is found, or fetched, and named by its path.

    Raises: ArmError 400: the folder has no MLTable, or names data that cannot be had.
    """
    spec = _read(folder)
    entries = [entry for entry in spec.get("paths") or [] if isinstance(entry, dict)]
    if not any("://" in str(text) for entry in entries for text in entry.values()):
        to.symlink_to(folder)
        return
    to.mkdir()
    for child in folder.iterdir():
        if child.name != NAME:
            (to / child.name).symlink_to(child)
    named = [{k: _local(local, ws, str(text)) for k, text in entry.items()} for entry in entries]
    (to / NAME).write_text(yaml.safe_dump({**spec, "paths": named}, sort_keys=False), "utf-8")


def _read(folder: Path) -> Body:
    file = folder / NAME
    if not file.is_file():
        raise bad_request(f"The folder {folder.name} is an mltable, but has no file MLTable.")
    try:
        spec = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise bad_request(f"The MLTable of {folder.name} is not YAML: {exc}") from exc
    return spec if isinstance(spec, dict) else {}


def _local(local: Local, ws: Workspace, text: str) -> str:
    """The path that a URI stands for, wildcards kept; what is relative stays so."""
    if "://" not in text or text.startswith("file://"):
        return text
    scheme, _, rest = text.partition("://")
    parts = PurePosixPath(rest).parts
    fixed = next((at for at, part in enumerate(parts) if _WILD.search(part)), len(parts))
    base = external.local_path(local, ws, f"{scheme}://{'/'.join(parts[:fixed])}")
    return str(base.joinpath(*parts[fixed:]))
