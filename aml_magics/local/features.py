"""The features of a feature set, read from the specification that was uploaded with it."""

from __future__ import annotations

from typing import Any

import yaml
from starlette.responses import JSONResponse, Response

from aml_magics.local import arm, uris
from aml_magics.local.store import Body
from aml_magics.local.wire import PROVIDER, Call, bad_request, not_found

SPECIFICATION = "FeatureSetSpec.yaml"


def list_(call: Call) -> Response:
    """All features, or those that `featureName`, `description` or `tags` (`a,b=c`) name."""
    return JSONResponse({"value": [row for row in _features(call) if _is_asked_for(call, row)]})


def get(call: Call) -> Response:
    name = call.path["feature"]
    found = next((row for row in _features(call) if row["name"] == name), None)
    if found is None:
        raise not_found(f"Feature {name} not found.")
    return JSONResponse(found)


def _is_asked_for(call: Call, row: Body) -> bool:
    query, about = call.query, row["properties"]
    pairs = [pair.partition("=") for pair in filter(None, query.get("tags", "").split(","))]
    return (
        query.get("featurename", row["name"]) == row["name"]
        and query.get("description", "") in (about["description"] or "")
        and all(
            name in about["tags"] and (not equals or str(about["tags"][name]) == value)
            for name, equals, value in pairs
        )
    )


def _features(call: Call) -> list[Body]:
    """The features as ARM shows them.

    Raises: ArmError 404: the feature set or its specification is not there; 400: that is none.
    """
    id_ = f"{call.workspace.id}/featuresets/{call.path['name']}/versions/{call.path['version']}"
    row = arm.found(call, id_, f"Featureset {call.path['name']} not found.")
    place = str((row.properties["specification"] or {}).get("path") or "")
    folder = uris.local_path(call.local, call.workspace, place)
    path = folder if folder.is_file() else folder / SPECIFICATION
    if not path.is_file():
        raise not_found(f"There is no {SPECIFICATION} at {place}.")
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        return [_shown(id_, feature) for feature in document["features"]]
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as exc:
        raise bad_request(f"{SPECIFICATION} at {place} lists no features.") from exc


def _shown(parent: str, feature: Any) -> Body:
    name = str(feature["name"])
    about = {
        "featureName": name,
        "dataType": str(feature["type"]).capitalize(),
        "description": feature.get("description"),
        "tags": feature.get("tags") or {},
        "properties": {},
        "isArchived": False,
    }
    kind = f"{PROVIDER}/workspaces/featuresets/versions/features"
    return {"id": f"{parent}/features/{name}", "name": name, "type": kind, "properties": about}
