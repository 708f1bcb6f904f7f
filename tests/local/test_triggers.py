"""When the triggers of schedules fire, by table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aml_magics.local import triggers
from tests.triggers import cron, every

PACIFIC = "Pacific Standard Time"


WEEKLY = {"weekDays": ["Monday", "Friday"], "hours": [9], "minutes": [30]}
# trigger, a time, the times it fires after that: all in UTC.
TICKS = {
    "cron": (cron("15 10 * * 1"), "2026-03-05T00:00", ["2026-03-09T10:15", "2026-03-16T10:15"]),
    "cron, on the minute": (cron("*/20 * * * *"), "2026-03-05T10:20", ["2026-03-05T10:40"]),
    "cron by names of days": (cron("0 8 * * MON-FRI"), "2026-03-06T09:00", ["2026-03-09T08:00"]),
    "cron, days and months count as *": (
        cron("0 0 1 6 *"),
        "2026-03-05T05:00",
        ["2026-03-06T00:00"],
    ),
    "cron by a zone's clock": (
        cron("0 9 * * *", PACIFIC),
        "2026-01-05T00:00",
        ["2026-01-05T17:00"],
    ),
    "cron by an IANA name": (
        cron("0 9 * * *", "Asia/Kolkata"),
        "2026-01-05T00:00",
        ["2026-01-05T03:30"],
    ),
    "cron, spring": (
        cron("0 9 * * *", PACIFIC),
        "2026-03-07T00:00",
        ["2026-03-07T17:00", "2026-03-08T16:00"],
    ),
    "cron, in the hour that spring skips": (
        cron("30 2 * * *", PACIFIC),
        "2026-03-07T12:00",
        ["2026-03-08T10:00", "2026-03-09T09:30"],
    ),
    "cron, in the hour that autumn shows twice": (
        cron("30 1 * * *", PACIFIC),
        "2026-10-31T12:00",
        ["2026-11-01T08:30", "2026-11-02T09:30"],
    ),
    "cron, every hour of autumn": (
        cron("0 * * * *", PACIFIC),
        "2026-11-01T07:30",
        ["2026-11-01T08:00", "2026-11-01T09:00", "2026-11-01T10:00"],
    ),
    "cron, not before its start": (
        cron("0 * * * *", startTime="2027-01-01T10:00:00"),
        "2026-01-01T00:00",
        ["2027-01-01T10:00"],
    ),
    "cron, start by the zone's clock": (
        cron("0 * * * *", PACIFIC, startTime="2027-01-01 00:30:00"),
        "2026-01-01T00:00",
        ["2027-01-01T09:00"],
    ),
    "cron, start with an offset": (
        cron("0 * * * *", PACIFIC, startTime="2027-01-01T00:30:00+02:00"),
        "2026-01-01T00:00",
        ["2026-12-31T23:00"],
    ),
    "cron, not after its end": (
        cron("0 * * * *", endTime="2026-01-01T02:00:00"),
        "2026-01-01T00:30",
        ["2026-01-01T01:00", "2026-01-01T02:00", None],
    ),
    "every 7 minutes": (
        every(7, "minute"),
        "2026-01-01T00:01",
        ["2026-01-01T00:07", "2026-01-01T00:14"],
    ),
    "every 7 minutes, years on": (
        every(7, "Minute", start="2020-01-01T00:00:00"),
        "2026-01-01T00:00",
        ["2026-01-01T00:02", "2026-01-01T00:09"],
    ),
    "every 6 hours, whatever the clock": (
        every(6, "hour", PACIFIC, start="2026-03-08T00:00:00"),
        "2026-03-08T07:59",
        ["2026-03-08T08:00", "2026-03-08T14:00", "2026-03-08T20:00"],
    ),
    "every day, by the clock": (
        every(1, "day", PACIFIC, start="2026-03-07T09:00:00"),
        "2026-03-07T00:00",
        ["2026-03-07T17:00", "2026-03-08T16:00"],
    ),
    "every day, in the hour that spring skips": (
        every(1, "day", PACIFIC, hours=[2], minutes=[30]),
        "2026-03-07T12:00",
        ["2026-03-08T10:30", "2026-03-09T09:30"],
    ),
    "every day, in the hour that autumn shows twice": (
        every(1, "day", PACIFIC, hours=[1], minutes=[30]),
        "2026-10-31T12:00",
        ["2026-11-01T08:30", "2026-11-02T09:30"],
    ),
    "every other day, years on": (
        every(2, "day", start="2020-01-01T06:00:00"),
        "2026-01-01T00:00",
        ["2026-01-01T06:00", "2026-01-03T06:00"],
    ),
    "hours and minutes of a day": (
        every(1, "day", hours=[4, 10], minutes=[0, 30]),
        "2026-01-05T04:00",
        ["2026-01-05T04:30", "2026-01-05T10:00", "2026-01-05T10:30", "2026-01-06T04:00"],
    ),
    "days of a week": (
        every(1, "week", **WEEKLY),
        "2026-01-05T00:00",
        ["2026-01-05T09:30", "2026-01-09T09:30"],
    ),
    "days of every other week": (
        every(2, "week", start="2026-01-05T00:00:00", **WEEKLY),
        "2026-01-09T10:00",
        ["2026-01-19T09:30", "2026-01-23T09:30"],
    ),
    "days of every other week, years on": (
        every(2, "week", start="2020-01-06T00:00:00", **WEEKLY),
        "2026-01-05T00:00",
        ["2026-01-12T09:30", "2026-01-16T09:30"],
    ),
    "the 31st, in months that have one": (
        every(1, "month", monthDays=[31], hours=[0], minutes=[0]),
        "2026-01-31T12:00",
        ["2026-03-31T00:00", "2026-05-31T00:00"],
    ),
    "a start on the 31st": (
        every(1, "month", start="2026-01-31T08:00:00"),
        "2026-02-01T00:00",
        ["2026-03-31T08:00"],
    ),
    "the 29th of February": (
        every(12, "month", start="2024-02-29T08:00:00"),
        "2024-03-01T00:00",
        ["2028-02-29T08:00"],
    ),
    "days of a month": (
        every(1, "month", monthDays=[1, 15], hours=[6], minutes=[0]),
        "2026-01-01T06:00",
        ["2026-01-15T06:00", "2026-02-01T06:00"],
    ),
    "weekdays of a month": (
        every(1, "month", weekDays=["Sunday"], hours=[6], minutes=[0]),
        "2026-01-24T00:00",
        ["2026-01-25T06:00", "2026-02-01T06:00"],
    ),
    "recurrence, at its start": (
        every(1, "hour", start="2027-01-01T10:00:00"),
        "2026-01-01T00:00",
        ["2027-01-01T10:00"],
    ),
    "recurrence, not after its end": (
        every(1, "day", end="2026-01-02T12:00:00"),
        "2026-01-01T12:00",
        ["2026-01-02T00:00", None],
    ),
}


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", TICKS)
def test_when_a_trigger_fires(name):
    trigger, after, expected = TICKS[name]
    moment, found = utc(after), []
    for _ in expected:
        moment = triggers.next_run(trigger, moment)
        found.append(moment and f"{moment.replace(tzinfo=None):%Y-%m-%dT%H:%M}")
        assert moment is None or moment.utcoffset() == timedelta(0)
    assert found == expected


def test_every_time_zone_that_the_sdk_offers_is_known():
    from azure.ai.ml.constants import TimeZone

    for zone in TimeZone:
        assert triggers.next_run(cron("0 9 * * *", zone.value), utc("2026-01-01T00:00"))
