"""What this process stored itself is known by the acknowledgement; what others stored between is read first."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.adapters.kafka import _log
from crossfade.shim.events import Event


@pytest.fixture
def address(subjects):
    return subjects.fact("webhook.received")


def event(n):
    return Event(type="webhook.received", source="urn:t", data=str(n).encode())


@pytest.fixture
def unread(monkeypatch):
    """No fetch is answered from now on, until the function that this is was called again."""
    answered, fetch = asyncio.Event(), _log.Partition.fetch
    answered.set()

    async def held(*args, **options):
        found = await fetch(*args, **options)
        await answered.wait()
        return found

    monkeypatch.setattr(_log.Partition, "fetch", held)
    return lambda: answered.clear() if answered.is_set() else answered.set()


async def test_an_own_record_is_not_read_back(bus, address, unread):
    """A publish, and a duplicate of it, are judged while no fetch is answered; then each event is read once."""
    sent = [event(n) for n in range(4)]
    await bus.publish(address, sent[0])
    unread()
    for each in sent[1:]:
        assert not (await bus.publish(address, each, timeout=10)).duplicate
    assert (await bus.publish(address, sent[1], timeout=10)).duplicate
    unread()
    assert [stored.event async for stored in bus.read(address)] == sent


async def test_an_own_record_waits_for_others_before_it(bus, opened, kafka_broker, address, unread):
    """Where another process stored between, nothing is judged before its record was read."""
    other = await opened(kafka_broker.url)
    same = event(1)
    await bus.publish(address, event(0))
    await other.publish(address, event(2))
    unread()
    headers, value = other._publishing.encode(address, same)
    await other._producer.produce(bus._logs.of_subject(address).topic, None, value, headers, timeout=5)
    again = asyncio.create_task(bus.publish(address, same, timeout=10))
    await asyncio.wait({again}, timeout=0.3)
    assert not again.done()
    unread()
    assert (await again).duplicate
