"""Follow a job's log as it is written: by byte range, from the run history's links."""

from __future__ import annotations

import codecs
import math
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from aml_magics import rest, settings
from aml_magics.errors import NotFound, WorkspaceUnreachable
from aml_magics.session import Session

# The statuses a job can still leave, as azure-ai-ml has them.
LIVE = frozenset(
    (
        *("NotStarted", "Queued", "Preparing", "Provisioning", "Starting"),
        *("Running", "Finalizing", "CancelRequested"),
    )
)
# What a job says: its command, or what has its child jobs work.
USER_LOG = re.compile(
    r"user_logs/std_log\D*0*(?:_ps)?\.txt"
    r"|logs/azureml/executionlogs\.txt|azureml-logs/hyperdrive\.txt"
)
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
BUILDING = "Preparing"
BUILD_SECONDS = 1.0  # a build is worth a line when it takes longer: most are cached
TAIL_LINES = 20
ROUND_TRIPS = 5  # share of the time spent asking: one part in five
_UNSATISFIABLE = 416  # the range starts at the end: nothing new


class Tail:
    """One log file: what has been read of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def read(self, url: str) -> str:
        """The text written since the last call."""
        headers = {"Range": f"bytes={self._offset}-"}
        # The link signs itself; an auth of our own keeps requests from making one of its host.
        response = rest.raw(
            self._session, "GET", url, headers=headers, auth=lambda request: request
        )
        if response.status_code in {404, _UNSATISFIABLE}:
            return ""
        if response.status_code >= 400:
            raise rest.refusal(response.status_code, rest.message(response))
        content = response.content
        if response.status_code == 200:  # the range was ignored
            content = content[self._offset :]
        self._offset += len(content)
        return self._decoder.decode(content)


class Watch:
    """Everything a job has said so far, and the end of it for an error message."""

    def __init__(self, session: Session, name: str, tell: Callable[[str], None]) -> None:
        self._session = session
        self._name = name
        self._tell = tell
        self._user: dict[str, Tail] = {}
        self._began = False
        self._build: Tail | None = None
        self._build_since = 0.0
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._build_lines: list[str] = []
        self._partial = ""

    @property
    def lines(self) -> list[str]:
        """The last lines of the job's log; of its environment's, when it has said nothing."""
        return list(self._lines) if self._began else self._build_lines[-TAIL_LINES:]

    def look(self) -> dict[str, Any]:
        """Tell what is new; returns the run's details, read before the logs."""
        details = rest.history(self._session, f"runs/{self._name}/details")
        links = details.get("logFiles") or {}
        building = details["status"] == BUILDING
        if BUILD_LOG in links and (building or not (self._began or details["status"] in LIVE)):
            self._look_at_build(links[BUILD_LOG], building)
        for path in sorted(filter(USER_LOG.fullmatch, links)):
            text = self._user.setdefault(path, Tail(self._session)).read(links[path])
            if text:
                self._began = True
                self._tell(text)
                self._remember(text)
        return details

    def end(self) -> None:
        """Finish the last line."""
        if self._partial:
            self._tell("\n")
            self._lines.append(self._partial)

    def _look_at_build(self, link: str, building: bool) -> None:
        if self._build is None:
            self._build, self._build_since = Tail(self._session), time.monotonic()
        elif building and time.monotonic() - self._build_since > BUILD_SECONDS:
            self._tell(f"building the environment (log: {BUILD_LOG})\n")
            self._build_since = math.inf  # said once
        self._build_lines += self._build.read(link).splitlines()

    def _remember(self, text: str) -> None:
        *lines, self._partial = (self._partial + text).split("\n")
        self._lines.extend(line for line in lines if line.strip())


def follow(
    session: Session, name: str, tell: Callable[[str], None]
) -> tuple[dict[str, Any], Watch]:
    """Tell a job's log while it is written, until the job ends.

    A lost connection is retried for ``reconnect_seconds``; the time between two looks grows with
    the workspace's distance.

    Returns: the run's last details and the watch that has the last lines.
    Raises: WorkspaceUnreachable: the connection stays lost. NotFound: there is no such job.
    """
    watch = Watch(session, name, tell)
    last_answer = time.monotonic()
    told = False
    while True:
        started = time.monotonic()
        try:
            details = watch.look()
        except (WorkspaceUnreachable, NotFound) as exc:
            _check_patience(exc, name, last_answer)
            if not told and isinstance(exc, WorkspaceUnreachable):
                tell("connection lost, trying again …\n")
                told = True
            time.sleep(1)
            continue
        last_answer, told = time.monotonic(), False
        if details["status"] not in LIVE:
            watch.end()
            return details, watch
        round_trip = (last_answer - started) / 2
        time.sleep(max(settings.get("poll_seconds"), ROUND_TRIPS * round_trip))


def whole(session: Session, name: str) -> str:
    """All of a job's log so far."""
    text: list[str] = []
    Watch(session, name, text.append).look()
    return "".join(text)


def _check_patience(exc: WorkspaceUnreachable | NotFound, name: str, last_answer: float) -> None:
    """Raise when nothing has been heard for too long."""
    if time.monotonic() - last_answer < settings.get("reconnect_seconds"):
        return
    exc.hint = f"%aml job stream -n {name} follows it again, %aml login --local restarts a daemon"
    raise exc
