"""Raw sockets on both sides of a data plane in the test's own event loop: nothing here knows HTTP but the proxy."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from crossfade.proxy.limits import Limits
from crossfade.proxy.pool import Target
from crossfade.proxy.serving import DataPlane, Serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Upstream:
    """A listener that runs ``script(reader, writer)`` for each connection and keeps every byte it got."""

    script: object
    connections: list[bytearray] = field(default_factory=list)
    closed: asyncio.Queue = field(default_factory=asyncio.Queue)
    port: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def arrived(self) -> None:
        """Wait for the first connection."""
        async with asyncio.timeout(5):
            await self._arrived.wait()

    @property
    def received(self) -> bytes:
        return b"".join(self.connections)

    async def serve(self, reader, writer):
        got = bytearray()
        self.connections.append(got)
        self._arrived.set()
        recorder = Recorder(reader, got)
        try:
            await self.script(recorder, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed.put_nowait(bytes(got))


class Recorder:
    """A reader that notes what passes."""

    def __init__(self, reader, got):
        self._reader = reader
        self._got = got

    async def head(self) -> bytes:
        data = await self._reader.readuntil(b"\r\n\r\n")
        self._got += data
        return data

    async def exactly(self, size: int) -> bytes:
        data = await self._reader.readexactly(size)
        self._got += data
        return data

    async def until(self, end: bytes) -> bytes:
        data = await self._reader.readuntil(end)
        self._got += data
        return data

    async def rest(self) -> bytes:
        data = await self._reader.read()
        self._got += data
        return data


def answering(*answers: bytes, body: int = 0):
    """A script: for each request head (and ``body`` bytes behind it) the next answer; then it waits for the end."""

    async def script(reader, writer):
        for answer in answers:
            await reader.head()
            if body:
                await reader.exactly(body)
            writer.write(answer)
            await writer.drain()
        await reader.rest()

    return script


def always(answer: bytes = OK):
    """A script: the same answer to every request head."""

    async def script(reader, writer):
        while True:
            await reader.head()
            writer.write(answer)
            await writer.drain()

    return script


@dataclass
class Front:
    plane: DataPlane
    upstream: Upstream
    port: int

    @asynccontextmanager
    async def client(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def ask(self, request: bytes, *, end: bytes = b"") -> bytes:
        """Everything the proxy says to ``request`` until it closes, or until ``end`` was seen."""
        async with self.client() as client:
            client.send(request)
            return await (client.until(end) if end else client.rest())


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()


def serving(port: int, *, limits: Limits | None = None, **settings) -> Serving:
    return Serving(
        listen=("127.0.0.1", 0),
        upstreams={"legacy": (Target("127.0.0.1", port),)},
        limits=limits or Limits(),
        name="crossfade-test",
        **settings,
    )


@asynccontextmanager
async def proxied(script, *, limits: Limits | None = None, **settings):
    """A data plane before an upstream that runs ``script``."""
    upstream = Upstream(script)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    plane = DataPlane(serving(upstream.port, limits=limits, **settings))
    _, port = await plane.listen()
    try:
        yield Front(plane, upstream, port)
    finally:
        plane.server.abort()
        await plane.drain()
        server.close()


def get(path: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: shop.example", *fields, "", ""]
    return "\r\n".join(lines).encode()
