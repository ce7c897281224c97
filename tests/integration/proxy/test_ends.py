"""How exchanges end before their time: clients that leave, upstreams that die, answers that come early."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from crossfade.proxy.limits import Limits
from integration.proxy.wire import OK, always, answering, get, proxied

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def silent(reader, writer):
    """An upstream that takes everything and says nothing."""
    await reader.rest()


async def gone(front, seconds: float = 3) -> bytes:
    """What the upstream had got when the proxy hung up on it."""
    async with asyncio.timeout(seconds):
        return await front.upstream.closed.get()


async def test_half_an_upload_is_never_completed():
    """A client that leaves inside its body leaves the upstream with a broken request, not with a shorter whole one."""
    for request in (POST + b"x" * 500, CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhel"):
        async with proxied(silent) as front:
            async with front.client() as client:
                client.send(request)
                await front.upstream.arrived()
            got = await gone(front)

        assert b"0\r\n\r\n" not in got
        assert len(got.partition(b"\r\n\r\n")[2]) < 1000


async def test_a_client_that_leaves_before_the_answer_is_noticed_and_its_request_cancelled():
    """The upstream's connection is closed within a second of the client's close, which looked like a half close."""
    async with proxied(silent) as front:
        async with front.client() as client:
            client.send(get())
            await front.upstream.arrived()
        await gone(front, 1.5)


async def test_a_client_that_resets_has_its_request_cancelled():
    """The same for a reset, at once."""
    async with proxied(silent) as front:
        async with front.client() as client:
            client.send(get())
            await front.upstream.arrived()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await gone(front, 1)


async def test_a_client_that_leaves_an_event_stream_ends_it_upstream():
    """An idle stream whose reader left is closed upstream within a second or so."""

    async def script(reader, writer):
        await reader.head()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.rest()

    async with proxied(script) as front:
        async with front.client() as client:
            client.send(get())
            await client.until(b"data: 1\n\n")
        await gone(front, 2)


async def test_a_half_closed_client_gets_its_answer():
    """A client that ends its side after a whole request still reads the answer, however late."""

    async def script(reader, writer):
        await reader.head()
        await asyncio.sleep(1)
        writer.write(OK)
        await reader.rest()

    async with proxied(script) as front, front.client() as client:
        client.send(get())
        client.writer.write_eof()
        got = await client.rest()

    assert got.endswith(b"\r\n\r\nok")
    assert got.count(b"HTTP/1.1 200") == 1


async def test_an_upstream_that_dies_in_mid_body_leaves_no_whole_answer():
    """Short of its length, or without its last chunk: never an end that looks like one."""
    length = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 40
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    for answer in (length, chunked):

        async def script(reader, writer, answer=answer):
            await reader.head()
            writer.write(answer)
            await writer.drain()

        async with proxied(script) as front:
            got = await front.ask(get())

        assert got.endswith((b"x" * 40, b"5\r\nhello\r\n"))
        assert not got.endswith(b"0\r\n\r\n")


async def test_an_http_1_0_client_sees_a_reset_when_the_body_until_close_breaks():
    """Where only the close ends a body, a broken one must not close cleanly."""

    async def script(reader, writer):
        await reader.head()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)

    async with proxied(script) as front:
        try:
            got = await front.ask(get(version="1.0"))
        except ConnectionResetError:
            return
    raise AssertionError(got)


async def test_an_early_refusal_reaches_a_client_that_still_sends():
    """The upstream answers 413 and closes during an upload of 15 MiB: the client reads the 413."""

    async def script(reader, writer):
        await reader.head()
        await reader.exactly(1000)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    for _ in range(5):
        async with proxied(script) as front, front.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 15728640\r\n\r\n")

            async def upload(client=client):
                with contextlib.suppress(ConnectionError):
                    for _ in range(240):
                        client.send(b"x" * 65536)
                        await client.writer.drain()

            sending = asyncio.create_task(upload())
            got = await client.until(b"\r\n\r\n")
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

        assert got.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert b"Connection: close" in got


async def test_an_answer_may_end_before_its_request_without_the_rest_becoming_one():
    """Bytes of a body that was answered early are never read as the next request."""
    inner = get("/admin")
    request = b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(inner)
    async with proxied(always(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")) as front, front.client() as client:
        client.send(request)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        client.send(inner)
        await client.rest()

    assert b"/admin" not in front.upstream.received


async def test_both_directions_flow_at_once():
    """An upstream may answer while its request is still being sent."""

    async def script(reader, writer):
        await reader.head()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await reader.until(b"1\r\n")
            piece = await reader.exactly(3)
            writer.write(b"1\r\n" + piece)
        await reader.until(b"0\r\n\r\n")
        writer.write(b"0\r\n\r\n")
        await reader.rest()

    async with proxied(script) as front, front.client() as client:
        client.send(CHUNKED)
        await client.until(b"\r\n\r\n")
        for letter in (b"a", b"b", b"c"):
            client.send(b"1\r\n" + letter + b"\r\n")
            assert await client.exactly(6) == b"1\r\n" + letter + b"\r\n"
        client.send(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_reused_connection_that_closes_is_replaced_for_a_get_and_not_for_a_post():
    """The upstream closes an idle connection as it is reused: a GET is sent again, once; a POST is a 502."""
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    for request, expected, heads in ((get(), b"HTTP/1.1 200", 3), (post, b"HTTP/1.1 502", 2)):

        async def script(reader, writer):
            await reader.head()
            writer.write(OK)
            await reader.head()  # and closes without a word

        async with proxied(script) as front, front.client() as client:
            client.send(get())
            await client.until(b"ok")
            client.send(request)
            got = await client.until(b"\r\n\r\n")

        assert got.startswith(expected)
        assert front.upstream.received.count(b"HTTP/1.1\r\n") == heads


async def test_a_first_connection_that_dies_is_not_tried_again():
    """Nobody knows what the upstream did with a request it read on a fresh connection."""

    async def script(reader, writer):
        await reader.head()

    async with proxied(script) as front:
        got = await front.ask(get(), end=b"\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 502")
    assert len(front.upstream.connections) == 1


async def test_extra_bytes_behind_an_answer_are_nobodys():
    """An upstream that sends more than it said is not asked again on that connection."""
    more = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with proxied(answering(more)) as front, front.client() as client:
        for _ in range(2):
            client.send(get())
            assert (await client.until(b"ok")).endswith(b"\r\n\r\nok")

    assert len(front.upstream.connections) == 2


async def test_an_answer_to_head_keeps_its_length_and_its_connection():
    """HEAD has no body whatever its fields say; the same connection then answers a GET rightly."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    async with proxied(answering(head, OK)) as front, front.client() as client:
        client.send(get(method="HEAD"))
        assert b"Content-Length: 2\r\n" in await client.until(b"\r\n\r\n")
        client.send(get())
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")

    assert len(front.upstream.connections) == 1


