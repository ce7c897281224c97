"""Upgraded connections: nothing before the 101, every byte behind it, each side's end passed on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from crossfade.proxy.limits import Limits
from crossfade.proxy.pool import Target
from crossfade.proxy.serving import DataPlane
from integration.proxy.wire import OK, always, get, proxied, serving

KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
HANDSHAKE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)


async def test_bytes_glued_to_the_101_and_to_the_request_arrive():
    """What either side sends with the switch reaches the other; a half close does not end the other direction."""

    async def script(reader, writer):
        head = await reader.head()
        assert b"Connection: Upgrade\r\n" in head
        assert b"Upgrade: websocket\r\n" in head
        writer.write(SWITCH + b"from above")
        assert await reader.rest() == b"from below, and more"
        writer.write(b", at last")

    async with proxied(script) as front, front.client() as client:
        client.send(get("/", *HANDSHAKE) + b"from below")
        switch = await client.until(b"\r\n\r\n")
        client.send(b", and more")
        client.writer.write_eof()
        assert await client.rest() == b"from above, at last"

    assert b"Connection: Upgrade\r\n" in switch


async def test_there_is_no_tunnel_without_a_101():
    """An upstream that ignores the upgrade answers one request; what was pipelined is a request of its own."""
    async with proxied(always()) as front:
        got = await front.ask(
            get("/", "Connection: Upgrade", "Upgrade: foo") + get("/admin", "Connection: close", "X_User: root")
        )

    assert got.count(b"HTTP/1.1 200") == 2
    second = front.upstream.received.split(b"GET /admin")[1]
    assert b"X_User" not in second
    assert b"X-Forwarded-For" in second


@pytest.mark.parametrize(
    "switch",
    [
        SWITCH.replace(ACCEPT, b"bm90IHRoZSBrZXkgeW91IHNlbnQgbWU="),
        SWITCH.replace(b"Upgrade: websocket\r\n", b""),
        SWITCH.replace(b"Upgrade: websocket", b"Upgrade: foo"),
        SWITCH.replace(b"Connection: Upgrade\r\n", b""),
    ],
)
async def test_a_wrong_switch_is_a_502(switch):
    """A 101 that does not answer this handshake opens nothing."""
    async with proxied(always(switch)) as front:
        assert (await front.ask(get("/", *HANDSHAKE), end=b"}")).startswith(b"HTTP/1.1 502")


async def test_a_switch_nobody_asked_for_is_a_502():
    """A 101 to a plain request opens nothing."""
    async with proxied(always(SWITCH)) as front:
        assert (await front.ask(get(), end=b"}")).startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([field for field in HANDSHAKE if "Key" not in field], b"400"),
        ([field for field in HANDSHAKE if "Version" not in field], b"426"),
        ([*HANDSHAKE, "Sec-WebSocket-Protocol: caf\u00e9"], b"400"),
    ],
)
async def test_a_broken_handshake_is_refused_before_anything_is_dialled(fields, status):
    """No key, no version, a protocol that is not ASCII."""
    async with proxied(always()) as front:
        assert (await front.ask(get("/", *fields), end=b"}")).startswith(b"HTTP/1.1 " + status)

    assert front.upstream.connections == []


async def test_h2c_is_not_offered_upstream():
    """HTTP/2 inside would hide requests from the proxy: the upgrade is taken out, the request served as it is."""
    async with proxied(always()) as front:
        await front.ask(
            get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), end=b"ok"
        )

    assert b"h2c" not in front.upstream.received
    assert b"HTTP2-Settings" not in front.upstream.received


async def test_a_silent_tunnel_ends():
    """Silence in both directions for the tunnel's timeout closes both sides."""
    async with proxied(always(SWITCH), limits=Limits(tunnel_timeout=0.3)) as front, front.client() as client:
        client.send(get("/", *HANDSHAKE))
        await client.until(b"\r\n\r\n")
        assert await client.rest() == b""


async def echo(websocket):
    try:
        async for message in websocket:
            if message == "leave":
                await websocket.close(4999, "so long")
                return
            await websocket.send(message)
    except ConnectionClosed:
        return


@pytest.mark.parametrize("secure", [False, True])
async def test_websockets_work_with_real_peers(secure):
    """Text, binary, a message of 10 MB and close codes pass, in the clear and through TLS on both sides."""
    authority = trustme.CA()
    above, below = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
    trust = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(above)
    authority.issue_cert("localhost").configure_cert(below)
    authority.configure_trust(trust)
    async with serve(echo, "127.0.0.1", 0, ssl=above if secure else None, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        settings = serving(port, tls=below if secure else None)
        target = Target("127.0.0.1", port, trust, "localhost") if secure else Target("127.0.0.1", port)
        settings.upstreams["legacy"] = (target,)
        plane = DataPlane(settings)
        _, port = await plane.listen()
        uri = f"{'wss' if secure else 'ws'}://localhost:{port}/"
        async with connect(uri, ssl=trust if secure else None, max_size=None, host="127.0.0.1") as client:
            for message in ("text", b"binary", "x" * 10_000_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send("leave")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4999, "so long")
        await plane.drain()


async def test_plain_requests_work_through_tls_on_both_sides():
    """The proxy says https to the upstream, and checks the upstream's certificate."""
    authority, other = trustme.CA(), trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    seen = []

    async def upstream(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    for issuer, status in ((authority, b"200"), (other, b"502")):
        trust, below = ssl.create_default_context(), ssl.create_default_context()
        issuer.configure_trust(trust)
        authority.configure_trust(below)
        settings = serving(port, tls=server_side)
        settings.upstreams["legacy"] = (Target("127.0.0.1", port, trust, "localhost"),)
        plane = DataPlane(settings)
        _, front = await plane.listen()
        reader, writer = await asyncio.open_connection("127.0.0.1", front, ssl=below, server_hostname="localhost")
        writer.write(get("/", "Connection: close"))
        got = await reader.read()
        writer.close()
        await plane.drain()
        assert got.startswith(b"HTTP/1.1 " + status)
    server.close()
    assert len(seen) == 1
    assert b"X-Forwarded-Proto: https\r\n" in seen[0]
