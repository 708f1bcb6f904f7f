"""What the fields of a job may be, whatever its type: refused before anything of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import isodate

from aml_magics.local.store import Body
from aml_magics.local.wire import bad_request

MAPPINGS = (
    *("distribution", "environmentVariables", "inputs", "limits", "outputs", "properties"),
    *("queueSettings", "resources", "services", "settings", "tags"),
)


def check(asked: Body) -> None:
    """Refuse fields of a wrong type.

    Raises: ArmError 400.
    """
    for field in MAPPINGS:
        if not isinstance(asked.get(field) or {}, dict):
            raise bad_request(f"The {field} of a job are a mapping.")
    for name, given in (asked.get("inputs") or {}).items():
        _check_input(name, given)
    for name, given in (asked.get("outputs") or {}).items():
        if not isinstance(given or {}, dict):
            raise bad_request(f"The output {name} of the job is a mapping.")
        _check_text(f"output {name}", given or {}, ("uri", "jobOutputType", "assetName"))
    for path, is_one, words in _VALUES:
        holder, _, field = path.partition(".")
        value = (asked.get(holder) or {}).get(field)
        if value is not None and not is_one(value):
            raise bad_request(f"The {path} of a job is {words}, not {str(value)[:80]}.")


def _check_input(name: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, dict) or not isinstance(given.get("jobInputType"), str):
        raise bad_request(f"The input {name} of the job has no jobInputType.")
    needed = "value" if given["jobInputType"] == "literal" else "uri"
    if given.get(needed) is None:
        raise bad_request(f"The input {name} of the job has no {needed}.")
    _check_text(f"input {name}", given, ("uri",))


def _check_text(what: str, given: Body, fields: tuple[str, ...]) -> None:
    for field in fields:
        if not isinstance(given.get(field) or "", str):
            raise bad_request(f"The {field} of {what} of the job is text.")


def _is_count(value: Any) -> bool:
    return str(value).isdecimal() and 0 < int(value) < 1_000_000


def _is_duration(value: Any) -> bool:
    try:
        isodate.parse_duration(value)
    except (TypeError, ValueError, isodate.ISO8601Error):
        return False
    return True


# Field, what it must be, in words.
_VALUES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("limits.timeout", _is_duration, "an ISO 8601 duration"),
    ("queueSettings.priority", _is_count, "a whole number: 1 low, 2 medium, 3 high"),
    ("resources.instanceCount", _is_count, "a whole number above 0"),
    ("distribution.processCountPerInstance", _is_count, "a whole number above 0"),
    ("distribution.workerCount", _is_count, "a whole number above 0"),
    ("distribution.parameterServerCount", lambda v: str(v).isdecimal(), "a whole number"),
)
