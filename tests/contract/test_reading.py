"""Reader: any range of what is stored, in order, without consuming it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from contract.helpers import NEVER, SOON, collect, event, number, until
from crossfade.shim.errors import BusError, ConfigurationError, MalformedEventError
from crossfade.shim.ports import Position


def numbers(stored):
    return [number(found.event) for found in stored]


async def test_everything_in_order_of_storage(bus, subjects):
    """Without limits read gives every event under the filter from the first, each as it was published, then ends."""
    sent = []
    for n in range(20):
        address = subjects.call("invoke", domain="tool", seam="a", run=f"run{n % 3}", callid=f"call{n}")
        sent.append((address, event(n)))
        await bus.publish(*sent[-1])
    found = await collect(bus.read(subjects.commands("tool", "a")))
    assert [(stored.subject, stored.event) for stored in found] == sent
    assert [stored.time for stored in found] == sorted(stored.time for stored in found)


async def test_only_what_the_filter_selects(bus, subjects):
    """A filter selects one run, one call, one seam or one subject."""
    calls = [(seam, run, kind) for seam in ("a", "b") for run in ("r1", "r2") for kind in ("invoke", "result")]
    for n, (seam, run, kind) in enumerate(calls):
        address = subjects.call(kind, domain="tool", seam=seam, run=run, callid=f"{seam}{run}")
        await bus.publish(address, event(n))
    assert numbers(await collect(bus.read(subjects.run("r2")))) == [2, 3, 6, 7]
    assert numbers(await collect(bus.read(subjects.of_call("ar1")))) == [0, 1]
    assert numbers(await collect(bus.read(subjects.of_call("ar1", "result")))) == [1]
    assert numbers(await collect(bus.read(subjects.commands("tool", "b")))) == [4, 6]
    assert numbers(await collect(bus.read(f"{subjects.prefix}.>"))) == list(range(8))


async def test_nothing_is_stored(bus, subject):
    """Reading what is empty ends at once."""
    assert await collect(bus.read(subject), timeout=2) == []


async def test_after_a_position(bus, subject):
    """Reading after an event's position begins with the next one; after the last one it ends."""
    acks = [await bus.publish(subject, event(n)) for n in range(4)]
    assert numbers(await collect(bus.read(subject, after=acks[1].position))) == [2, 3]
    assert await collect(bus.read(subject, after=acks[3].position)) == []


async def test_after_a_position_under_another_filter(bus, subjects, subject, commands):
    """A position is a place in the stream, so any filter of that stream can go on from it."""
    first = await bus.publish(subject, event(0))
    result = subjects.call("result", domain="tool", seam="web.search", run="run1", callid="call1")
    await bus.publish(result, event(1))
    assert numbers(await collect(bus.read(result, after=first.position))) == [1]


async def test_since_and_until_a_time(bus, subject):
    """Times select by the broker's clock: from the first event stored at since, to the last stored at until."""
    for n in range(5):
        await bus.publish(subject, event(n))
        await asyncio.sleep(0.02)
    times = [stored.time for stored in await collect(bus.read(subject))]
    assert numbers(await collect(bus.read(subject, since=times[2]))) == [2, 3, 4]
    between = times[2] + (times[3] - times[2]) / 2
    assert numbers(await collect(bus.read(subject, until=between))) == [0, 1, 2]
    assert numbers(await collect(bus.read(subject, since=times[1], until=between))) == [1, 2]
    assert await collect(bus.read(subject, since=times[4] + timedelta(milliseconds=10))) == []
    assert await collect(bus.read(subject, until=times[0] - timedelta(milliseconds=10))) == []


async def test_until_the_exact_time_of_an_event(bus, subject):
    """until is inclusive: an event stored at that very moment belongs to the range."""
    for n in range(3):
        await bus.publish(subject, event(n))
        await asyncio.sleep(0.02)
    times = [stored.time for stored in await collect(bus.read(subject))]
    assert numbers(await collect(bus.read(subject, until=times[1]))) == [0, 1]


