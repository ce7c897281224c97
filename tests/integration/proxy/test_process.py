"""The proxy as a process: its memory, its end, its workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.proxy.test_tunnels import HANDSHAKE, SWITCH
from integration.proxy.wire import OK, Client, Upstream, get

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MEGABYTE = 1 << 20


@asynccontextmanager
async def upstream(script):
    """A listening upstream."""
    up = Upstream(script)
    server = await asyncio.start_server(up.serve, "127.0.0.1", 0, limit=MEGABYTE)
    up.port = server.sockets[0].getsockname()[1]
    try:
        yield up
    finally:
        server.close()


@asynccontextmanager
async def proxy(port: int, *options: str):
    """A proxy process in front of ``port``: the process, and its own port."""
    where = ["--upstream", f"http://127.0.0.1:{port}", "--listen", "127.0.0.1:0"]
    command = ["-m", "crossfade", "proxy", *where, "--json", *options]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
        yield process, int(ready["url"].rpartition(":")[2])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def client(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MEGABYTE)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def memory(pid: int, what: str) -> int:
    """Bytes of resident memory: ``VmRSS`` now, ``VmHWM`` at most so far."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


async def gush(reader, writer):
    """Answer every request with as many megabytes as its path says."""
    size = int((await reader.head()).split()[1][1:])
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size * MEGABYTE))
    for _ in range(size):
        writer.write(bytes(MEGABYTE))
        await writer.drain()
    await reader.rest()


async def test_a_slow_reader_costs_no_memory():
    """Of 64 MB the upstream offers to a client that does not read, the proxy takes what fits its buffers."""
    async with upstream(gush) as up, proxy(up.port) as (process, port), client(port) as slow:
        before = memory(process.pid, "VmRSS")
        slow.send(get("/64"))
        slow.writer.transport.pause_reading()
        await asyncio.sleep(1)
        stalled = memory(process.pid, "VmHWM") - before
        slow.writer.transport.resume_reading()
        await slow.until(b"\r\n\r\n")
        for _ in range(64):
            await slow.exactly(MEGABYTE)

        assert stalled < 8 * MEGABYTE
        assert memory(process.pid, "VmHWM") - before < 8 * MEGABYTE


async def test_a_slow_upstream_costs_no_memory():
    """The mirror image: 32 MB a client offers to an upstream that reads late."""
    late = asyncio.Event()

    async def script(reader, writer):
        await reader.head()
        writer.transport.pause_reading()
        await late.wait()
        writer.transport.resume_reading()
        for _ in range(32):
            await reader.exactly(MEGABYTE)
        writer.write(OK)

    async with upstream(script) as up, proxy(up.port) as (process, port), client(port) as eager:
        before = memory(process.pid, "VmRSS")
        eager.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 * MEGABYTE))
        eager.send(bytes(32 * MEGABYTE))
        await asyncio.sleep(1)
        stalled = memory(process.pid, "VmHWM") - before
        late.set()
        assert (await eager.until(b"ok")).startswith(b"HTTP/1.1 200")

        assert stalled < 8 * MEGABYTE


@pytest.mark.slow
async def test_a_gigabyte_passes_through_64_megabytes(note):
    """The process never holds more than 64 MB, all of Python included."""
    async with upstream(gush) as up, proxy(up.port) as (process, port), client(port) as reader:
        reader.send(get("/1024"))
        await reader.until(b"\r\n\r\n")
        for _ in range(1024):
            await reader.exactly(MEGABYTE)

        most = memory(process.pid, "VmHWM")
        note(f"1 GB passed through a proxy process of at most {most // MEGABYTE} MB")
        assert most < 64 * MEGABYTE


async def test_a_drain_finishes_what_it_can_and_ends_the_rest():
    """SIGTERM: an answer in progress is finished, idle clients are closed, streams and tunnels end by the deadline."""
    finish = asyncio.Event()

    async def script(reader, writer):
        head = await reader.head()
        if b"/stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        elif b"/tunnel" in head:
            writer.write(SWITCH)
        elif b"/slow" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")
            await finish.wait()
            writer.write(b"ow")
        else:
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await reader.rest()

    async with upstream(script) as up, proxy(up.port, "--limit", "drain_timeout=1.5") as (process, port):
        async with client(port) as idle, client(port) as slow, client(port) as stream, client(port) as tunnel:
            idle.send(get())
            await idle.until(b"ok")
            slow.send(get("/slow"))
            await slow.until(b"\r\n\r\nsl")
            stream.send(get("/stream"))
            await stream.until(b"data: 1\n\n")
            tunnel.send(get("/tunnel", *HANDSHAKE))
            await tunnel.until(b"\r\n\r\n")

            process.send_signal(signal.SIGTERM)
            assert await idle.rest() == b""
            finish.set()
            assert await slow.rest() == b"ow"
            assert not (await stream.rest()).endswith(b"0\r\n\r\n")
            await tunnel.rest()
        async with asyncio.timeout(10):
            assert await process.wait() == 0


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def workers_of(pid: int, *, count: int, beside: set[int] = frozenset()) -> set[int]:
    """The process ids of ``count`` children, none of them in ``beside``."""
    async with asyncio.timeout(20):
        while True:
            found = children(pid)
            if len(found) == count and not found & beside:
                return found
            await asyncio.sleep(0.05)


async def test_a_dead_worker_is_replaced_and_signals_are_passed_on():
    """Workers share one address; kill -9 of one is mended; SIGTERM to the parent ends all with 0."""

    async def script(reader, writer):
        while True:
            await reader.head()
            writer.write(OK)

    async with upstream(script) as up, proxy(up.port, "--workers", "2") as (process, port):
        first = await workers_of(process.pid, count=2)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        second = await workers_of(process.pid, count=2, beside={victim})
        async with asyncio.timeout(20):
            for _ in range(8):
                async with client(port) as asking:
                    asking.send(get("/", "Connection: close"))
                    assert (await asking.rest()).endswith(b"\r\n\r\nok")

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert alive(second) == []
