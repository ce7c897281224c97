"""Bus: opening, closing, losing the broker and getting it back."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from contract.conftest import BUSES
from contract.helpers import SOON, event, until
from crossfade.shim.errors import BusAmbiguousError, BusError, BusUnavailableError
from crossfade.shim.ports import BusInfo, BusSettings

# An embedded server is started again by whoever needs it, so it never stays away.
STAYS_AWAY = pytest.mark.parametrize("backend", [bus for bus in BUSES if bus != "embedded"], indirect=True)


async def reconnected(bus):
    async def connected():
        return bus.connected

    await until(connected, timeout=10)


async def test_a_bus_that_is_not_open_sends_nothing(backend, hooks, subjects, subject):
    """Before open everything that would reach the broker says that nothing was sent."""
    bus = backend.client(BusSettings(prefix=subjects.prefix), hooks)
    assert not bus.connected
    with pytest.raises(BusUnavailableError):
        await bus.publish(subject, event(1))
    with pytest.raises(BusUnavailableError):
        bus.emit(subject, event(1))
    await bus.close()


async def test_open_connects(bus):
    """After open the bus is connected and knows its broker."""
    assert bus.connected
    info = await bus.info()
    assert isinstance(info, BusInfo)
    assert info.scheme
    assert info.version
    assert info.max_event_bytes >= 64 * 1024


async def test_close_may_be_repeated(bus):
    """close is idempotent, and the bus is not connected afterwards."""
    await bus.close()
    await bus.close()
    assert not bus.connected


async def test_a_closed_bus_refuses(bus, subjects, subject, commands):
    """After close nothing is sent: every operation raises, none hangs."""
    state = bus.state("policy")
    await bus.close()
    attempts = [
        lambda: bus.publish(subject, event(1)),
        lambda: bus.last(subject),
        lambda: state.get("a"),
        lambda: state.put("a", b"1"),
        lambda: bus.put_object(b"1"),
        lambda: bus.listen("x", print),
        bus.reap,
        lambda: bus.consume("workers", [commands]).__aenter__(),
        lambda: anext(bus.read(subject)),
        lambda: anext(state.watch()),
        lambda: anext(bus.dead_letters()),
    ]
    for attempt in attempts:
        with pytest.raises(BusUnavailableError):
            await asyncio.wait_for(attempt(), SOON)
    for attempt in (lambda: bus.emit(subject, event(1)), lambda: bus.reply(subjects.reply("x"), event(1))):
        with pytest.raises(BusUnavailableError):
            attempt()


async def test_closing_ends_those_who_wait(bus, subject, commands):
    """Who waits for a delivery, an event or a change is told when the bus is closed under it."""
    async with bus.consume("workers", [commands]) as deliveries:
        waiting = [
            asyncio.create_task(deliveries.next()),
            asyncio.ensure_future(anext(bus.read(subject, follow=True))),
            asyncio.ensure_future(anext(bus.state("policy").watch())),
        ]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(bus.close(), SOON)
        ended, _ = await asyncio.wait(waiting, timeout=SOON)
    assert [task in ended and type(task.exception()) for task in waiting] == [BusUnavailableError] * 3


async def test_closing_leaves_nothing_running(backend, hooks, subjects, subject, commands):
    """After close no task and no thread of the bus is left."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    bus = backend.client(BusSettings(prefix=subjects.prefix), hooks)
    await bus.open()
    await bus.publish(subject, event(1))
    await bus.listen("x", print)
    async with bus.consume("workers", [commands]) as deliveries:
        await (await deliveries.next(timeout=SOON)).ack()
    await bus.state("policy").put("a", b"1")
    await bus.close()

    async def only_the_old():
        return asyncio.all_tasks() <= tasks and set(threading.enumerate()) <= threads

    await until(only_the_old)


