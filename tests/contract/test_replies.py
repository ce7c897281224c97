"""Replies: the fast path to the caller that waits."""

from __future__ import annotations

import asyncio

from contract.helpers import NEVER, SOON, event, number
from crossfade.shim.events import new_id


async def test_a_reply_reaches_the_caller(bus, make_bus, hooks):
    """A reply sent by another client to the address listen returned arrives as it was sent."""
    received = asyncio.Queue()
    address = await bus.listen(new_id(), received.put_nowait)
    sent = event(1, callid="c1", userid="ü € 😀")
    (await make_bus()).reply(address, sent)
    assert await asyncio.wait_for(received.get(), SOON) == sent


async def test_replies_come_in_order(bus, make_bus):
    """One sender's replies arrive in the order in which they were sent."""
    received = asyncio.Queue()
    address = await bus.listen(new_id(), received.put_nowait)
    other = await make_bus()
    for n in range(100):
        other.reply(address, event(n))
    async with asyncio.timeout(SOON):
        assert [number(await received.get()) for _ in range(100)] == list(range(100))


async def test_each_instance_has_its_own_address(bus, make_bus, subject):
    """A reply reaches the instance it is for and no other."""
    one, two = asyncio.Queue(), asyncio.Queue()
    first = await bus.listen("one" + new_id(), one.put_nowait)
    other = await make_bus()
    second = await other.listen("two" + new_id(), two.put_nowait)
    await other.publish(subject, event(0))  # the command that carries the address
    assert first != second
    bus.reply(second, event(2))
    bus.reply(first, event(1))
    async with asyncio.timeout(SOON):
        assert number(await one.get()) == 1
        assert number(await two.get()) == 2
    await asyncio.sleep(NEVER / 3)
    assert one.empty()
    assert two.empty()


async def test_a_reply_to_nobody_is_lost(bus, subjects):
    """Nobody listens any more: the reply is a hint, so sending it raises nothing."""
    bus.reply(subjects.reply("nobody"), event(1))


async def test_a_receiver_that_raises_hears_the_next_reply(bus, hooks):
    """An error in the receiver is counted and ends nothing."""
    received = asyncio.Queue()

    def receive(reply):
        if number(reply) == 0:
            raise ValueError("planted")
        received.put_nowait(reply)

    address = await bus.listen(new_id(), receive)
    for n in range(2):
        bus.reply(address, event(n))
    assert number(await asyncio.wait_for(received.get(), SOON)) == 1
    assert hooks.get("failed", reason="ValueError") == 1


async def test_replies_after_a_broker_restart(backend, bus, make_bus):
    """The address stays good over a restart of the broker."""
    received = asyncio.Queue()
    back = asyncio.Event()

    async def reconnected():
        back.set()

    bus.on_reconnect(reconnected)
    address = await bus.listen(new_id(), received.put_nowait)
    await backend.stop()
    await backend.start()
    await asyncio.wait_for(back.wait(), 10)
    (await make_bus()).reply(address, event(1))
    assert number(await asyncio.wait_for(received.get(), SOON)) == 1


async def test_replies_are_not_stored(bus, subjects):
    """A reply leaves nothing in any stream."""
    received = asyncio.Queue()
    address = await bus.listen(new_id(), received.put_nowait)
    bus.reply(address, event(1))
    await asyncio.wait_for(received.get(), SOON)
    assert await bus.last(f"{subjects.prefix}.>") is None
