"""What one group of az ml does and others do not: one function calls what a row of ACTIONS says."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from aml_magics import client, settings
from aml_magics.assets import Asset, plain, run
from aml_magics.errors import BadCommand
from aml_magics.kinds import ACTIONS, Action
from aml_magics.records import Done, Fields, Secret
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

# Of what comes back with keys, the fields that are shown.
_OPEN = frozenset({"user_storage_resource_id", "app_insights_instrumentation_key_name"})


def act(
    session: Session,
    *,
    command: str,
    yes: bool = False,
    no_wait: bool = False,
    feature_store_name: str = "",
    **options: Any,
) -> Done | Fields | pd.DataFrame:
    """Do what a row of ACTIONS says.

    Args: feature_store_name: the one to look in instead of the session's workspace.
    Raises: BadCommand: ``yes`` is missing. NotFound: there is none of that name.
    """
    row = ACTIONS[command]
    group, _, verb = command.rpartition(" ")
    name = str(options.get("name") or options.get("rule") or session.name)
    if row.costs and not yes:
        raise BadCommand(f"'{command}' of '{name}' cannot be undone", hint="add --yes to do it")
    said = {row.words.get(key, key): value for key, value in options.items()} | dict(row.fixed)
    if row.in_workspace:
        said["workspace_name"] = session.name
    with client.calling(session, f"%aml {group} list", "", feature_store_name) as ml:
        found = run(getattr(ml, row.operations), (row.verb,), no_wait, **said)
        if row.gives == "rows":
            return _table(found)
    if row.gives == "done" or (no_wait and found is None):
        return Done(f"{verb}: asked for {name}" if no_wait else f"{group} {name}: {row.done}")
    return _record(row, group, name, plain(found or {}))


def _record(row: Action, group: str, name: str, data: dict[str, Any]) -> Fields:
    if row.gives == "asset":
        return Asset(group, {"name": name, **data})
    if row.gives == "secrets":
        data = {key: _masked(key, value) for key, value in data.items() if value}
        return Fields(f"keys of {group} {name}", data)
    return Fields(f"{group} {name}", data)


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _masked(inner, v) for inner, v in value.items() if v}
    return value if key in _OPEN else Secret(str(value))


def _table(found: Any) -> pd.DataFrame:
    import pandas as pd

    rows = [plain(one) for one in islice(found, settings.get("max_results"))]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")
