"""A rollback request is stored once, whenever the bus is back, and nothing of it is lost unseen."""

from __future__ import annotations

import asyncio
import json

import pytest

from crossfade.adapters.memory import MemoryBus
from crossfade.shim import hooks, rollbacks
from crossfade.shim.errors import BusAmbiguousError, BusUnavailableError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.rollbacks import RollbackRequest, RollbackRequests
from crossfade.shim.schemas import validate_payload
from crossfade.shim.subjects import Subjects

REQUEST = RollbackRequest(
    seam="http.reports", revision=4, failing="calls", reason="deadline", counts={"deadline": 4, "expired": 1}
)


class Failing:
    """Publishes to ``bus`` once its ``errors`` are used up; an ambiguous one has landed nevertheless."""

    def __init__(self, bus, *errors):
        self._bus = bus
        self._errors = list(errors)

    async def publish(self, subject, event, *, timeout=5.0):
        error = self._errors.pop(0) if self._errors else None
        if not isinstance(error, BusUnavailableError):
            ack = await self._bus.publish(subject, event, timeout=timeout)
        if error is not None:
            raise error
        return ack


@pytest.fixture
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture
async def bus(monkeypatch):
    monkeypatch.setattr(rollbacks, "_AGAIN", 0.01)
    bus = MemoryBus(BusSettings(prefix="cf"), Counters())
    await bus.open()
    yield bus
    await bus.close()


async def stored(bus):
    return [stored.event async for stored in bus.read("cfe.>")]


async def test_it_is_sent_when_the_bus_is_back_and_once(bus, counts):
    """Refused, in doubt, then stored: one event, which says why."""
    failing = Failing(bus, BusUnavailableError(), BusAmbiguousError(), BusUnavailableError())
    await RollbackRequests(failing, Subjects("cf"), instance="one").ask(REQUEST)
    (event,) = await stored(bus)
    assert (event.type, event.get("seam"), event.get("policyrev")) == ("seam.rollback.requested", "http.reports", "4")
    validate_payload(event.type, event.data)
    assert json.loads(event.data) == {
        "seam": "http.reports",
        "revision": 4,
        "failing": "calls",
        "reason": "deadline",
        "counts": {"deadline": 4, "expired": 1},
        "instance": "one",
    }
    assert counts.get("rollback-request-failed") == 3
    assert counts.get("rollback-requested", seam="http.reports") == 1


async def test_one_of_a_seam_waits_at_a_time(bus, counts):
    """A second is dropped and counted, and so is one that the process ends before it could be sent."""
    requests = RollbackRequests(Failing(bus, *[BusUnavailableError()] * 1000), Subjects("cf"), instance="one")
    first = asyncio.create_task(requests.ask(REQUEST))
    await asyncio.sleep(0)
    await requests.ask(REQUEST)
    assert counts.get("dropped", seam="http.reports", reason="rollback-request") == 1
    first.cancel()
    await asyncio.wait([first])
    assert counts.get("dropped", seam="http.reports", reason="rollback-request") == 2
    assert await stored(bus) == []
