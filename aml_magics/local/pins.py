"""Lines of a requirements file whose versions are fixed, and how they are let go.

A file that was written for another Python often fixes versions that have no wheel for this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


class Pin(NamedTuple):
    """A package at a fixed version: `version` is the lowest that was meant."""

    name: str
    version: str
    line: Requirement

    def at_least(self, version: str = "") -> str:
        """The line with every later version allowed too."""
        return self._with(f">={version or self.version}")

    def at(self, version: str) -> str:
        """The line with another version; its own where that one was meant."""
        if self.line.specifier.contains(version, prereleases=True):
            return str(self.line)
        return self._with(f"=={version}")

    def _with(self, specifier: str) -> str:
        extras = f"[{','.join(sorted(self.line.extras))}]" if self.line.extras else ""
        marker = f" ; {self.line.marker}" if self.line.marker else ""
        return f"{self.line.name}{extras}{specifier}{marker}"


def pins(lines: Iterable[str]) -> dict[str, Pin]:
    """The lines that fix a version, by line: `==1.2`, `==1.2.*`, `~=1.2` or one with a cap."""
    return {line: pin for line in lines if (pin := _pin(line))}


def _pin(line: str) -> Pin | None:
    try:
        asked = Requirement(line)
    except InvalidRequirement:
        return None
    versions = [one.version for one in asked.specifier if one.operator in ("==", "~=", "===")]
    versions = versions or [one.version for one in asked.specifier if one.operator in (">", ">=")]
    is_open = all(one.operator in (">", ">=", "!=") for one in asked.specifier)
    if asked.url or is_open or not versions:
        return None
    return Pin(canonicalize_name(asked.name), versions[0].removesuffix(".*"), asked)


def locked(text: str) -> dict[str, str]:
    """Versions by package, of a file that fixes them all as `name==version`."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def changed(lines: Iterable[str], new: Mapping[str, str]) -> list[str]:
    """What to tell of lines that were changed: `numpy==1.21.2 → numpy==1.23.2`."""
    return [f"{line} → {new[line]}" for line in lines if new.get(line, line) != line]
