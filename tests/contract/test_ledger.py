"""Ledger: an append on a condition, of which one writer wins and every writer can find out which."""

from __future__ import annotations

import asyncio

import pytest

from contract.helpers import SOON, collect, event, number
from crossfade.shim.errors import BusFullError, BusRefusedError, EventTooLargeError, WrongPositionError


@pytest.fixture
def own(subjects):
    return subjects.call("own", domain="tool", seam="web.search", run="run1", callid="call1")


@pytest.fixture
def of_call(subjects):
    """Everything of the call, when its subject is known in full."""
    return (
        subjects.call("invoke", domain="tool", seam="web.search", run="run1", callid="call1").removesuffix("invoke")
        + ">"
    )


async def test_appended_where_it_was_expected(bus, subject, own, of_call):
    """With the last event of the filter at the position named, the event is stored behind it."""
    command = await bus.publish(subject, event(0))
    claim = await bus.append(own, event(1), last=of_call, at=command.position)
    found = await bus.last(of_call)
    assert (found.subject, found.position, number(found.event)) == (own, claim, 1)


async def test_refused_when_something_else_is_last(bus, subject, own, of_call):
    """A second append at the same place is refused and stores nothing."""
    command = await bus.publish(subject, event(0))
    await bus.append(own, event(1), last=of_call, at=command.position)
    with pytest.raises(WrongPositionError):
        await bus.append(own, event(2), last=of_call, at=command.position)
    assert [number(stored.event) for stored in await collect(bus.read(of_call))] == [0, 1]


async def test_appended_where_nothing_was(bus, own, of_call):
    """at=None demands that there is no event under the filter."""
    await bus.append(own, event(1), last=of_call, at=None)
    with pytest.raises(WrongPositionError):
        await bus.append(own, event(2), last=of_call, at=None)
    assert len(await collect(bus.read(of_call))) == 1


async def test_refused_where_the_expected_is_gone(bus, subject, subjects, own, of_call):
    """An absent event is at no position: a claim on a command that is not there never wins."""
    elsewhere = subjects.call("invoke", domain="tool", seam="web.search", run="run2", callid="call2")
    other = await bus.publish(elsewhere, event(0))
    with pytest.raises(WrongPositionError):
        await bus.append(own, event(1), last=of_call, at=other.position)
    assert await bus.last(of_call) is None


async def test_other_calls_do_not_interfere(bus, subjects, subject, own, of_call):
    """Only what lies under the filter counts, however much was stored behind it elsewhere."""
    command = await bus.publish(subject, event(0))
    for n in range(5):
        await bus.publish(subjects.call("invoke", domain="tool", seam="a", run="r", callid=f"c{n}"), event(n))
    await bus.append(own, event(1), last=of_call, at=command.position)


async def test_one_of_many_wins(bus, make_bus, subject, own, of_call):
    """Of twenty concurrent claims from two clients exactly one is told that it won, and its event is the one stored."""
    clients = [bus, await make_bus()]
    command = await bus.publish(subject, event(0))

    async def claim(n):
        try:
            return await clients[n % 2].append(own, event(n), last=of_call, at=command.position)
        except WrongPositionError:
            return None

    results = await asyncio.gather(*(claim(n) for n in range(1, 21)))
    (winner,) = [n for n, position in enumerate(results, 1) if position is not None]
    (stored,) = await collect(bus.read(own))
    assert (number(stored.event), stored.position) == (winner, results[winner - 1])


async def test_the_same_event_again_is_no_win(bus, subject, own, of_call):
    """Without unique a repeat is refused, not taken for a duplicate: a loser is never told that it won."""
    command = await bus.publish(subject, event(0))
    claim = event(1)
    await bus.append(own, claim, last=of_call, at=command.position)
    with pytest.raises(WrongPositionError):
        await bus.append(own, claim, last=of_call, at=command.position)


async def test_the_condition_comes_before_the_id(bus, subject, own, of_call):
    """A unique repeat is refused like any other when its condition fails; where it holds, it counts as stored."""
    command = await bus.publish(subject, event(0))
    result = event(1)
    first = await bus.append(own, result, last=of_call, at=command.position, unique=True)
    with pytest.raises(WrongPositionError):
        await bus.append(own, result, last=of_call, at=command.position, unique=True)
    assert await bus.append(own, result, last=of_call, at=first, unique=True) == first
    assert await bus.append(own, result, last=of_call, at=first) != first
    assert len(await collect(bus.read(of_call))) == 3


async def test_an_append_wakes_who_waits(bus, subjects, own, of_call):
    """Appended events are consumed and followed like published ones, without delay."""
    async with bus.consume("workers", [of_call]) as deliveries:
        waiting = asyncio.create_task(deliveries.next(timeout=SOON))
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        await bus.append(own, event(1), last=of_call, at=None)
        await (await waiting).ack()
        assert asyncio.get_running_loop().time() - started < 1


async def test_an_append_is_refused_by_name(backend, bus, subjects, own, of_call):
    """Too large, no stream and a full stream are told as for publish."""
    limit = (await bus.info()).max_event_bytes
    with pytest.raises(EventTooLargeError):
        await bus.append(own, event(data=b"x" * (limit + 1)), last=of_call, at=None)
    with pytest.raises(BusRefusedError):
        await bus.append("elsewhere.x", event(1), last="elsewhere.x", at=None)
    await backend.limit(subjects.prefix, subjects.prefix, 1000)
    with pytest.raises(BusFullError):
        await bus.append(own, event(1, baggage="k=" + "v" * 2000), last=of_call, at=None)
    assert await bus.last(of_call) is None
