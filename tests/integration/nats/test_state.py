"""State on a real server: readable with the field's tools, truthful about expiry, quick after a restart."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from crossfade.shim.errors import ConfigurationError, WrongRevisionError
from plugins.nats import api, until


async def test_others_read_our_buckets(bus, bare, prefix):
    """nats-py's key-value client (and so the nats tool) reads what we wrote, and sees what we deleted."""
    state = bus.state("policy")
    revision = await state.create("web.search", b"one")
    await state.put("gone", b"x")
    await state.delete("gone")
    bucket = await bare.jetstream().key_value(f"{prefix}_policy")
    found = await bucket.get("web.search")
    assert (found.value, found.revision) == (b"one", revision)
    assert await bucket.keys() == ["web.search"]


async def test_we_read_others_buckets(bus, bare, prefix):
    """What nats-py's client puts, updates, deletes and purges is what we read."""
    state = bus.state("policy")
    await state.put("a", b"ours")
    bucket = await bare.jetstream().key_value(f"{prefix}_policy")
    revision = await bucket.put("a", b"theirs")
    assert ((await state.get("a")).value, (await state.get("a")).revision) == (b"theirs", revision)
    await bucket.delete("a")
    assert await state.get("a") is None
    await bucket.put("b", b"2")
    await bucket.purge("b")
    assert await state.entries() == []
    await state.create("a", b"again")
    await state.create("b", b"again")


async def test_an_expired_key_tells_its_watchers(bus):
    """When a key's lifetime ends a watch says so within a second or two, and creating it again works."""
    state = bus.state("lease")
    async with aclosing(state.watch()) as watching:
        waiting = asyncio.ensure_future(anext(watching))
        await state.create("leader", b"me", ttl=1)
        assert (await waiting).value == b"me"
        started = time.monotonic()
        gone = await asyncio.wait_for(anext(watching), 5)
        assert (gone.key, gone.value) == ("leader", None)
        assert time.monotonic() - started < 3.5
    with pytest.raises(WrongRevisionError):
        await state.update("leader", b"you", revision=gone.revision - 1)
    await state.create("leader", b"you")


@pytest.mark.parametrize("kill", [False, True])
async def test_a_watch_recovers_soon(own_bus, opened, server, kill):
    """A change made right after a restart reaches the watcher within three seconds of the server's greeting."""
    state = own_bus.state("policy")
    await state.put("a", b"before")
    async with aclosing(state.watch()) as watching:
        assert (await anext(watching)).value == b"before"
        waiting = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        server.restart(kill=kill)
        started = time.monotonic()
        writer = await opened(server.url)
        await writer.state("policy").put("a", b"after")
        assert (await asyncio.wait_for(waiting, 5)).value == b"after"
        print(f"seen {time.monotonic() - started:.2f} s after the restart")
        assert time.monotonic() - started < 3


async def test_a_change_is_seen_at_once(bus, opened, nats_server):
    """A change by another process is seen in a tenth of a second, a hundred times in a row."""
    state = bus.state("policy")
    writer = (await opened(nats_server.url)).state("policy")
    await writer.put("a", b"start")
    times = []
    async with aclosing(state.watch()) as watching:
        await anext(watching)
        for n in range(100):
            waiting = asyncio.ensure_future(anext(watching))
            await asyncio.sleep(0)
            started = time.monotonic()
            await writer.put("a", b"%d" % n)
            assert (await asyncio.wait_for(waiting, 5)).value == b"%d" % n
            times.append(time.monotonic() - started)
    times.sort()
    print(f"change to watcher: median {times[50] * 1000:.1f} ms, worst {times[-1] * 1000:.1f} ms")
    assert times[95] < 0.1


async def test_a_quiet_watch_asks_little(bus, bare, nats_server):
    """A watch of a bucket that does not change costs one small question every two seconds."""
    state = bus.state("policy")
    for n in range(20):
        await state.put(f"k{n}", b"x")
    async with aclosing(state.watch()) as watching:
        for _ in range(20):
            await anext(watching)
        waiting = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(1.5)
        before = bus._connection.client().stats["out_msgs"]
        await asyncio.sleep(2.5)
        assert bus._connection.client().stats["out_msgs"] - before <= 4
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_bucket_that_would_forget(bus, bare, prefix):
    """A bucket made by hand with settings that lose values is refused by name."""
    config = {"name": f"KV_{prefix}_policy", "subjects": [f"$KV.{prefix}_policy.>"], "storage": "memory"}
    await api(bare, f"STREAM.CREATE.KV_{prefix}_policy", config)
    with pytest.raises(ConfigurationError, match="storage"):
        await bus.state("policy").get("a")


async def test_a_bucket_deleted_underneath(bus, bare, prefix):
    """After somebody deleted the bucket reads and writes say so in time; nothing hangs."""
    state = bus.state("policy")
    await state.put("a", b"1")
    await api(bare, f"STREAM.DELETE.KV_{prefix}_policy")
    with pytest.raises(Exception, match=r"gone|answers"):
        await state.get("a")
    await until(lambda: bus.connected)
