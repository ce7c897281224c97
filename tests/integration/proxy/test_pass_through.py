"""A request goes up and its answer comes down, as they were written."""

from __future__ import annotations

from crossfade.proxy.pool import Target
from integration.proxy.wire import OK, always, answering, get, proxied


async def test_a_request_arrives_as_it_was_written():
    """Target, order, repetition, case and bytes of the fields stay; what we add stands behind them."""
    request = (
        b"FOO /a%2Fb//x/../%2e?a=1&a=2&? HTTP/1.1\r\nX-B: 1\r\nhost: shop.example\r\nx-a: caf\xe9\r\nX-B:2\r\n"
        b"Accept: */*\r\n\r\n"
    )
    async with proxied(always()) as front:
        await front.ask(request, end=b"ok")

    assert front.upstream.received == (
        b"FOO /a%2Fb//x/../%2e?a=1&a=2&? HTTP/1.1\r\nX-B: 1\r\nhost: shop.example\r\nx-a: caf\xe9\r\nX-B:2\r\n"
        b"Accept: */*\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\n"
        b"Via: 1.1 crossfade-test\r\n\r\n"
    )


async def test_an_answer_arrives_as_it_was_written():
    """Status, phrase, order, repeated Set-Cookie and obs-text stay."""
    fields = b"Set-Cookie: a=1\r\nContent-Length: 3\r\nSet-Cookie: b=2\r\nX-Caf: \xe9\r\n"
    answer = b"HTTP/1.1 299 Fine Thing\r\n" + fields + b"\r\nabc"
    async with proxied(always(answer)) as front:
        got = await front.ask(get(), end=b"abc")

    assert got == b"HTTP/1.1 299 Fine Thing\r\n" + fields + b"Via: 1.1 crossfade-test\r\n\r\nabc"


async def test_a_body_of_known_length_arrives_whole():
    """A POST's bytes go up and the connection serves the next request."""
    async with proxied(answering(OK, OK, body=5)) as front, front.client() as client:
        for body in (b"12345", b"67890"):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" + body)
            assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")

    assert len(front.upstream.connections) == 1
    assert [part[:5] for part in front.upstream.received.split(b"\r\n\r\n")[1:]] == [b"12345", b"67890"]


async def test_a_chunked_body_goes_both_ways():
    """Chunks are chunks on the other side, with the same bytes and allowed trailers."""

    async def script(reader, writer):
        await reader.head()
        await reader.until(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\nX-End: 1\r\n\r\n")
        await reader.rest()

    async with proxied(script) as front:
        got = await front.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n",
            end=b"X-End: 1\r\n\r\n",
        )

    assert front.upstream.received.endswith(b"\r\n\r\n7\r\nabcdefg\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert got.endswith(b"Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\nX-End: 1\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order():
    """Three requests in one segment get three answers, one after another."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(3)]
    async with proxied(answering(*answers)) as front:
        got = await front.ask(b"".join(get(f"/{number}") for number in range(3)), end=b"\r\n\r\n2")

    places = [got.index(answer[-5:]) for answer in answers]
    assert places == sorted(places)


async def test_an_upstream_that_is_not_there_is_a_problem_without_an_address():
    """Refused connections are a 502 that names the phase and the seam, and never where the upstream lives."""
    async with proxied(always()) as front:
        front.plane.pools["legacy"].targets = (Target("127.0.0.1", 1),)
        got = await front.ask(get("/", "Connection: close"))

    assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b'"phase": "connect", "seam": "legacy"' in got
    assert b"127.0.0.1" not in got
