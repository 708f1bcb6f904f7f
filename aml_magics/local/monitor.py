"""Azure Monitor for online endpoints: requests a minute and latency, of the last hour.

They are counted in memory: a daemon that starts again begins anew.
"""

from __future__ import annotations

import random
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from starlette.responses import JSONResponse, Response

from aml_magics.local import endpoints
from aml_magics.local.store import Body
from aml_magics.local.wire import REGION, Call, bad_request

KEPT_MINUTES = 60
KEPT = 1000  # latencies of a minute, of each deployment and status; of more, these are a sample
NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
_MONITOR = "/providers/microsoft.insights/"
_CLAUSE = re.compile(r"(\w+) eq '([^']*)'", re.IGNORECASE)

Span = tuple[int, int]  # the first minute since 1970, and the one after the last


class Answers:
    """The answers of a minute: how many, and after how many milliseconds."""

    def __init__(self) -> None:
        self.count, self.total_ms = 0, 0.0
        self.latencies: list[float] = []

    def add(self, ms: float) -> None:
        self.count += 1
        self.total_ms += ms
        if len(self.latencies) < KEPT:
            self.latencies.append(ms)
        elif (place := random.randrange(self.count)) < KEPT:  # noqa: S311 (a sample)
            self.latencies[place] = ms


class Key(NamedTuple):
    minute: int
    deployment: str
    status: int

    def dimension(self, name: str) -> str:
        if name == "deployment":
            return self.deployment
        return str(self.status) if name == "statuscode" else f"{self.status // 100}xx"


class Monitor:
    """Counts the answers of all endpoints, by ARM id in lower case."""

    def __init__(self) -> None:
        self._answers: dict[str, dict[Key, Answers]] = {}
        self._lock = threading.Lock()

    def add(self, endpoint: str, deployment: str, status: int, ms: float) -> None:
        """Count an answer."""
        key = Key(_minute(datetime.now(UTC)), deployment, status)
        with self._lock:
            found = self.answers(endpoint)
            if key not in found:
                first = key.minute - KEPT_MINUTES
                found = {old: answers for old, answers in found.items() if old.minute > first}
                self._answers[endpoint.lower()] = found = {**found, key: Answers()}
            found[key].add(ms)

    def forget(self, endpoint: str, deployment: str = "") -> None:
        """Forget an endpoint, or a deployment of it: the next of that name begins anew."""
        with self._lock:
            found, name = self._answers.pop(endpoint.lower(), {}), deployment.lower()
            kept = {key: some for key, some in found.items() if key.deployment.lower() != name}
            if deployment and kept:
                self._answers[endpoint.lower()] = kept

    def forget_below(self, id: str) -> None:  # noqa: A002 (ARM's word)
        """Forget all endpoints of a workspace."""
        with self._lock:
            for endpoint in [one for one in self._answers if one.startswith(f"{id}/".lower())]:
                del self._answers[endpoint]

    def answers(self, endpoint: str) -> dict[Key, Answers]:
        return self._answers.get(endpoint.lower(), {})


class Metric(NamedTuple):
    """`of`: its value for the answers of a minute, None where it has none."""

    unit: str
    dimensions: tuple[str, ...]
    of: Callable[[list[Answers]], float | None]


def _count(some: Iterable[Answers]) -> float:
    return sum(answers.count for answers in some)


def _latencies(some: Iterable[Answers]) -> list[tuple[float, float]]:
    """The latencies, lowest first, and how many answers each stands for."""
    return sorted(
        (ms, answers.count / len(answers.latencies)) for answers in some for ms in answers.latencies
    )


def _mean(some: list[Answers]) -> float | None:
    count = _count(some)
    return sum(answers.total_ms for answers in some) / count if count else None


def _percentile(some: list[Answers], *, percent: int) -> float | None:
    """The nearest rank: the lowest latency that so many percent of the answers do not exceed."""
    found, needed = _latencies(some), percent * _count(some)
    reached = accumulate(100 * weight for _, weight in found)
    enough = (ms for (ms, _), so_far in zip(found, reached, strict=True) if so_far >= needed)
    return next(enough, found[-1][0] if found else None)


