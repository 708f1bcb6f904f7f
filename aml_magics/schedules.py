"""Schedules: list, enable, disable, fire by hand. What assets do too is in assets."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from aml_magics import client, settings
from aml_magics.assets import Asset, plain
from aml_magics.kinds import KINDS
from aml_magics.records import Done, Fields
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

LIST = "%aml schedule list"


def list_(
    session: Session,
    *,
    max_results: int = 0,
    disabled_only: bool = False,
    include_disabled: bool = False,
) -> pd.DataFrame:
    """Schedules as a DataFrame: those that are enabled, unless told."""
    import pandas as pd

    view = "All" if include_disabled else "DisabledOnly" if disabled_only else "EnabledOnly"
    limit = max_results or settings.get("max_results")
    with client.calling(session) as ml:
        found = islice(ml.schedules.list(list_view_type=view), limit)
        rows = [{**plain(one), "trigger": when(plain(one)["trigger"])} for one in found]
    return pd.DataFrame(rows, columns=list(KINDS["schedule"].columns))


def when(trigger: dict[str, object]) -> str:
    """A trigger in a few words: `cron 0 4 * * *`, `every 2 week`."""
    if trigger.get("expression"):
        what = f"cron {trigger['expression']}"
    else:
        what = f"every {trigger.get('interval')} {trigger.get('frequency')}"
    zone = trigger.get("time_zone") or "UTC"
    return what if zone == "UTC" else f"{what} ({zone})"


def enable(session: Session, *, name: str, no_wait: bool = False) -> Asset | Done:
    """Let a schedule fire."""
    return _switch(session, "enable", name, no_wait)


def disable(session: Session, *, name: str, no_wait: bool = False) -> Asset | Done:
    """Keep a schedule from firing; the jobs it has made go on."""
    return _switch(session, "disable", name, no_wait)


def trigger(session: Session, *, name: str) -> Fields:
    """Make a schedule's job now; `job_name` of what comes back is that job's.

    Raises: NotFound: there is no such schedule. Refused: its action is not run here.
    """
    with client.calling(session, hint=LIST) as ml:
        made = ml.schedules.trigger(name)
    return Fields(f"schedule {name} triggered", made._to_dict())


def _switch(session: Session, verb: str, name: str, no_wait: bool) -> Asset | Done:
    with client.calling(session, hint=LIST) as ml:
        poller = getattr(ml.schedules, f"begin_{verb}")(name)
        if no_wait:
            return Done(f"{verb[:-1]}ing schedule {name}")
        return Asset("schedule", plain(poller.result()))
