"""Journals: snapshots keep them short, and who opens one later knows the same."""

from __future__ import annotations

from crossfade.adapters.kafka import _journal
from crossfade.shim.events import Event
from crossfade.shim.ports import ConsumeOptions
from plugins.nats import until


def command(subjects, n):
    return subjects.call("invoke", domain="tool", seam="a", run="r", callid=f"c{n}")


async def test_a_journal_is_short_and_whole(bus, opened, kafka_broker, subjects, monkeypatch):
    """After many writes most operations are deleted, and a client that opens now reads every value, and no other."""
    monkeypatch.setattr(_journal, "_EVERY", 10)
    state = bus.state("policy")
    for n in range(60):
        await state.put(f"k{n % 7}", str(n).encode())
    await state.delete("k0")
    partition = bus._state_journal.log.partition

    async def most_is_deleted():
        await state.put("k1", b"again")  # only who writes makes snapshots
        return await partition.offset(-2) > 20  # its beginning

    await until(most_is_deleted)
    fresh = (await opened(kafka_broker.url)).state("policy")
    assert sorted(await fresh.entries(), key=lambda entry: entry.key) == sorted(
        await state.entries(), key=lambda entry: entry.key
    )
    assert [entry.key for entry in await fresh.entries()] != []


async def test_a_group_goes_on_from_a_snapshot(bus, opened, kafka_broker, subjects, monkeypatch):
    """What was acknowledged, what is out and where the group stands are known to who joins after a snapshot."""
    monkeypatch.setattr(_journal, "_EVERY", 5)
    for n in range(12):
        await bus.publish(command(subjects, n), Event(type="tool.invoke", source="urn:t", data=b"1"))
    filters = [subjects.commands("tool", "a")]
    async with bus.consume("w", filters) as deliveries:
        for _ in range(10):
            await (await deliveries.next(timeout=5)).ack()
        held = await deliveries.next(timeout=5)
        await until(lambda: bus._group_journal._as_of)
        other = await opened(kafka_broker.url)
        async with other.consume("w", filters, ConsumeOptions()) as others:
            last = await others.next(timeout=5)
            assert last.stored.subject == command(subjects, 11)
            await last.ack()
            await held.ack()
            assert await others.next(timeout=0.2) is None
