"""A process that ends is not waited for, and what it had to tell of legacy hits is not lost with it."""

from __future__ import annotations

import pytest

from crossfade.adapters.memory import MemoryBus
from crossfade.shim.hooks import Counters
from crossfade.shim.instances import Instance, Instances
from crossfade.shim.ports import BusSettings


@pytest.fixture
async def instances():
    bus = MemoryBus(BusSettings(), Counters())
    await bus.open()
    yield Instances(bus)
    await bus.close()


def process(instances, **more):
    return Instance(instance="p1", role="caller", seen=instances._bus.now(), seams={"web.search": 3}, **more)


async def test_a_goodbye_leaves_nothing(instances):
    """Nobody waits for it any more."""
    await instances.report(process(instances))
    assert [found.instance for found in await instances.live()] == ["p1"]
    await instances.leave(process(instances))
    assert await instances.known() == []


async def test_hits_outlive_the_process_that_had_them(instances):
    """A job that runs for a second calls the legacy code and is gone: its last report says so, and it is not alive."""
    await instances.leave(process(instances, legacy_hits={"web.search": 1}))
    (left,) = await instances.known()
    assert (left.legacy_hits, left.ended) == ({"web.search": 1}, True)
    assert await instances.live() == []
