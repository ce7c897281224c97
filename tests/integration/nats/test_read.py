"""Reading on a real server: across restarts, with many subjects, and never from a stale copy."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import aclosing

import pytest

from plugins.nats import api, until


async def test_a_restart_in_the_middle(own_bus, server, command, event):
    """A reader goes on at its own cursor: two thousand events once each, in order, over a kill and a start."""
    for start in range(0, 2000, 200):
        await asyncio.gather(*(own_bus.publish(command, event(data=b"%d" % n)) for n in range(start, start + 200)))
    found = []
    async with aclosing(own_bus.read(command)) as reading:
        async for stored in reading:
            found.append(stored.position)
            if len(found) == 100:
                server.restart(kill=True)
    assert [int(position) for position in found] == list(range(1, 2001))


async def test_a_reader_whose_consumer_is_deleted(bus, bare, prefix, command, event):
    """A consumer removed under a follower is made again where the follower stood."""
    stream = f"{prefix.upper()}_CMD"
    await bus.publish(command, event(data=b"0"))
    async with aclosing(bus.read(command, follow=True)) as reading:
        await anext(reading)
        for n in (1, 2):
            (name,) = (await api(bare, f"CONSUMER.NAMES.{stream}"))["consumers"]
            await api(bare, f"CONSUMER.DELETE.{stream}.{name}")
            await bus.publish(command, event(data=b"%d" % n))
            assert (await asyncio.wait_for(anext(reading), 10)).event.data == b"%d" % n


async def test_readers_leave_no_consumers(bus, bare, prefix, command, event):
    """A reader that ended, broke off or was cancelled leaves nothing on the server."""
    for _ in range(5):
        await bus.publish(command, event())
    assert len([stored async for stored in bus.read(command)]) == 5
    async with aclosing(bus.read(command, follow=True)) as reading:
        await anext(reading)

    async def none_left():
        return not (await api(bare, f"CONSUMER.NAMES.{prefix.upper()}_CMD"))["consumers"]

    await until(none_left)


@pytest.mark.slow
async def test_last_among_many_subjects(bus, nats_server, subjects, event):
    """last with wildcards in a stream of 100,000 subjects answers in milliseconds."""
    await publish_calls(bus, subjects, event, 100_000)
    for name, pattern in {
        "one subject": subjects.call("result", domain="tool", seam="a", run="r5", callid="c5"),
        "by call id": subjects.of_call("c99999", "result"),
        "early call id": subjects.of_call("c3", "result"),
        "a run": subjects.run("r77777"),
        "nothing": subjects.of_call("nobody", "result"),
        "everything": f"{subjects.prefix}.>",
    }.items():
        times = []
        for _ in range(20):
            started = time.perf_counter()
            found = await bus.last(pattern)
            times.append(time.perf_counter() - started)
        assert (found is None) == (name == "nothing")
        print(f"last, {name}: median {statistics.median(times) * 1000:.2f} ms, worst {max(times) * 1000:.2f} ms")
        assert statistics.median(times) < 0.25


async def publish_calls(bus, subjects, event, count):
    for start in range(0, count, 500):
        await asyncio.gather(
            *(
                bus.publish(
                    subjects.call("result", domain="tool", seam="a", run=f"r{n}", callid=f"c{n}"), event(), timeout=30
                )
                for n in range(start, min(count, start + 500))
            )
        )


async def test_last_by_wildcards(bus, subjects, event):
    """One call is found when only its id is known, whatever tenant, user and run it belongs to."""
    await publish_calls(bus, subjects, event, 200)
    found = await bus.last(subjects.of_call("c7", "result"))
    assert found.subject == subjects.call("result", domain="tool", seam="a", run="r7", callid="c7")
