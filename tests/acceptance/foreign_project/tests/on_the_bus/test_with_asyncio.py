import asyncio

import pytest
from helpdesk import tools
from helpdesk.tickets import TICKETS, Priority

pytestmark = pytest.mark.asyncio


async def test_a_coroutine(bus, stage):
    stage("tickets.classify", "bus")

    assert await tools.classify("Printer on fire") is Priority.HIGH

    assert bus.calls("tickets.classify")[0].value is Priority.HIGH


async def test_an_async_generator(bus, stage):
    stage("tickets.tail", "bus")

    assert [ticket async for ticket in tools.tail(3)] == list(TICKETS.values())


async def test_many_at_once(bus, stage):
    stage("tickets.classify", "bus")

    found = await asyncio.gather(*(tools.classify(f"{n} fire") for n in range(20)))

    assert found == [Priority.HIGH] * 20
    assert len(bus.calls("tickets.classify")) == 20


async def test_waiting_beside_a_call(bus, stage):
    stage("desk.digest", "bus")

    calling = asyncio.create_task(tools.digest("printer"))
    (started,) = await bus.await_for("agent.task.started", seam="desk.digest")

    assert started.payload["arguments"] == {"topic": "printer"}
    assert await calling == "Printer on fire, Printer out of paper"


async def test_shadow(bus, stage):
    stage("tickets.classify", "shadow")

    await tools.classify("Printer on fire")

    assert [verdict.kind for verdict in bus.verdicts("tickets.classify")] == ["match"]
