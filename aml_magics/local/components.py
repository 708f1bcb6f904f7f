"""Components: what the service makes of a specification before it keeps it."""

from __future__ import annotations

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError, Call, bad_request

ANONYMOUS = "azureml_anonymous"
FLOW = "promptflow_parallel"
EDITABLE = {"$schema", "_source", "description", "display_name", "name", "tags", "version"}


def identify(call: Call, properties: Body) -> str:
    """The version of a component: a guid of its content when it has no name."""
    if call.path["name"].lower() != ANONYMOUS:
        return call.path["version"]
    content = json.dumps(properties.get("componentSpec"), sort_keys=True)
    return str(uuid5(NAMESPACE_URL, f"{call.workspace.id.lower()}/{content}"))


def complete(call: Call, version: str, properties: Body) -> None:
    """Write the specification as the service does: every scalar as text.

    Raises: ArmError 400: it is none, or changes what an existing version is.
    """
    spec = properties.get("componentSpec")
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        raise bad_request("The component has no componentSpec with a type.")
    if spec["type"] == FLOW:  # the service would make a parallel component of it
        raise ArmError(501, "NotImplemented", "The local workspace does not run prompt flows.")
    own: Body = {"is_deterministic": True}
    named = {} if call.path["name"].lower() == ANONYMOUS else {"name": call.path["name"]}
    if spec["type"] == "command":
        own["resources"] = {"instance_count": 1}
    properties["componentSpec"] = _spelled(_as_text({**own, **spec, **named, "version": version}))
    _check_unchanged(call, properties["componentSpec"])


def _check_unchanged(call: Call, spec: Body) -> None:
    old = call.local.store.get(call.arm_id)
    if old is None:
        return
    before = old.properties["componentSpec"]
    for field in sorted({*spec, *before} - EDITABLE):
        if spec.get(field) != before.get(field):
            raise bad_request(
                f'Failed to update component {call.path["name"]} since field "{field}" is '
                "immutable, try specifying a new version."
            )


def _spelled(spec: Body) -> Body:
    """Clients write intellectualProperty, the service shows intellectual_property."""
    given = spec.pop("intellectualProperty", None)
    if not isinstance(given, dict):
        return spec
    names = {"protectionLevel": "protection_level"}
    return {**spec, "intellectual_property": {names.get(k, k): v for k, v in given.items()}}


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value if isinstance(value, str) else str(value)
