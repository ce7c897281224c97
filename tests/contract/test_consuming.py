"""Consumer and Deliveries: who is handed what, in which order, how much at once."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from contract.helpers import ACK_WAIT, NEVER, PATIENT, QUICK, SOON, collect, drain, event, number, share, take, until
from crossfade.shim.errors import BusError, ConfigurationError
from crossfade.shim.ports import ConsumeOptions


async def test_everything_published_is_handed_out(bus, subject, commands):
    """A delivery carries the event as it was published, where it lies, and that it is the first attempt."""
    sent = event(1, userid="alice")
    ack = await bus.publish(subject, sent)
    async with bus.consume("workers", [commands]) as deliveries:
        delivery = await deliveries.next(timeout=SOON)
        assert delivery.stored.event == sent
        assert delivery.stored.subject == subject
        assert delivery.stored.position == ack.position
        assert delivery.stored.time == (await bus.last(subject)).time
        assert delivery.attempt == 1
        await delivery.ack()


async def test_first_deliveries_come_in_order_of_storage(bus, subject, commands):
    """However the group pulls, what it sees for the first time is in order."""
    for n in range(30):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        deliveries.want(10)
        assert [number(d.stored.event) for d in await drain(deliveries, 30)] == list(range(30))


async def test_what_comes_later_wakes_a_waiting_member(bus, subject, commands):
    """A member that waits is handed an event when it is stored, not at the next poll."""
    async with bus.consume("workers", [commands]) as deliveries:
        waiting = asyncio.create_task(deliveries.next(timeout=SOON))
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        await bus.publish(subject, event(1))
        delivery = await waiting
        assert asyncio.get_running_loop().time() - started < 1
        await delivery.ack()


async def test_members_share_the_work(bus, make_bus, subject, commands):
    """Two members of one group, on two clients, get every event once between them, and both get some."""
    other = await make_bus()
    async with bus.consume("workers", [commands]) as one, other.consume("workers", [commands]) as two:
        for n in range(40):
            await bus.publish(subject, event(n))
        first, second = await asyncio.gather(drain(one, 1, quiet=1), drain(two, 1, quiet=1))
    assert sorted(number(d.stored.event) for d in first + second) == list(range(40))
    assert first
    assert second


async def test_two_groups_both_get_everything(bus, subject, commands):
    """What one group has acknowledged is still to come for another."""
    for n in range(5):
        await bus.publish(subject, event(n))
    for group in ("one", "two"):
        async with bus.consume(group, [commands]) as deliveries:
            assert [number(d.stored.event) for d in await drain(deliveries, 5)] == list(range(5))


async def test_a_group_sees_only_what_its_filters_select(bus, subjects):
    """Every filter of a group counts, and nothing else reaches it."""
    addresses = [
        subjects.call(kind, domain="tool", seam=seam, run="r", callid="c")
        for seam in ("a", "b", "c.d")
        for kind in ("invoke", "result")
    ]
    for n, address in enumerate(addresses):
        await bus.publish(address, event(n))
    filters = [subjects.commands("tool", "a"), subjects.commands("tool", "c.d")]
    async with bus.consume("workers", filters) as deliveries:
        assert [d.stored.subject for d in await drain(deliveries, 2)] == [addresses[0], addresses[4]]


async def test_a_new_group_may_begin_at_the_end(bus, subject, commands):
    """With start="new" a group that did not exist sees only what is stored after it joined."""
    await bus.publish(subject, event(1))
    async with bus.consume("late", [commands], ConsumeOptions(start="new")) as deliveries:
        await bus.publish(subject, event(2))
        assert [number(d.stored.event) for d in await drain(deliveries, 1)] == [2]


async def test_a_group_outlives_its_members(bus, make_bus, subject, commands):
    """A group keeps its place while nobody is in it: nothing is missed, nothing acknowledged comes again."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], ConsumeOptions(start="new")):
        pass
    await bus.publish(subject, event(2))
    async with bus.consume("workers", [commands], ConsumeOptions(start="new")) as deliveries:
        assert [number(d.stored.event) for d in await drain(deliveries, 1)] == [2]
    await bus.publish(subject, event(3))
    async with (await make_bus()).consume("workers", [commands], ConsumeOptions(start="new")) as deliveries:
        assert [number(d.stored.event) for d in await drain(deliveries, 1)] == [3]