async def test_early_hints_are_passed_on_and_a_death_after_them_is_a_502():
    """103 then 200 arrive both; 103 then nothing is a 502 behind the 103."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    async with proxied(always(hints + OK)) as front:
        got = await front.ask(get(), end=b"ok")
    assert got.startswith(hints + b"HTTP/1.1 200 OK\r\n")

    async def script(reader, writer):
        await reader.head()
        writer.write(hints)

    async with proxied(script) as front:
        got = await front.ask(get(), end=b"}")
    assert got.startswith(hints + b"HTTP/1.1 502")


async def test_the_body_waits_for_the_upstreams_permission():
    """100-continue is asked of the upstream and its word relayed; the body follows."""

    async def script(reader, writer):
        assert b"Expect: 100-continue\r\n" in await reader.head()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.exactly(5)
        writer.write(OK)
        await reader.rest()

    async with proxied(script) as front, front.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")


async def test_whoever_is_too_slow_is_told_in_which_phase():
    """Each phase has its limit and its status."""
    quick = Limits(
        header_timeout=0.2,
        body_timeout=0.2,
        response_timeout=0.2,
        read_timeout=0.2,
        keepalive_timeout=0.2,
        queue_timeout=0.2,
        upstream_connections=1,
    )
    async with proxied(silent, limits=quick) as front:
        assert await front.ask(b"") == b""
        assert (await front.ask(b"GET / HTTP/1.1\r\nHos")).startswith(b"HTTP/1.1 408")
        assert (await front.ask(POST + b"x")).startswith(b"HTTP/1.1 408")
        assert b'"phase": "head"' in await front.ask(get("/", "Connection: close"))

        busy, waiting = await asyncio.gather(
            front.ask(get("/", "Connection: close")), front.ask(get("/", "Connection: close"))
        )
        assert sorted([busy[:12], waiting[:12]])[1] == b"HTTP/1.1 504"

    async with proxied(always(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"), limits=quick) as front:
        assert (await front.ask(get())).endswith(b"\r\n\r\nx")


async def test_an_answerer_that_raises_is_a_500_and_not_the_end(caplog):
    """The client is told, the log has the reason, and the connection serves the next request."""
    async with proxied(always()) as front, front.client() as client:
        resolve = front.plane.resolve
        front.plane.resolve = lambda _: 1 / 0
        client.send(get())
        head = await client.until(b"\r\n\r\n")
        await client.until(b"}")
        front.plane.resolve = resolve
        client.send(get())
        assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200")

    assert head.startswith(b"HTTP/1.1 500")
    assert "ZeroDivisionError" in caplog.text


async def test_connections_over_the_limit_are_closed_at_once():
    """And counted; those that are there go on."""
    async with proxied(always(), limits=Limits(connections=1)) as front, front.client() as first:
        first.send(get())
        await first.until(b"ok")
        async with front.client() as second:
            assert await second.rest() == b""
        first.send(get())
        assert (await first.until(b"ok")).startswith(b"HTTP/1.1 200")


async def test_a_body_over_the_limit_is_refused_before_it_is_sent_on():
    """By its length before a byte of it is read; a chunked one as soon as it is too long."""
    async with proxied(silent, limits=Limits(body_bytes=10)) as front:
        assert (await front.ask(POST)).startswith(b"HTTP/1.1 413")
        assert front.upstream.connections == []
        assert (await front.ask(CHUNKED + b"b\r\nhello world\r\n")).startswith(b"HTTP/1.1 413")
        async with front.client() as client:
            client.send(CHUNKED + b"5\r\nhello\r\n")
            await front.upstream.arrived()
            client.send(b"6\r\n world\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 413")
        assert b"world" not in await gone(front)


async def test_a_client_that_drips_is_refused():
    """A byte now and then keeps the silence away, but not the least rate."""
    limits = Limits(body_timeout=0.3, body_rate=100)
    async with proxied(silent, limits=limits) as front, front.client() as client:
        client.send(POST)
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.send(b"x")
            await asyncio.wait([reading], timeout=0.1)

        assert reading.result().startswith(b"HTTP/1.1 408")
