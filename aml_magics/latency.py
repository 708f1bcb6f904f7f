"""How fast an online endpoint answers: asked many times, and as its workspace has counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aml_magics import endpoints, examples, rest
from aml_magics.errors import BadCommand, WorkspaceUnreachable
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

Tell = Callable[[str], None]
NO_ANSWER = "no answer"
PERCENTILES = (50, 95, 99)
MOST = rest.THREADS  # connections that are kept open
# What Azure Monitor calls them, and what the columns are called.
MONITORED = {
    "RequestsPerMinute": "requests",
    "RequestLatency_P50": "p50_ms",
    "RequestLatency_P95": "p95_ms",
}
MONITOR_VERSION = "2023-10-01"
MOST_MINUTES = 24 * 60


def test(
    session: Session,
    *,
    tell: Tell,
    endpoint: str,
    rows: int = 1000,
    concurrency: int = 8,
    deployment: str = "",
    data: Any = None,
) -> pd.DataFrame:
    """Ask an endpoint many times, and tell how long its answers take.

    Args: rows: requests, of one row each. concurrency: how many at a time, at most 16.
        data: the rows to ask about, again and again; the model's input example when left out.
    Returns: a row for each status code: ``requests``, and ``p50_ms``, ``p95_ms``, ``p99_ms`` and
        ``max_ms``, the milliseconds until the answer was there.
    Raises: BadCommand: no rows, or too many at a time. BadInput: there is nothing to ask about.
        NotFound: no such endpoint or deployment.
    """
    if not 1 <= concurrency <= MOST or rows < 1:
        raise BadCommand("at least one row, by 1 to 16 at a time", "--rows 1000 --concurrency 8")
    example = (
        endpoints.example_of(session, endpoint, deployment).body
        if data is None
        else endpoints.body_of(data)
    )
    contents = [endpoints.content_of(body) for body in examples.rows(example)]
    url, key = endpoints.door(session, endpoint)
    ask = partial(_ask, session, url, endpoints.headers_of(key, deployment))
    started = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(ask, islice(cycle(contents), rows)))
    seconds = time.monotonic() - started
    failed = sum(status != "200" for status, _ in answers)
    tell(f"{rows} requests in {seconds:.1f} s: {rows / seconds:.0f} a second, {failed} failed\n")
    return _table(answers)


def metrics(session: Session, *, endpoint: str, minutes: int = 60) -> pd.DataFrame:
    """Requests a minute, and how long they took, as Azure Monitor has counted them.

    Args: minutes: until now, at most a day; the local workspace keeps an hour, in memory.
    Returns: a row for each minute and deployment that had requests: ``minute`` (UTC),
        ``deployment``, ``requests``, ``p50_ms`` and ``p95_ms``, milliseconds.
    Raises: BadCommand: too many minutes. NotFound: no such endpoint.
    """
    import pandas as pd

    if not 1 <= minutes <= MOST_MINUTES:
        raise BadCommand("between a minute and a day", "--minutes 60")
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for metric in _monitored(session, endpoint, minutes):
        column = MONITORED[metric["name"]["value"]]
        for series in metric["timeseries"]:
            deployment = series["metadatavalues"][0]["value"]
            for datum in series["data"]:
                if datum.get("average"):
                    row = rows.setdefault((datum["timeStamp"], deployment), {})
                    row[column] = datum["average"]
    found = [{"minute": at, "deployment": name, **row} for (at, name), row in sorted(rows.items())]
    table = pd.DataFrame(found, columns=["minute", "deployment", *MONITORED.values()])
    table["minute"] = pd.to_datetime(table["minute"])
    return table.round({"requests": 0}).astype({"requests": "Int64"}).round(1)


def _monitored(session: Session, endpoint: str, minutes: int) -> list[dict[str, Any]]:
    end = datetime.now(UTC) + timedelta(minutes=1)  # this minute too
    span = f"{end - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:00Z}/{end:%Y-%m-%dT%H:%M:00Z}"
    asked = {
        "api-version": MONITOR_VERSION,
        "metricnames": ",".join(MONITORED),
        "timespan": span,
        "interval": "PT1M",
        "aggregation": "average",
        "$filter": "deployment eq '*'",
    }
    path = f"/onlineEndpoints/{quote(endpoint, safe='')}/providers/Microsoft.Insights/metrics"
    answer = rest.arm(session, "GET", path, params=asked, hint=endpoints.LIST)
    return list(answer["value"])


def _ask(session: Session, url: str, headers: dict[str, str], content: str) -> tuple[str, float]:
    """Status and milliseconds of one request."""
    started = time.perf_counter()
    try:
        response = rest.raw(session, "POST", url, data=content, headers=headers)
        status = str(response.status_code)
    except WorkspaceUnreachable:
        status = NO_ANSWER
    return status, 1000 * (time.perf_counter() - started)


def _table(answers: list[tuple[str, float]]) -> pd.DataFrame:
    import pandas as pd

    times = pd.DataFrame(answers, columns=["status", "ms"]).groupby("status")["ms"]
    columns = {"requests": times.count()}
    columns |= {f"p{part}_ms": times.quantile(part / 100) for part in PERCENTILES}
    return pd.DataFrame({**columns, "max_ms": times.max()}).round(1)