async def test_next_gives_up_in_time(bus, commands):
    """Without an event next returns None after its timeout."""
    loop = asyncio.get_running_loop()
    async with bus.consume("workers", [commands]) as deliveries:
        started = loop.time()
        assert await deliveries.next(timeout=0.2) is None
        assert 0.15 <= loop.time() - started < 1.0


async def test_one_delivery_at_a_time_unless_more_are_wanted(bus, make_bus, subject, commands):
    """A member holds one event by default; the rest stays with the broker, and another member gets it at once."""
    for n in range(3):
        await bus.publish(subject, event(n))
    other = await make_bus()
    async with bus.consume("workers", [commands], PATIENT) as one, other.consume("workers", [commands], PATIENT) as two:
        first = await one.next(timeout=SOON)
        assert await one.next(timeout=NEVER) is None
        second = await two.next(timeout=SOON)
        assert (number(first.stored.event), number(second.stored.event)) == (0, 1)
        await first.ack()
        third = await one.next(timeout=SOON)
        assert number(third.stored.event) == 2
        await second.ack()
        await third.ack()


async def test_more_are_handed_out_when_wanted(bus, subject, commands):
    """want(n) allows n deliveries at once in a member's hands, and takes effect while it is in the group."""
    for n in range(5):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        deliveries.want(3)
        held = await take(deliveries, 3)
        assert await deliveries.next(timeout=NEVER) is None
        deliveries.want(4)
        held += await take(deliveries, 1)
        assert await deliveries.next(timeout=NEVER) is None
        await held.pop().ack()
        held += await take(deliveries, 1)
        assert [number(d.stored.event) for d in held] == [0, 1, 2, 4]
        for delivery in held:
            await delivery.ack()


async def test_wanting_less_takes_nothing_away(bus, subject, commands):
    """A member may want less than it holds: what it holds stays its own and nobody is disturbed; nothing more comes."""
    for n in range(4):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], ConsumeOptions(ack_wait=1.2)) as deliveries:
        deliveries.want(3)
        held = await take(deliveries, 3)
        deliveries.want(0)
        assert await deliveries.next(timeout=0.3) is None
        for delivery in held:
            await delivery.ack()
        deliveries.want(1)
        assert [(number(d.stored.event), d.attempt) for d in await drain(deliveries, 1, quiet=0.4)] == [(3, 1)]


async def test_want_wakes_a_waiting_member(bus, subject, commands):
    """A member that waits with full hands goes on when it wants more."""
    for n in range(2):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        first = await deliveries.next(timeout=SOON)
        waiting = asyncio.create_task(deliveries.next(timeout=SOON))
        await asyncio.sleep(0.05)
        deliveries.want(2)
        second = await waiting
        assert number(second.stored.event) == 1
        await first.ack()
        await second.ack()


async def test_deliveries_in_flight_are_bounded_over_all_members(bus, make_bus, subject, commands):
    """max_in_flight counts for the whole group, however much its members want; an ack makes room."""
    for n in range(6):
        await bus.publish(subject, event(n))
    options = ConsumeOptions(max_in_flight=3, ack_wait=30)
    other = await make_bus()
    async with bus.consume("workers", [commands], options) as one, other.consume("workers", [commands], options) as two:
        one.want(10)
        two.want(10)
        held = await share([one, two], 3)
        assert sorted(number(d.stored.event) for d in held) == [0, 1, 2]
        await held.pop().ack()
        more = await share([one, two], 1)
        assert [number(d.stored.event) for d in more] == [3]
        for delivery in held + more:
            await delivery.ack()


async def test_leaving_hands_over_what_was_not_ended(bus, make_bus, subject, commands):
    """What a member held when it left is delivered to another, at once or after ack_wait; nothing is lost."""
    other = await make_bus()
    for n in range(3):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], QUICK) as leaving:
        leaving.want(3)
        held = await take(leaving, 3)
        await held[1].ack()
    async with other.consume("workers", [commands], QUICK) as staying:
        staying.want(2)
        rest = await take(staying, 2, timeout=ACK_WAIT + SOON)
        assert sorted(number(d.stored.event) for d in rest) == [0, 2]
        assert {d.attempt for d in rest} == {2}
        assert await drain(staying) == []
        for delivery in rest:
            await delivery.ack()


