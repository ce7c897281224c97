"""DeadLetters: what could not be processed is kept whole, with its reason, and counted."""

from __future__ import annotations

import pytest

from contract.helpers import ACK_WAIT, NEVER, QUICK, SOON, collect, drain, event, number, take, until
from crossfade.shim.bindings import to_nats
from crossfade.shim.ports import ConsumeOptions


async def test_rejected_is_kept_whole(bus, hooks, subject, commands):
    """A dead letter has event, headers and bytes as they arrived, who gave up, why, and after how many attempts."""
    sent = event(1, userid="alice@example.com", tenantid="acme")
    ack = await bus.publish(subject, sent)
    async with bus.consume("workers", [commands]) as deliveries:
        await (await deliveries.next(timeout=SOON)).retry(0, reason="test")
        await (await deliveries.next(timeout=SOON)).reject("poison", detail="ValueError: nö\nsecond line")
        assert await deliveries.next(timeout=NEVER) is None
    (letter,) = await collect(bus.dead_letters())
    assert letter.event == sent
    assert letter.data == sent.data
    assert to_nats(sent).items() <= letter.headers.items()
    assert (letter.subject, letter.group, letter.origin) == (subject, "workers", ack.position)
    assert (letter.reason, letter.detail) == ("poison", "ValueError: nö\nsecond line")
    assert letter.attempts == 2
    assert hooks.get("dead-lettered", reason="poison") == 1


async def test_a_detail_may_be_long(bus, subject, commands):
    """Of a traceback with any character at least the first kilobyte survives as it was."""
    await bus.publish(subject, event(1))
    detail = "Traceback:\n" + "  ü\t€ 😀 \x00 %41\r\n" * 200
    async with bus.consume("workers", [commands]) as deliveries:
        await (await deliveries.next(timeout=SOON)).reject("poison", detail=detail)
    (letter,) = await collect(bus.dead_letters())
    assert detail.startswith(letter.detail)
    assert len(letter.detail.encode()) >= 1000


