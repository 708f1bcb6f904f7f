"""The environments that have been built in a home: what they hold, and when they were used."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

COMPLETE = "complete"  # the file that names the finished build of an environment's folder
SHOWN = 60  # characters of what an environment was asked for


class Build(NamedTuple):
    """One environment. `days` since it was last used; `size_mb` with what others share with it."""

    folder: Path
    days: int
    size_mb: int
    asked: str

    def __str__(self) -> str:
        asked = self.asked if len(self.asked) <= SHOWN else self.asked[: SHOWN - 1] + "…"
        return f"{self.folder.name}  {self.days:4} days  {self.size_mb:6} MB  {asked}"


def built(home: Path) -> list[Build]:
    """The environments of a home, the one used last first."""
    folders = (place.parent for place in (home / "environments").glob(f"*/{COMPLETE}"))
    return sorted((_build(folder) for folder in folders), key=lambda build: build.days)


def _build(folder: Path) -> Build:
    mark = folder / COMPLETE
    files = [file.lstat() for file in folder.rglob("*") if not file.is_dir()]
    listed = folder / mark.read_text() / "requirements.txt"
    asked = ", ".join(listed.read_text("utf-8").split("\n")[:-1]) if listed.exists() else ""
    days = int((time.time() - mark.stat().st_mtime) // 86400)
    return Build(folder, days, sum(file.st_size for file in files) >> 20, asked)