@pytest.mark.parametrize("follow", [False, True])
async def test_until_a_time_long_past(bus, subject, follow):
    """What was stored before ``until`` comes however long ago that is, all of it and nothing else."""
    for n in range(3):
        await bus.publish(subject, event(n))
    times = [stored.time for stored in await collect(bus.read(subject))]
    await asyncio.sleep(0.6)  # longer than an event stored just then could be under way
    await bus.publish(subject, event(3))
    assert numbers(await collect(bus.read(subject, until=times[2], follow=follow))) == [0, 1, 2]


async def test_it_ends_where_storage_ended_when_it_began(bus, subject):
    """What is stored while reading goes on does not make it endless."""
    for n in range(3):
        await bus.publish(subject, event(n))
    found = []
    async with aclosing(bus.read(subject)) as reading:
        async for stored in reading:
            found.append(stored)
            await bus.publish(subject, event(100 + len(found)))
    assert numbers(found) == [0, 1, 2]


async def test_following_goes_on(bus, subject):
    """With follow reading goes on with what is stored later, in order, without delay."""
    await bus.publish(subject, event(0))
    async with aclosing(bus.read(subject, follow=True)) as reading:
        assert number((await anext(reading)).event) == 0
        for n in range(1, 4):
            waiting = asyncio.ensure_future(anext(reading))
            await asyncio.sleep(0.02)
            await bus.publish(subject, event(n))
            stored = await asyncio.wait_for(waiting, SOON)
            assert number(stored.event) == n


async def test_following_from_a_position_misses_nothing(bus, subject):
    """Between what was read and what comes there is no gap, however they interleave."""
    acks = [await bus.publish(subject, event(n)) for n in range(50)]

    async def publish():
        for n in range(50, 100):
            await bus.publish(subject, event(n))

    publishing = asyncio.create_task(publish())
    async with aclosing(bus.read(subject, after=acks[9].position, follow=True)) as reading:
        assert numbers(await collect(reading, 90)) == list(range(10, 100))
    await publishing


async def test_following_survives_a_broker_restart(backend, bus, subject):
    """A follower misses nothing and doubles nothing over a restart."""
    await bus.publish(subject, event(0))
    async with aclosing(bus.read(subject, follow=True)) as reading:
        found = await collect(reading_ := reading, 1)
        waiting = asyncio.create_task(collect(reading_, 3, timeout=15))
        await asyncio.sleep(0.05)
        await backend.stop()
        await backend.start()
        for n in (1, 2, 3):
            sent = event(n)

            async def published(sent=sent):
                try:
                    return await bus.publish(subject, sent, timeout=1)
                except BusError:
                    return None

            await until(published, timeout=10)
        assert numbers(found + await waiting) == [0, 1, 2, 3]


async def test_readers_do_not_disturb_each_other(bus, subject, commands):
    """Reading neither consumes nor shares: two readers and a group all see everything."""
    for n in range(5):
        await bus.publish(subject, event(n))
    one, two = await asyncio.gather(collect(bus.read(subject)), collect(bus.read(subject)))
    assert numbers(one) == numbers(two) == list(range(5))
    async with bus.consume("workers", [commands]) as deliveries:
        assert number((await deliveries.next(timeout=SOON)).stored.event) == 0


async def test_bytes_that_are_no_event_are_counted_and_passed_over(backend, bus, hooks, subjects, subject):
    """Reading goes on behind what cannot be decoded, and counts it with its reason."""
    await bus.publish(subject, event(0))
    await backend.store_raw(subjects.prefix, subject, {"ce-specversion": "9.0"}, b"?")
    await bus.publish(subject, event(1))
    assert numbers(await collect(bus.read(subject))) == [0, 1]
    assert hooks.get("skipped", reason="specversion") == 1