# Source: "Supported metrics for …/workspaces/onlineEndpoints" of Azure's documentation.
METRICS = {
    "RequestsPerMinute": Metric("Count", ("deployment", "statuscode", "statuscodeclass"), _count),
    "RequestLatency": Metric("Milliseconds", ("deployment",), _mean),
    **{
        f"RequestLatency_P{percent}": Metric(
            "Milliseconds", ("deployment",), partial(_percentile, percent=percent)
        )
        for percent in (50, 90, 95, 99)
    },
}
_NAMES = {name.lower(): name for name in METRICS}


def metrics(call: Call) -> Response:
    """The values of metrics, minute by minute, apart for the dimensions that `$filter` names."""
    endpoint = call.arm_id[: call.arm_id.lower().index(_MONITOR)]
    if call.local.store.get(endpoint) is None:
        raise endpoints.no_endpoint(call)
    query = call.query
    if query.get("interval", "PT1M").upper() != "PT1M":
        raise bad_request("The local workspace has these metrics by the minute: interval PT1M.")
    if "average" not in query.get("aggregation", "average").lower():
        raise bad_request("The local workspace has these metrics as averages only.")
    asked = query.get("metricnames", "").lower()
    names = [name.strip() for name in asked.split(",")] if asked else [*_NAMES]
    if unknown := [name for name in names if name not in _NAMES]:
        raise bad_request(f"Metric {', '.join(unknown)} is none of {', '.join(METRICS)}.")
    span, split = _span(query.get("timespan", "")), _split(query.get("$filter", ""))
    found = call.local.monitor.answers(endpoint)
    body = {
        "cost": 0,
        "timespan": "/".join(map(_text, span)),
        "interval": "PT1M",
        "namespace": NAMESPACE,
        "resourceregion": REGION,
        "value": [_shown(endpoint, _NAMES[name], split, found, span) for name in names],
    }
    return JSONResponse(body)


def _split(text: str) -> dict[str, str]:
    """Dimensions that are told apart, and which of their values: `*` for each."""
    clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in re.split(" and ", text, flags=re.I)]
    if text and not all(clauses):
        raise bad_request(f"$filter {text!r} is not: deployment eq '*' and statusCode eq '200'.")
    return {clause[1].lower(): clause[2] for clause in clauses if clause}


def _shown(
    endpoint: str, name: str, split: dict[str, str], found: dict[Key, Answers], span: Span
) -> Body:
    metric = METRICS[name]
    if unknown := [key for key in split if key not in metric.dimensions]:
        raise bad_request(f"{name} has no dimension {', '.join(unknown)}.")
    series: defaultdict[tuple[str, ...], defaultdict[int, list[Answers]]]
    series = defaultdict(lambda: defaultdict(list))
    for key, answers in found.items():
        own = tuple(map(key.dimension, split))
        if all(map(_is_asked_for, split.values(), own)):
            series[own][key.minute].append(answers)
    return {
        "id": f"{endpoint}/providers/Microsoft.Insights/metrics/{name}",
        "type": "Microsoft.Insights/metrics",
        "name": _localizable(name),
        "unit": metric.unit,
        "timeseries": [
            {
                "metadatavalues": [
                    {"name": _localizable(key), "value": value}
                    for key, value in zip(split, own, strict=True)
                ],
                "data": [_datum(metric, minute, by_minute[minute]) for minute in range(*span)],
            }
            for own, by_minute in series.items()
        ],
        "errorCode": "Success",
    }


def _is_asked_for(asked: str, value: str) -> bool:
    return asked == "*" or asked.lower() == value.lower()


def _datum(metric: Metric, minute: int, some: list[Answers]) -> Body:
    """The value of a minute; it is missing where there was no request to take it of."""
    value = metric.of(some)
    return {"timeStamp": _text(minute)} | ({} if value is None else {"average": value})


def _localizable(name: str) -> Body:
    return {"value": name, "localizedValue": name}


def _span(text: str) -> Span:
    """The minutes from one time to another, with `/` between; else the last hour."""
    if not text:
        end = _minute(datetime.now(UTC)) + 1
        return end - KEPT_MINUTES, end
    try:
        begin, end = (_minute(datetime.fromisoformat(time)) for time in text.split("/"))
    except ValueError as exc:
        raise bad_request(f"timespan {text!r} is not BEGIN/END, times as of ISO 8601.") from exc
    if not begin < end <= begin + 30 * 24 * 60:
        raise bad_request(f"timespan {text!r} is not between a minute and 30 days.")
    return begin, end


def _minute(time: datetime) -> int:
    return int(time.timestamp()) // 60


def _text(minute: int) -> str:
    return datetime.fromtimestamp(60 * minute, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
