"""Requests on their way to instances: a place for each, in turn, and the connections they go by."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aml_magics.local.bodies import seconds
from aml_magics.local.store import Body
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    import aiohttp

    from aml_magics.local.app import Local
    from aml_magics.local.controllers.instances import Instance

    # What a request waits with: for an instance, in which at most so many are at a time.
    Waiting = tuple[asyncio.Future[Instance], int]

LONGEST = 180.0  # seconds: the longest request timeout a deployment can ask Azure for
IDLE = 30.0  # seconds until an unused connection is closed: sooner than model servers do
TIMEOUT = 5.0  # seconds for an answer, where nothing else was asked for
PLACES, QUEUE = 4, 10_000  # where nothing was asked for: a laptop's requests wait, none is refused


class Limits(NamedTuple):
    """What a deployment asks for: requests at a time in an instance and waiting, and seconds.

    `wait`: in the queue; `timeout`: for an answer of the model; `total`: for both.
    """

    places: int = PLACES
    queue: int = QUEUE
    wait: float = LONGEST
    timeout: float = TIMEOUT
    total: float = LONGEST


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Gone(Exception):
    """The process could not be reached: it never saw the request."""


class Lost(Exception):
    """The process ended while it had the request."""


def limits(asked: Body, count: int, *, is_given: bool = True) -> Limits:
    """The limits of `requestSettings`, for so many instances.

    As on Azure, twice as many requests as have a place may be there at a time, and the time in
    the queue counts. Source: "HTTP status codes for online endpoints" of Azure's documentation.

    Args: is_given: it was asked for; of Azure's defaults only the timeout counts here.
    """
    if not is_given:
        return Limits()
    places = int(asked.get("maxConcurrentRequestsPerInstance") or 1)
    timeout = seconds(asked.get("requestTimeout"), TIMEOUT)
    wait = seconds(asked.get("maxQueueWait"), 0.0) or timeout
    return Limits(places, places * count, min(wait, timeout), timeout, timeout)


class Lanes:
    """The queues before the deployments, by ARM id in lower case. To be used in one event loop."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._waiting: dict[str, deque[Waiting]] = {}
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def told(self, id: str) -> None:  # noqa: A002 (ARM's word)
        """What serves a deployment has changed; may be called in any thread."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._admit, id.lower())

    async def enter(self, id: str, asked: Limits) -> Instance:  # noqa: A002
        """Wait for a place in an instance.

        Raises: ArmError 429: too many wait, or it waited too long; 503: nothing serves it.
        """
        self._loop = asyncio.get_running_loop()
        lane = self._waiting.setdefault(id.lower(), deque())
        if not lane and (found := self._free(id, asked.places)):
            return found
        if len(lane) >= asked.queue or self._is_deleted(id):
            raise self._refusal(id)
        waiting: Waiting = (self._loop.create_future(), asked.places)
        lane.append(waiting)
        try:
            async with asyncio.timeout(asked.wait):
                return await waiting[0]
        except BaseException as exc:
            self._give_up(id, lane, waiting)
            if isinstance(exc, TimeoutError):
                raise self._refusal(id) from None
            raise

    def _give_up(self, id: str, lane: deque[Waiting], waiting: Waiting) -> None:  # noqa: A002
        """Wait no longer; what waits no more takes no room in the queue."""
        future = waiting[0]
        if waiting in lane:
            lane.remove(waiting)
        is_done = not future.cancel() and not future.cancelled()
        if is_done and future.exception() is None:  # it got its place at the last moment
            self.leave(id, future.result())

    def serves(self, id: str) -> bool:  # noqa: A002
        """Claim that a process of the deployment is there and ready."""
        return any(one.server for one in self._local.online.instances(id))

    def leave(self, id: str, instance: Instance) -> None:  # noqa: A002
        instance.release()
        self._admit(id.lower())

    async def send(
        self, instance: Instance, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Pass a request on and return the answer.

        Raises: Gone, Lost, TimeoutError.
        """
        import aiohttp

        server = instance.server
        if server is None:
            raise Gone
        session = self._session(server.socket)
        try:
            async with session.request(
                method, f"http://localhost{path}", data=body, headers=headers
            ) as answer:
                return Answer(answer.status, answer.headers, await answer.read())
        except aiohttp.ClientConnectorError as exc:
            raise Gone from exc
        except (aiohttp.ClientError, ConnectionError) as exc:
            instance.doubt()
            raise Lost(str(exc)) from exc

    def _free(self, id: str, places: int) -> Instance | None:  # noqa: A002
        """Take a place in the least busy instance."""
        some = sorted(self._local.online.instances(id), key=lambda one: one.busy)
        return next((one for one in some if one.acquire(places)), None)

    def _admit(self, id: str) -> None:  # noqa: A002
        if not self._local.online.keeps(id):
            self._dismiss(id)
            return
        lane = self._waiting.get(id)
        while lane:
            future, places = lane[0]
            if future.done():
                lane.popleft()
                continue
            found = self._free(id, places)
            if found is None:
                return
            lane.popleft()
            future.set_result(found)

    def _dismiss(self, id: str) -> None:  # noqa: A002
        """Answer all that wait for a deployment that is not served any more."""
        for future, _ in self._waiting.pop(id, ()):
            if not future.done():
                future.set_exception(unavailable(id))

    def _is_deleted(self, id: str) -> bool:  # noqa: A002
        """Nothing would end the wait; without a keeper it may also be that the daemon starts."""
        online, store = self._local.online, self._local.store
        return not online.keeps(id) and store.get(id) is None

    def _refusal(self, id: str) -> ArmError:  # noqa: A002
        return _too_many() if self.serves(id) else unavailable(id)

    def _session(self, socket: str) -> aiohttp.ClientSession:
        import aiohttp

        session = self._sessions.get(socket)
        if session is None:
            self._forget()
            session = self._sessions[socket] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=socket, limit=0, keepalive_timeout=IDLE),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return session

    def _forget(self) -> None:
        """Close the connections to processes that have ended."""
        for socket in [path for path in self._sessions if not Path(path).exists()]:
            task = asyncio.ensure_future(self._sessions.pop(socket).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def unavailable(id: str) -> ArmError:  # noqa: A002
    """Nothing serves the deployment, and waiting was, or would be, in vain."""
    name = id.rpartition("/")[2]
    message = f"Deployment {name} does not answer: it is starting, it failed, or it was deleted."
    return ArmError(503, "ServiceUnavailable", message)


def _too_many() -> ArmError:
    message = "Too many requests are waiting: raise max_concurrent_requests_per_instance, the "
    return ArmError(429, "TooManyRequests", message + "instance count or max_queue_wait.")
