"""When a schedule's trigger fires: pure functions of the trigger and a time.

A trigger is what ARM has: `triggerType` Cron (`expression`) or Recurrence (`frequency`,
`interval`, `schedule` with `hours`, `minutes`, `weekDays`, `monthDays`), each with `startTime`,
`endTime` and `timeZone`, by whose clock all of them are read.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from dateutil import rrule

from aml_magics.local.store import Body

_INSTANT = timedelta(microseconds=1)
# Windows has withdrawn these names; the SDK still offers them, so CLDR's table lacks them.
_WITHDRAWN = {
    "Kamchatka Standard Time": "Asia/Kamchatka",
    "Mid-Atlantic Standard Time": "Etc/GMT+2",
}
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
_FREQUENCIES: dict[str, Literal[1, 2, 3, 4, 5]] = {
    "minute": rrule.MINUTELY,
    "hour": rrule.HOURLY,
    "day": rrule.DAILY,
    "week": rrule.WEEKLY,
    "month": rrule.MONTHLY,
}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SLACK = timedelta(hours=25)  # more than any clock is ever put back


class BadTrigger(Exception):
    """A trigger that says no time; the message names what is wrong with it."""


def next_run(trigger: Body, after: datetime) -> datetime | None:
    """The first time after `after` at which a trigger fires, None when it has ended.

    A time that the clock skips in spring fires when the clock has moved on; one that it shows
    twice in autumn fires once.

    Args: after: with a time zone.
    Returns: in UTC.
    Raises: BadTrigger.
    """
    zone = time_zone(trigger.get("timeZone") or "UTC")
    start, end = (_time(trigger, key, zone) for key in ("startTime", "endTime"))
    if start:
        after = max(after, start - _INSTANT)
    find = _KINDS.get(str(trigger.get("triggerType")).lower())
    if find is None:
        raise BadTrigger(f"The trigger type {trigger.get('triggerType')!r} is not known.")
    found = find(trigger, after, start or after, zone)
    return found if found and not (end and found > end) else None


def time_zone(name: str) -> tzinfo:
    """The time zone of a Windows or IANA name.

    Raises: BadTrigger: there is none of that name.
    """
    found = _zones().get(name.lower())
    if found is None:
        raise BadTrigger(f"The time zone {name!r} is not known.")
    return ZoneInfo(found)


@cache
def _zones() -> dict[str, str]:
    from tzlocal.windows_tz import win_tz

    names = {name: name for name in available_timezones()} | win_tz | _WITHDRAWN
    return {name.lower(): zone for name, zone in names.items()}


def _time(trigger: Body, key: str, zone: tzinfo) -> datetime | None:
    text = trigger.get(key)
    if not text:
        return None
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError as exc:
        raise BadTrigger(f"The {key} {text!r} is not an ISO 8601 time.") from exc
    return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)


def _cron(trigger: Body, after: datetime, start: datetime, zone: tzinfo) -> datetime | None:
    """Azure takes no days of the month and no months: what stands there counts as `*`."""
    fields = str(trigger.get("expression") or "").split()
    if len(fields) != 5:
        raise BadTrigger("A cron expression has five fields: minute hour day month weekday.")
    minute, hour, _, _, weekday = fields
    try:
        moments = CronSim(f"{minute} {hour} * * {weekday}", after.astimezone(zone))
    except CronSimError as exc:
        raise BadTrigger(f"The cron expression {' '.join(fields)!r} is not valid: {exc}") from exc
    return next(moments).astimezone(UTC)


def _recurrence(trigger: Body, after: datetime, start: datetime, zone: tzinfo) -> datetime | None:
    frequency, interval = str(trigger.get("frequency")).lower(), trigger.get("interval")
    if frequency not in _FREQUENCIES:
        raise BadTrigger(f"The frequency {frequency!r} is none of {', '.join(_FREQUENCIES)}.")
    if not isinstance(interval, int) or interval < 1:
        raise BadTrigger(f"The interval {interval!r} is not a whole number from 1.")
    pattern = _pattern(trigger.get("schedule") or {})
    if not pattern and frequency in ("minute", "hour"):
        zone = UTC  # so many minutes, whatever the clock on the wall is put to
    first, wall = (_wall(time, zone) for time in (start, after))
    if step := timedelta(seconds=interval * _SECONDS.get(frequency, 0)):
        first += max(0, (wall - first - _SLACK) // step) * step  # begin near, in the same phase
    try:
        rule = rrule.rrule(_FREQUENCIES[frequency], first, interval, **pattern)
    except ValueError as exc:
        raise BadTrigger(f"The recurrence never happens: {exc}") from exc
    moments = (time.replace(tzinfo=zone).astimezone(UTC) for time in rule)
    return next((time for time in moments if time > after), None)


_KINDS = {"cron": _cron, "recurrence": _recurrence}


def _wall(time: datetime, zone: tzinfo) -> datetime:
    return time.astimezone(zone).replace(tzinfo=None)


def _pattern(asked: Body) -> dict[str, Any]:
    """A recurrence's pattern as dateutil's rrule takes it; {} when it is empty."""
    days = [str(day).lower() for day in asked.get("weekDays") or ()]
    if unknown := set(days) - {*_DAYS}:
        raise BadTrigger(f"{', '.join(sorted(unknown))} is no day of the week.")
    lists = {
        "byhour": _numbers(asked, "hours", 0, 23),
        "byminute": _numbers(asked, "minutes", 0, 59),
        "bymonthday": _numbers(asked, "monthDays", -31, 31),
        "byweekday": [_DAYS.index(day) for day in days],
    }
    given = {key: value for key, value in lists.items() if value}
    return {**given, "bysecond": 0} if given else {}


def _numbers(asked: Body, key: str, least: int, most: int) -> list[int]:
    numbers = asked.get(key) or []
    numbers = numbers if isinstance(numbers, list) else [numbers]
    if not all(isinstance(n, int) and least <= n <= most for n in numbers):
        raise BadTrigger(f"The {key} of a recurrence are whole numbers from {least} to {most}.")
    return numbers
