"""Connections to an upstream: used again, bounded, waited for, and taken from the next target when one refuses."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from crossfade.proxy.limits import Limits
from crossfade.proxy.pool import Target
from crossfade.shim.hooks import counters
from integration.proxy.wire import OK, always, get, proxied

CLOSED = Target("127.0.0.1", 1)


async def test_a_target_that_refuses_is_passed_over_with_the_body_whole():
    """No byte was sent to it, so a POST may go to the next target."""
    body = os.urandom(65536)

    async def script(reader, writer):
        await reader.head()
        got = await reader.exactly(len(body))
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 64\r\n\r\n"
            + hashlib.sha256(got).hexdigest().encode()
        )
        await reader.rest()

    async with proxied(script) as front:
        pool = front.plane.pools["legacy"]
        pool.targets = (CLOSED, *pool.targets)
        for _ in range(2):
            request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            got = await front.ask(request + body)

            assert got.endswith(hashlib.sha256(body).hexdigest().encode())


async def test_requests_wait_for_a_connection_and_get_it():
    """With one connection allowed three requests are answered over it, one after another."""
    limits = Limits(upstream_connections=1)
    async with proxied(always(), limits=limits) as front:
        answers = await asyncio.gather(*(front.ask(get("/", "Connection: close")) for _ in range(3)))

    assert [answer[-2:] for answer in answers] == [b"ok"] * 3
    assert len(front.upstream.connections) == 1


async def test_more_waiting_than_allowed_is_a_503_at_once():
    """With a time to come back, and a count."""

    async def script(reader, writer):
        await reader.rest()

    before = counters.get("refused", reason="upstream-waiting")
    limits = Limits(upstream_connections=1, upstream_waiting=1)
    async with proxied(script, limits=limits) as front, front.client() as first, front.client() as second:
        first.send(get())
        await front.upstream.arrived()
        second.send(get())
        await asyncio.sleep(0.1)
        got = await front.ask(get("/", "Connection: close"))

    assert got.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1\r\n" in got
    assert counters.get("refused", reason="upstream-waiting") == before + 1


async def test_a_client_that_leaves_gives_up_its_place():
    """Its request is never sent."""
    free = asyncio.Event()

    async def script(reader, writer):
        while True:
            await reader.head()
            await free.wait()
            writer.write(OK)

    async with proxied(script, limits=Limits(upstream_connections=1)) as front, front.client() as first:
        first.send(get("/first"))
        await front.upstream.arrived()
        async with front.client() as second:
            second.send(b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        free.set()
        await first.until(b"ok")
        assert (await front.ask(get("/third", "Connection: close"))).endswith(b"ok")

    assert b"/second" not in front.upstream.received


async def test_an_idle_connection_is_closed_in_time():
    """The upstream need not be the one who closes it."""
    async with proxied(always(), limits=Limits(upstream_idle_timeout=0.2)) as front:
        await front.ask(get("/", "Connection: close"))
        async with asyncio.timeout(5):
            await front.upstream.closed.get()


@pytest.mark.parametrize(
    ("host", "phase"), [("127.0.0.1", b'"phase": "connect"'), ("no-such-name.invalid", b'"phase": "resolve"')]
)
async def test_what_cannot_be_reached_is_a_502_that_says_why(host, phase):
    """And not where."""
    async with proxied(always()) as front:
        front.plane.pools["legacy"].targets = (Target(host, 1),)
        got = await front.ask(get("/", "Connection: close"))

    assert got.startswith(b"HTTP/1.1 502")
    assert phase in got
    assert host.encode() not in got


async def test_a_connection_that_logged_in_is_not_shared():
    """NTLM authenticates the connection: whoever got it next would be logged in as somebody else."""
    async with proxied(always(b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")) as front:
        for _ in range(2):
            await front.ask(get("/", "Connection: close", "Authorization: NTLM abc"))

    assert len(front.upstream.connections) == 2
