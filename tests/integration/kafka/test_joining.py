"""Joining late: a process begins with what is recent, and reads the day before only when something asks for it."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.adapters.kafka import _logs
from crossfade.shim.errors import WrongPositionError
from crossfade.shim.events import Event
from crossfade.shim.ports import ConsumeOptions


@pytest.fixture
def place(subjects):
    """The subject of one call, by kind."""
    return lambda kind, n=1: subjects.call(kind, domain="tool", seam="a", run="r", callid=f"c{n}")


@pytest.fixture
async def late(bus, opened, kafka_broker, place, monkeypatch):
    """A bus to which the commands stored before it are long ago; they are five, the first one is claimed."""
    for n in range(5):
        await bus.publish(place("invoke", n), event(n))
    await claim(bus, place, 0)
    monkeypatch.setattr(_logs, "RECENT", -5_000)
    return await opened(kafka_broker.url)


def event(n=0):
    return Event(type="tool.invoke", source="urn:t", data=str(n).encode())


def everything(place, n):
    return f"{place('own', n).rpartition('.')[0]}.>"


async def claim(bus, place, n):
    return await bus.append(place("own", n), event(), last=everything(place, n), at=await command(bus, place, n))


async def command(bus, place, n):
    return (await bus.last(place("invoke", n))).position


def fold_of(bus, place):
    return bus._logs.of_subject(place("own"))._fold_


async def test_a_call_takes_no_past(late, bus, subjects, place):
    """A command, its delivery and its result: nothing of what was there before is read."""
    async with late.consume("w", [subjects.commands("tool", "a")], ConsumeOptions(start="new")) as deliveries:
        await bus.publish(place("invoke", 9), event(9))
        delivery = await deliveries.next(timeout=10)
        assert delivery.stored.event.data == b"9"
        await claim(late, place, 9)
        await late.publish(place("result", 9), event(9))
        await delivery.ack()
    assert not fold_of(late, place).whole
    assert fold_of(late, place).start >= 5


async def test_a_claim_of_long_ago_stands(late, place):
    """Who looks at it finds it, and who comes to claim the call, or thinks that it is new, is refused."""
    assert (await late.last(place("own", 0))).subject == place("own", 0)
    for at in (None, await command(late, place, 0)):
        with pytest.raises(WrongPositionError):
            await late.append(place("own", 0), event(), last=everything(place, 0), at=at)


async def test_a_command_of_long_ago_is_claimed_once(late, bus, place):
    """Of claims by who knows the past and who must read it first, one wins."""
    positions = [await command(bus, place, n) for n in range(1, 5)]

    async def won(by, n):
        try:
            await by.append(place("own", n), event(), last=everything(place, n), at=positions[n - 1])
        except WrongPositionError:
            return 0
        return 1

    async with asyncio.timeout(20):
        assert await asyncio.gather(*(_sum(won(late, n), won(bus, n)) for n in range(1, 5))) == [1] * 4
    for n in range(1, 5):
        assert (await late.last(place("own", n))).position == (await bus.last(place("own", n))).position


async def _sum(*each):
    return sum(await asyncio.gather(*each))


async def test_others_losing_claims_are_judged_by_the_past(late, bus, place):
    """A claim that lost to one of long ago is shown to nobody who follows only from later on."""
    await late.publish(place("invoke", 9), event(9))  # follows from here on
    publishing = bus._publishing
    headers, value = publishing.encode(place("own", 0), event())
    headers += [("cf_last", everything(place, 0).encode()), ("cf_at", b"0")]
    log = bus._logs.of_subject(place("own"))
    await publishing._placed(log, place("own", 0), value, headers, 10)  # past its own judgement
    owned = [stored.position async for stored in bus.read(place("own", 0))]
    assert [stored.position async for stored in late.read(place("own", 0))] == owned
    assert len(owned) == 1
