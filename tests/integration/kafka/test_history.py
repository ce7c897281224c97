"""What lies before the point from which a process folds: read, judged and consumed as what is new."""

from __future__ import annotations

import pytest

from crossfade.adapters.kafka import _logs
from crossfade.shim.events import Event


@pytest.fixture
def short(monkeypatch):
    """Fold from now on only, as if everything stored were days old."""
    monkeypatch.setattr(_logs, "HORIZON", -5_000)
    monkeypatch.setattr(_logs, "WINDOW", -5_000)


async def test_the_past_is_read_by_the_same_rules(bus, opened, kafka_broker, subjects, short):
    """A duplicate of long ago is no event, whoever reads it later; order and last are the same."""
    sent = [Event(type="tool.invoke", source="urn:t", data=str(n).encode()) for n in range(3)]
    address = subjects.fact("webhook.received")
    await bus.publish(address, sent[0])
    late = await opened(kafka_broker.url)
    await late.extent(address)
    for event in (*sent[1:], sent[0]):  # the last one a second time, past every client's own judgement
        headers, value = late._publishing.encode(address, event)
        await late._producer.produce(f"{subjects.prefix}.evt", None, value, headers, timeout=5)
    later = await opened(kafka_broker.url)
    assert [stored.event.data async for stored in later.read(address)] == [b"0", b"1", b"2"]
    async with later.consume("w", [address]) as deliveries:
        for expected in (b"0", b"1", b"2"):
            delivery = await deliveries.next(timeout=5)
            assert delivery.stored.event.data == expected
            await delivery.ack()
        assert await deliveries.next(timeout=0.2) is None
