"""Delivery: ended once, by its holder, in time; else it comes again."""

from __future__ import annotations

import asyncio

import pytest

from contract.helpers import ACK_WAIT, NEVER, PATIENT, QUICK, SOON, collect, drain, event, number, take
from crossfade.shim.errors import BusAmbiguousError, BusError
from crossfade.shim.ports import ConsumeOptions


def clock():
    return asyncio.get_running_loop().time()


async def test_acknowledged_is_over(bus, subject, commands):
    """After ack the event is not handed out again, not even after ack_wait."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        await (await deliveries.next(timeout=SOON)).ack()
        assert await deliveries.next(timeout=ACK_WAIT + NEVER) is None


async def test_a_silent_member_loses_its_delivery(bus, make_bus, subject, commands):
    """Without a word the event goes to another member after ack_wait, not before, as a second attempt."""
    other = await make_bus()
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as one:
        asked = clock()
        assert (await one.next(timeout=SOON)).attempt == 1
        given = clock()
        one.want(0)
        async with other.consume("workers", [commands], QUICK) as two:
            again = await two.next(timeout=SOON)
            assert clock() - asked >= ACK_WAIT * 0.9
            assert clock() - given <= ACK_WAIT + 2
            assert again.attempt == 2
            await again.ack()


async def test_a_lost_delivery_does_not_fill_the_hands(bus, subject, commands):
    """A member that overran may be handed the same event again; what it lost no longer counts as held."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        first = await deliveries.next(timeout=SOON)
        second = await deliveries.next(timeout=SOON)
        assert (first.attempt, second.attempt) == (1, 2)
        await second.ack()


async def test_attempts_are_counted(bus, subject, commands):
    """Every hand-out has the next number, whether the last one ended in silence or in retry."""
    await bus.publish(subject, event(1))
    attempts = []
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        for turn in range(4):
            delivery = await deliveries.next(timeout=SOON)
            attempts.append(delivery.attempt)
            if turn % 2:
                await delivery.retry(0, reason="test")
        assert attempts == [1, 2, 3, 4]


async def test_saying_that_work_goes_on_keeps_it(bus, subject, commands):
    """extend within ack_wait, again and again, and nobody else gets the event; the ack then counts."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        deliveries.want(2)
        delivery = await deliveries.next(timeout=SOON)
        for _ in range(4):
            assert await deliveries.next(timeout=ACK_WAIT * 0.4) is None
            await delivery.extend()
        await delivery.ack()
        assert await deliveries.next(timeout=ACK_WAIT + NEVER) is None


async def test_extending_lasts_one_ack_wait(bus, subject, commands):
    """After the last extend the event comes again when another ack_wait is over."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], QUICK) as deliveries:
        deliveries.want(2)
        delivery = await deliveries.next(timeout=SOON)
        await asyncio.sleep(ACK_WAIT * 0.4)
        extended = clock()
        await delivery.extend()
        again = await deliveries.next(timeout=SOON)
        assert clock() - extended >= ACK_WAIT * 0.9
        await again.ack()


async def test_retry_waits_its_delay(bus, hooks, subject, commands):
    """After retry the event comes again when the delay is over, not earlier, as the next attempt; it is counted."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        first = await deliveries.next(timeout=SOON)
        asked = clock()
        await first.retry(0.4, reason="busy")
        again = await deliveries.next(timeout=SOON)
        assert 0.39 <= clock() - asked < 3
        assert again.attempt == 2
        assert again.stored == first.stored
        await again.ack()
    assert hooks.get("retried", reason="busy") == 1


async def test_retry_without_delay_comes_at_once(bus, subject, commands):
    """retry(0) does not wait for ack_wait."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        await (await deliveries.next(timeout=SOON)).retry(0, reason="test")
        again = await deliveries.next(timeout=SOON)
        assert again.attempt == 2
        await again.ack()


