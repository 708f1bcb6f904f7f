"""The queue before a deployment: who waits in vain is told why, and makes room."""

import asyncio
from types import SimpleNamespace

import pytest

from aml_magics.local.lanes import Lanes, Limits
from aml_magics.local.wire import ArmError
from tests.conftest import wait_until

BLUE = "/onlineEndpoints/line/deployments/Blue"
LIMITS = Limits(places=1, queue=2, wait=0.05, timeout=0.05)
PATIENT = LIMITS._replace(wait=60.0, timeout=60.0)


class Place:
    """An instance with one place."""

    def __init__(self, server="socket"):
        self.server, self.busy = server, 0

    def acquire(self, most):
        if self.server is None or self.busy >= most:
            return False
        self.busy += 1
        return True

    def release(self):
        self.busy -= 1


class Deployments:
    """Those that are kept and stored, as a test has them."""

    def __init__(self, *some):
        self.some, self.is_kept, self.is_stored = list(some), True, True

    def instances(self, _):
        return self.some if self.is_kept else []

    def keeps(self, _):
        return self.is_kept

    def get(self, _):
        return self.is_stored or None


@pytest.fixture
def deployments():
    return Deployments(Place())


@pytest.fixture
def lanes(deployments):
    return Lanes(SimpleNamespace(online=deployments, store=deployments))


async def refusals(*waits):
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(one, ArmError) for one in answers), answers
    return [one.status for one in answers]


def test_who_has_waited_too_long_makes_room(lanes, deployments):
    async def run():
        first = await lanes.enter(BLUE, LIMITS)
        assert await refusals(*[lanes.enter(BLUE, LIMITS) for _ in range(3)]) == [429] * 3
        waiting = asyncio.ensure_future(lanes.enter(BLUE, PATIENT))
        await asyncio.sleep(0)  # until it is in the queue
        lanes.leave(BLUE, first)
        assert await waiting is first

    asyncio.run(run())


def test_where_nothing_serves_more_places_would_not_help(lanes, deployments):
    deployments.some = [Place(server=None)]
    waits = [lanes.enter(BLUE, LIMITS) for _ in range(3)]
    assert asyncio.run(refusals(*waits)) == [503] * 3


def test_who_waits_for_what_is_deleted_is_told_at_once(lanes, deployments):
    async def run():
        await lanes.enter(BLUE, PATIENT)
        waits = [asyncio.ensure_future(lanes.enter(BLUE, PATIENT)) for _ in range(2)]
        await asyncio.sleep(0)
        deployments.is_kept = deployments.is_stored = False
        await asyncio.to_thread(lanes.told, BLUE)
        async with asyncio.timeout(30):
            assert await refusals(*waits, lanes.enter(BLUE, PATIENT)) == [503] * 3

    asyncio.run(run())


def test_what_the_daemon_has_not_begun_to_keep_is_waited_for(lanes, deployments):
    deployments.is_kept = False

    async def run():
        waiting = asyncio.ensure_future(lanes.enter(BLUE, PATIENT))
        await asyncio.sleep(0)
        deployments.is_kept = True
        lanes.told(BLUE)
        assert await waiting is deployments.some[0]

    asyncio.run(run())


def test_who_goes_away_keeps_no_place(lanes, deployments):
    async def run():
        first = await lanes.enter(BLUE, PATIENT)
        waiting = asyncio.ensure_future(lanes.enter(BLUE, PATIENT))
        await asyncio.sleep(0)
        lanes.leave(BLUE, first)  # the place is given to who waits
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(run())
    wait_until(lambda: deployments.some[0].busy == 0)
