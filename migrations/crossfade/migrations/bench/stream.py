"""``crossfade bench stream``: how many pages one control process keeps up to date, in what memory, how soon."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from crossfade.adapters.embedded import stop
from crossfade.proxy.control.tokens import Keyring
from crossfade.shim.buses import open_bus
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.events import Event
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Generator

MEMORY_GOAL: Final = 50.0
"""KB for each open stream."""

DELAY_GOAL: Final = 250.0
"""Milliseconds from publishing to a page, 99th percentile."""

_TABS: Final = 20  # streams of one user
_RATE: Final = 50  # events a second; each goes to every tab of its user
_FILES: Final = 200  # descriptors beside the streams


@dataclass(frozen=True, kw_only=True)
class StreamFigures:
    """What was measured. ``kilobytes``: of the server, for each stream. ``p50``, ``p99``: milliseconds."""

    streams: int
    kilobytes: float
    deliveries: int
    lost: int
    p50: float
    p99: float


def run(streams: int = 2000, *, seconds: float = 6.0) -> StreamFigures:
    """Open so many streams on a control process of its own, publish, and measure."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < streams + _FILES:  # inherited by the server
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, streams + _FILES), hard))
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        bus = f"embedded://{folder}/bus?idle=60"
        try:
            with _control(Path(folder), bus, streams) as (process, url):
                return asyncio.run(_measure(process.pid, url, Path(folder), bus, streams=streams, seconds=seconds))
        finally:
            stop(Path(folder) / "bus")


@contextmanager
def _control(folder: Path, bus: str, streams: int) -> Generator[tuple[subprocess.Popen[str], str]]:
    command = ["-m", "crossfade", "control", "--listen", "127.0.0.1:0", "--state", str(folder / "state"), "--json"]
    limits = ["--max-streams", str(streams + 10), "--bus", bus]
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, *command, *limits], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise CrossfadeError("the control process did not start: try crossfade control by itself")
        yield process, json.loads(line)["url"]
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def _measure(pid: int, url: str, folder: Path, bus: str, *, streams: int, seconds: float) -> StreamFigures:
    keyring = Keyring.load(folder / "state" / "stream-keys.json")
    users = [f"user{n}" for n in range(max(1, streams // _TABS))]
    delays: list[float] = []
    before = _memory(pid)
    pages = [await _open(url, keyring, users[n % len(users)]) for n in range(streams)]
    kilobytes = (_memory(pid) - before) / streams
    reading = [asyncio.create_task(_read(reader, delays)) for reader, _ in pages]
    published = await _publish(bus, users, seconds)
    expected = sum(published.get(users[n % len(users)], 0) for n in range(streams))
    end = time.monotonic() + 20
    while len(delays) < expected and time.monotonic() < end:  # noqa: ASYNC110 - thousands of tasks add to it
        await asyncio.sleep(0.05)
    for task in reading:
        task.cancel()
    for _, writer in pages:
        writer.close()
    ordered = sorted(delay * 1e3 for delay in delays) or [float("inf")]
    return StreamFigures(
        streams=streams,
        kilobytes=kilobytes,
        deliveries=len(delays),
        lost=expected - len(delays),
        p50=ordered[len(ordered) // 2],
        p99=ordered[int(len(ordered) * 0.99)],
    )


async def _open(url: str, keyring: Keyring, user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    token = keyring.mint(user=user, ttl=timedelta(minutes=10))
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=64 * 1024)
    writer.write(f"GET /_crossfade/stream?token={token} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    await reader.readuntil(b"crossfade.ready")
    return reader, writer


async def _read(reader: asyncio.StreamReader, delays: list[float]) -> None:
    while line := await reader.readline():
        _, found, text = line.partition(b'"message":"')
        if found:
            delays.append(time.time() - float(text.partition(b'"')[0]))


async def _publish(bus: str, users: list[str], seconds: float) -> dict[str, int]:
    """Events for users at random, evenly spread in time; how many each got."""
    client = open_bus(bus, BusSettings(client_name="crossfade bench"), report)
    await client.open()
    dice, subjects, counts = random.Random(1), Subjects(), dict[str, int]()  # noqa: S311 - a load, no secret
    try:
        begun = time.monotonic()
        for n in range(int(_RATE * seconds)):
            await asyncio.sleep(max(0.0, begun + n / _RATE - time.monotonic()))
            user = dice.choice(users)
            counts[user] = counts.get(user, 0) + 1
            client.emit(subjects.ui("tool.progress", run="r", user=user), _event(user))
        await asyncio.sleep(0.2)
    finally:
        await client.close()
    return counts


def _event(user: str) -> Event:
    data: dict[str, Any] = {"fraction": 0.5, "message": f"{time.time():.6f}"}
    extensions = {"userid": user, "correlationid": "r", "callid": "c"}
    return Event(
        type="tool.progress", source="urn:crossfade:bench", extensions=extensions, data=json.dumps(data).encode()
    )


def _memory(pid: int) -> float:
    """KB of resident memory, from Linux's own file."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise CrossfadeError("this system does not tell a process's memory: the bench needs Linux")