async def test_others_pass_what_waits_for_its_retry(bus, subject, commands):
    """An event that waits for its retry holds up nobody behind it, and its member's hands are free."""
    for n in range(3):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        await (await deliveries.next(timeout=SOON)).retry(0.2, reason="test")
        assert [(number(d.stored.event), d.attempt) for d in await drain(deliveries, 3, quiet=0.4)] == [
            (1, 1),
            (2, 1),
            (0, 2),
        ]


async def test_a_late_word_is_refused(bus, make_bus, hooks, subject, commands):
    """Who overran ack_wait holds nothing: its word raises, is counted, and takes nothing from the new holder."""
    other = await make_bus()
    words = ("ack", "retry", "reject", "extend")
    for n in range(4):
        await bus.publish(subject, event(n))
    options = ConsumeOptions(ack_wait=1.5)
    async with bus.consume("workers", [commands], options) as one:
        one.want(4)
        late = await take(one, 4)
        one.want(0)
        async with other.consume("workers", [commands], options) as two:
            two.want(4)
            holders = await take(two, 4)
            assert [d.attempt for d in holders] == [2] * 4
            one.want(8)
            for delivery, word in zip(late, words, strict=True):
                with pytest.raises(BusAmbiguousError):
                    await say(delivery, word)
            assert await one.next(timeout=NEVER) is None, "a third delivery while the second is out"
            assert await collect(bus.dead_letters()) == []
            for delivery in holders:
                await delivery.ack()
            assert await one.next(timeout=1.5 + NEVER) is None
    assert {word: hooks.get("late", reason=word) for word in words} == dict.fromkeys(words, 1)


async def say(delivery, word):
    arguments = {"retry": ((0,), {"reason": "test"}), "reject": (("test",), {})}
    positional, named = arguments.get(word, ((), {}))
    await getattr(delivery, word)(*positional, **named)


@pytest.mark.parametrize("first", ["ack", "retry", "reject"])
async def test_only_the_first_word_ends_it(bus, subject, commands, first):
    """Exactly one of ack, retry and reject ends a delivery; a second word raises and changes nothing."""
    words = ("ack", "retry", "reject", "extend")
    for n in range(4):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], PATIENT) as deliveries:
        deliveries.want(4)
        held = await take(deliveries, 4)
        for delivery, second in zip(held, words, strict=True):
            await say(delivery, first)
            with pytest.raises(BusError):
                await say(delivery, second)
        again = await drain(deliveries, 4 if first == "retry" else 0)
    assert [d.attempt for d in again] == ([2] * 4 if first == "retry" else [])
    assert len(await collect(bus.dead_letters())) == (4 if first == "reject" else 0)


async def test_redelivery_is_not_held_back_by_the_bound(bus, subject, commands):
    """An event that comes again needs no new room: a group whose max_in_flight is used up by it goes on."""
    for n in range(2):
        await bus.publish(subject, event(n))
    options = ConsumeOptions(max_in_flight=1, ack_wait=ACK_WAIT)
    async with bus.consume("workers", [commands], options) as deliveries:
        deliveries.want(5)
        assert (await deliveries.next(timeout=SOON)).attempt == 1
        again = await deliveries.next(timeout=SOON)
        assert (number(again.stored.event), again.attempt) == (0, 2)
        await again.ack()
        assert [number(d.stored.event) for d in await drain(deliveries, 1)] == [1]


async def test_many_overrun_at_once(bus, subject, commands):
    """Twenty events whose member fell silent all come again, each once."""
    for n in range(20):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands], ConsumeOptions(ack_wait=1.2)) as deliveries:
        deliveries.want(20)
        assert len(await take(deliveries, 20)) == 20
        again = await take(deliveries, 20)
        assert sorted((number(d.stored.event), d.attempt) for d in again) == [(n, 2) for n in range(20)]
        await asyncio.gather(*(delivery.ack() for delivery in again))
        assert await deliveries.next(timeout=1.2 + NEVER) is None
