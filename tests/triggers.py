"""Triggers of schedules, as the service has them."""


def cron(expression, zone="UTC", **times):
    return {"triggerType": "Cron", "expression": expression, "timeZone": zone, **times}


def every(interval, frequency, zone="UTC", start="2026-01-01T00:00:00", end=None, **pattern):
    return {
        "triggerType": "Recurrence",
        "frequency": frequency,
        "interval": interval,
        "schedule": pattern,
        "startTime": start,
        "endTime": end,
        "timeZone": zone,
    }
