"""How fast an online endpoint answers: many requests of one row each, several at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from aml_magics import endpoints, examples, rest
from aml_magics.errors import BadCommand, WorkspaceUnreachable
from aml_magics.session import Session

if TYPE_CHECKING:
    import pandas as pd

Tell = Callable[[str], None]
NO_ANSWER = "no answer"
PERCENTILES = (50, 95, 99)
MOST = rest.THREADS  # connections that are kept open


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