async def test_retry_of_the_last_attempt_is_a_dead_letter(bus, hooks, subject, commands):
    """There is no further attempt, so retry gives up at once and the dead letter tells why it was asked for."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands], ConsumeOptions(max_deliver=2)) as deliveries:
        await (await deliveries.next(timeout=SOON)).retry(0, reason="busy")
        await (await deliveries.next(timeout=SOON)).retry(0, reason="still busy")
        assert await deliveries.next(timeout=NEVER) is None
    (letter,) = await collect(bus.dead_letters())
    assert (letter.reason, letter.detail, letter.attempts) == ("max-deliver", "still busy", 2)
    assert await bus.reap() == 0


async def test_dead_letters_come_oldest_first(bus, subject, commands):
    """They are listed in the order in which they were given up."""
    for n in range(5):
        await bus.publish(subject, event(n))
    async with bus.consume("workers", [commands]) as deliveries:
        for _ in range(5):
            await (await deliveries.next(timeout=SOON)).reject("poison")
    letters = await collect(bus.dead_letters())
    assert [number(letter.event) for letter in letters] == list(range(5))
    assert [letter.time for letter in letters] == sorted(letter.time for letter in letters)
    assert len({letter.position for letter in letters}) == 5


async def test_no_dead_letters(bus):
    """Without any there is nothing to list, and reading ends."""
    assert await collect(bus.dead_letters()) == []


async def test_each_group_gives_up_for_itself(bus, subject, commands):
    """What one group rejects another still gets; both may give the same event up."""
    await bus.publish(subject, event(1))
    for group in ("one", "two"):
        async with bus.consume(group, [commands]) as deliveries:
            await (await deliveries.next(timeout=SOON)).reject("poison")
    assert sorted(letter.group for letter in await collect(bus.dead_letters())) == ["one", "two"]


async def test_bytes_that_are_no_event_are_never_handed_out(backend, bus, hooks, subjects, subject, commands):  # noqa: PLR0917 - fixtures
    """Undecodable bytes go to dead letters as they are, with a reason, counted; what follows is delivered."""
    strange = [
        ({"ce-specversion": "9.0", "ce-id": "1"}, b"\xff\x00\r\n"),
        ({}, b""),
        ({"Content-Type": "application/cloudevents+json"}, b"{not json"),
        ({"ce-specversion": "1.0", "ce-id": "%FF", "ce-source": "s", "ce-type": "t"}, b"{}"),
    ]
    for headers, data in strange:
        await backend.store_raw(subjects.prefix, subject, headers, data)
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands]) as deliveries:
        assert [number(d.stored.event) for d in await drain(deliveries, 1)] == [1]
    letters = await collect(bus.dead_letters())
    assert [(letter.event, letter.data) for letter in letters] == [(None, data) for _, data in strange]
    for letter, (headers, _) in zip(letters, strange, strict=True):
        assert headers.items() <= letter.headers.items()
        assert letter.reason
        assert hooks.get("dead-lettered", reason=letter.reason)
    assert hooks.get("dead-lettered") == len(strange)


async def test_deliveries_that_ran_out_are_reaped(bus, hooks, subject, commands):
    """After max_deliver silent hand-outs no member gets the event; reap moves it to dead letters, once."""
    sent = event(1)
    ack = await bus.publish(subject, sent)
    await bus.publish(subject, event(2))
    options = ConsumeOptions(ack_wait=ACK_WAIT, max_deliver=2)
    async with bus.consume("workers", [commands], options) as deliveries:
        deliveries.want(5)
        held = await take(deliveries, 2)
        await held[1].ack()
        assert (await deliveries.next(timeout=SOON)).attempt == 2
        assert await deliveries.next(timeout=ACK_WAIT + NEVER) is None
    assert await until(bus.reap) == 1
    assert await bus.reap() == 0
    (letter,) = await collect(bus.dead_letters())
    assert (letter.event, letter.data, letter.origin) == (sent, sent.data, ack.position)
    assert (letter.subject, letter.group, letter.attempts) == (subject, "workers", 2)
    assert letter.reason == "max-deliver"
    assert hooks.get("dead-lettered", reason="max-deliver") == 1


async def test_a_group_whose_members_all_died_is_reaped(bus, make_bus, subject, commands):
    """Nobody pulls any more, and reap from another process still finds what they left at their last attempt."""
    await bus.publish(subject, event(1))
    dying = await make_bus()
    options = ConsumeOptions(ack_wait=ACK_WAIT, max_deliver=1)
    async with dying.consume("workers", [commands], options) as deliveries:
        await deliveries.next(timeout=SOON)
    await dying.close()
    assert await until(bus.reap) == 1
    (letter,) = await collect(bus.dead_letters())
    assert letter.attempts == 1


async def test_reap_leaves_what_is_under_way(bus, subject, commands):
    """An event that is out at its last attempt, or waits for its retry, is nobody's to reap."""
    for n in range(2):
        await bus.publish(subject, event(n))
    options = ConsumeOptions(ack_wait=30, max_deliver=2)
    async with bus.consume("workers", [commands], options) as deliveries:
        deliveries.want(2)
        waiting = await deliveries.next(timeout=SOON)
        await waiting.retry(30, reason="test")
        out = await deliveries.next(timeout=SOON)
        await out.retry(0, reason="test")
        out = await deliveries.next(timeout=SOON)
        assert out.attempt == 2
        assert await bus.reap() == 0
        await out.ack()
    assert await collect(bus.dead_letters()) == []


async def test_two_reapers_bury_once(bus, make_bus, subject, commands):
    """Two processes that reap at the same time leave one dead letter per event."""
    for n in range(5):
        await bus.publish(subject, event(n))
    options = ConsumeOptions(ack_wait=ACK_WAIT, max_deliver=1)
    async with bus.consume("workers", [commands], options) as deliveries:
        deliveries.want(5)
        assert len(await take(deliveries, 5)) == 5
        assert await deliveries.next(timeout=ACK_WAIT + NEVER) is None
    other = await make_bus()

    async def reaped():
        await bus.reap()
        await other.reap()
        return len(await collect(bus.dead_letters())) >= 5

    await until(reaped)
    assert sorted(number(letter.event) for letter in await collect(bus.dead_letters())) == list(range(5))


async def test_dead_letters_outlive_a_broker_restart(backend, bus, subject, commands):
    """They are stored, not remembered."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands]) as deliveries:
        await (await deliveries.next(timeout=SOON)).reject("poison")
    await backend.stop()
    await backend.start()

    async def listed():
        return bus.connected and await collect(bus.dead_letters())

    (letter,) = await until(listed)
    assert letter.reason == "poison"


@pytest.mark.parametrize("family", ["observation", "fact"])
async def test_other_streams_have_dead_letters_too(bus, subjects, family):
    """A group on observations or facts gives up as one on commands does."""
    address = subjects.observation("a") if family == "observation" else subjects.fact("webhook.received")
    await bus.publish(address, event(1))
    async with bus.consume("workers", [address], QUICK) as deliveries:
        await (await deliveries.next(timeout=SOON)).reject("poison")
    (letter,) = await collect(bus.dead_letters())
    assert letter.subject == address