async def test_a_thousand_events(bus, subject):
    """More events than any batch are read completely and in order."""
    for start in range(0, 1000, 50):
        await asyncio.gather(*(bus.publish(subject, event(n)) for n in range(start, start + 50)))
    found = numbers(await collect(bus.read(subject), timeout=20))
    assert sorted(found) == list(range(1000))


async def test_last_is_the_last(bus, subjects):
    """last gives the newest event under a filter, and None when there is none."""
    first, second = (subjects.call("result", domain="tool", seam="a", run="r", callid=c) for c in "ab")
    assert await bus.last(first) is None
    for n, address in enumerate((first, second, first)):
        ack = await bus.publish(address, event(n))
    found = await bus.last(subjects.run("r"))
    assert (number(found.event), found.subject, found.position) == (2, first, ack.position)
    assert number((await bus.last(second)).event) == 1
    assert await bus.last(subjects.of_call("c")) is None


async def test_last_is_never_stale(bus, make_bus, subject):
    """Directly after a publish returned, every client sees that event as the last."""
    other = await make_bus()
    for n in range(50):
        await bus.publish(subject, event(n))
        mine, theirs = await asyncio.gather(bus.last(subject), other.last(subject))
        assert numbers([mine, theirs]) == [n, n]


async def test_a_last_that_is_no_event_is_not_hidden(backend, bus, subjects, subject):
    """An older event in its place would be a lie, so last raises the decoder's error."""
    await bus.publish(subject, event(0))
    await backend.store_raw(subjects.prefix, subject, {"ce-specversion": "9.0"}, b"?")
    with pytest.raises(MalformedEventError):
        await bus.last(subject)


@pytest.mark.parametrize("filters", ["elsewhere.>", ">", "*.x"])
async def test_a_filter_of_no_stream_is_refused(bus, filters):
    """A filter that selects nothing, or from several streams, is a mistake and told so."""
    with pytest.raises(ConfigurationError):
        await collect(bus.read(filters))
    with pytest.raises(ConfigurationError):
        await bus.last(filters)


async def test_abandoned_readers_leave_nothing_behind(bus, subject):
    """A reader that is left half-way, or cancelled while it waits, does not disturb the next one."""
    for n in range(3):
        await bus.publish(subject, event(n))
    for _ in range(20):
        async with aclosing(bus.read(subject, follow=True)) as reading:
            assert number((await anext(reading)).event) == 0
    waiting = asyncio.create_task(collect(bus.read(subject, follow=True), 4))
    await asyncio.sleep(NEVER / 3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert numbers(await collect(bus.read(subject))) == [0, 1, 2]


async def test_the_extent_of_a_stream(bus, make_bus, subjects, subject):
    """Its last place counts every subject of it; its epoch is the same for every client and after a reconnect."""
    before = await bus.extent(f"{subjects.prefix}.>")
    assert before.whole
    assert not (await bus.extent(f"{subjects.prefix}.>", after=Position("nonsense"))).whole
    acks = [await bus.publish(subject, event(n)) for n in range(3)]
    found = await (await make_bus()).extent(subject)

    assert (found.epoch, found.last, found.whole) == (before.epoch, acks[-1].position, True)
    assert found.epoch.isalnum()
    assert (await bus.extent(f"{subjects.prefix}ui.>")).last != found.last


async def test_what_is_gone_is_not_whole(bus, backend, subjects):
    """Once the oldest are discarded, only what lies behind the newest of them is whole; other positions never are."""
    address = subjects.ui("tool.progress", run="r")
    first = await bus.publish(address, event(0))
    await backend.limit(subjects.prefix, f"{subjects.prefix}ui", 20_000)
    last = first
    for n in range(1, 12):
        last = await bus.publish(address, event(n, data=b'"%s"' % (b"x" * 4000)))

    async def discarded():
        return not (await bus.extent(address)).whole

    await until(discarded)  # Kafka does it in the background
    assert not (await bus.extent(address, after=first.position)).whole
    assert (await bus.extent(address, after=last.position)).whole
    assert not (await bus.extent(address, after=Position("nonsense"))).whole