async def test_a_delivery_of_a_member_that_left_is_over(bus, subject, commands):
    """After leaving, an old delivery can no longer be acknowledged behind the back of its new holder."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        old = await deliveries.next(timeout=SOON)
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        new = await deliveries.next(timeout=ACK_WAIT + SOON)
        assert new.attempt == 2
        with pytest.raises(BusError):
            await old.ack()
        await new.ack()


async def test_next_cancelled_under_load_loses_nothing(bus, subject, commands):
    """Two hundred cancelled waits while events arrive: every event is still handed out, and once."""
    rng = random.Random(7)
    seen = []
    options = ConsumeOptions(ack_wait=1.0, max_deliver=50)

    async def publish():
        for n in range(150):
            await bus.publish(subject, event(n))
            await asyncio.sleep(rng.random() * 0.002)

    async with bus.consume("workers", [commands], options) as deliveries:
        publishing = asyncio.create_task(publish())
        for _ in range(200):
            waiting = asyncio.create_task(deliveries.next(timeout=SOON))
            await asyncio.sleep(rng.random() * 0.002)
            waiting.cancel()
            try:
                delivery = await waiting
            except asyncio.CancelledError:
                continue
            await delivery.ack()
            seen.append(delivery)
        await publishing
        seen += await drain(deliveries, 150 - len(seen))
    assert {number(d.stored.event) for d in seen} == set(range(150))
    firsts = [number(d.stored.event) for d in seen if d.attempt == 1]
    assert len(firsts) == len(set(firsts))
    assert len(seen) == 150, "acknowledged events came again"


async def test_next_waits_through_a_broker_restart(backend, bus, subject, commands):
    """A member that waits while the broker restarts is handed what comes afterwards."""
    async with bus.consume("workers", [commands]) as deliveries:
        waiting = asyncio.create_task(deliveries.next(timeout=15))
        await asyncio.sleep(0.05)
        await backend.stop()
        await backend.start()

        async def published():
            try:
                return await bus.publish(subject, event(1), timeout=1)
            except BusError:
                return None

        await until(published, timeout=10)
        delivery = await waiting
        assert number(delivery.stored.event) == 1
        await delivery.ack()


async def test_a_restart_forgets_no_acknowledgement(backend, bus, subject, commands):
    """What was acknowledged before a restart stays acknowledged, what was out comes again."""
    for n in range(4):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        deliveries.want(2)
        first, _ = await take(deliveries, 2)
        await first.ack()
        await backend.stop()
        await backend.start()
        ended = set()
        while ended != {1, 2, 3}:
            delivery = await deliveries.next(timeout=10)
            n = number(delivery.stored.event)
            assert n not in ended | {0}
            with suppress(BusError):  # handed out before the stop: it comes again
                await delivery.ack()
                ended.add(n)


async def test_two_members_of_one_client_are_two_members(bus, subject, commands):
    """A client may join a group twice; the members are independent."""
    for n in range(2):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as one, bus.consume("workers", [commands], PATIENT) as two:
        first, second = await one.next(timeout=SOON), await two.next(timeout=SOON)
        assert {number(first.stored.event), number(second.stored.event)} == {0, 1}
        await first.ack()
        await second.ack()


async def test_consuming_leaves_what_is_stored(bus, subject, commands):
    """A delivery that was acknowledged can still be read."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands]) as deliveries:
        await drain(deliveries, 1)
    assert len(await collect(bus.read(subject))) == 1


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a*", "ü", "x" * 201])
async def test_a_name_that_is_no_group_is_refused(bus, commands, name):
    """A group's name must be one on every bus."""
    with pytest.raises(ConfigurationError):
        async with bus.consume(name, [commands]):
            pass


async def test_filters_of_two_streams_are_refused(bus, subjects, commands):
    """A group lives on one stream, so filters of two cannot be promised in order."""
    with pytest.raises(ConfigurationError):
        async with bus.consume("workers", [commands, subjects.observations()]):
            pass