@STAYS_AWAY
async def test_without_a_broker_nothing_is_sent(backend, bus, subject):
    """While the broker is away a publish fails within its timeout, and says whether it may have been sent."""
    await bus.publish(subject, event(1))
    await backend.stop()

    async def noticed():
        return not bus.connected

    await until(noticed)
    started = asyncio.get_running_loop().time()
    with pytest.raises(BusUnavailableError):
        await bus.publish(subject, event(2), timeout=1)
    with pytest.raises(BusUnavailableError):
        bus.emit(subject, event(3))
    assert asyncio.get_running_loop().time() - started < 3


@STAYS_AWAY
async def test_opening_without_a_broker_fails_in_time(backend, hooks, subjects):
    """open does not wait for ever: it raises within connect_timeout, and may be called again."""
    bus = backend.client(BusSettings(prefix=subjects.prefix, connect_timeout=1.0), hooks)
    await backend.stop()
    with pytest.raises(BusUnavailableError):
        await asyncio.wait_for(bus.open(), 3)
    assert not bus.connected
    await backend.start()
    await bus.open()
    assert bus.connected
    await bus.close()


@STAYS_AWAY
async def test_an_ack_without_an_answer_raises(backend, bus, subject, commands):
    """An ack that nobody confirmed raises BusAmbiguousError: the event comes again."""
    await bus.publish(subject, event(1))
    async with bus.consume("workers", [commands]) as deliveries:
        delivery = await deliveries.next(timeout=SOON)
        await backend.stop()
        with pytest.raises(BusAmbiguousError):
            await asyncio.wait_for(delivery.ack(), 10)


async def test_the_broker_comes_back(backend, bus, subject):
    """After a restart the bus reconnects by itself, calls those who asked for it, and works."""
    calls = asyncio.Queue()

    async def back():
        calls.put_nowait(bus.connected)

    bus.on_reconnect(back)
    await backend.stop()
    await backend.start()
    assert await asyncio.wait_for(calls.get(), 10)
    await bus.publish(subject, event(1))
    assert calls.empty()


async def test_a_reconnect_callback_that_raises_harms_nobody(backend, bus, hooks, subject):
    """An error in one callback is counted, the others are called all the same."""
    called = asyncio.Event()

    async def fails():
        raise ValueError("planted")

    async def works():
        called.set()

    bus.on_reconnect(fails)
    bus.on_reconnect(works)
    await backend.stop()
    await backend.start()
    await asyncio.wait_for(called.wait(), 10)

    async def counted():
        return hooks.get("failed", reason="ValueError")

    assert await until(counted) == 1
    await bus.publish(subject, event(1))


async def test_the_broker_comes_back_twice(backend, bus, subject):
    """Reconnecting is for ever, not once."""
    for n in range(2):
        await backend.stop()
        await backend.start()

        async def published(n=n):
            try:
                return await bus.publish(subject, event(n), timeout=1)
            except BusError:
                return None

        await until(published, timeout=10)


async def test_the_brokers_time(bus):
    """now is the broker's clock, here this machine's, within the error it states and a scheduling delay."""
    assert timedelta(0) <= bus.clock_error < timedelta(seconds=1)
    difference = abs(bus.now() - datetime.now(UTC))
    assert difference <= bus.clock_error + timedelta(milliseconds=50)


async def test_what_is_stored_outlives_the_client(backend, bus, make_bus, subject):
    """A client that closes takes nothing with it."""
    await bus.publish(subject, event(1))
    await bus.state("policy").put("a", b"1")
    ref = await bus.put_object(b"data")
    await bus.close()
    other = await make_bus()
    assert await other.last(subject)
    assert (await other.state("policy").get("a")).value == b"1"
    assert await other.get_object(ref) == b"data"


async def test_installations_share_a_broker(backend, bus, hooks, subject, subjects):
    """Two prefixes on one broker do not see each other, and neither writes to the other."""
    other = backend.client(BusSettings(prefix="x" + subjects.prefix[:20]), hooks)
    await other.open()
    try:
        await bus.publish(subject, event(1))
        await bus.state("policy").put("a", b"1")
        assert await other.state("policy").entries() == []
        with pytest.raises(BusError):
            await other.publish(subject, event(2))
    finally:
        await other.close()
        await backend.clean("x" + subjects.prefix[:20])
