"""Brokers that do not know what we ask: refused at the start, by the request and the version."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager

import pytest

from crossfade.shim.errors import BusRefusedError

# Number of a request -> oldest and newest version: what Apache Kafka 2.7 says of what we use (asked on 2.7.2).
KAFKA_2_7 = {0: (0, 8), 1: (0, 12), 2: (0, 5), 3: (0, 9), 19: (0, 6), 21: (0, 2), 22: (0, 4), 32: (0, 3), 35: (0, 2)}


@asynccontextmanager
async def broker(versions):
    """Greets as a broker does that knows these requests, and nothing more; its port."""

    async def greet(reader, writer):
        try:
            while True:
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                number = (await reader.readexactly(size))[4:8]
                told = b"".join(struct.pack(">hhh", key, *span) for key, span in versions.items())
                answer = number + struct.pack(">hi", 0, len(versions)) + told
                writer.write(struct.pack(">i", len(answer)) + answer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        (KAFKA_2_7, "knows Metadata up to version 9, and version 10 is needed: use Apache Kafka 2.8 or newer"),
        (
            {**KAFKA_2_7, 3: (0, 12), 35: (0, 0)},
            "knows LogDirs up to version 0, and version 1 is needed: use Apache Kafka 2.8 or newer",
        ),
        (
            {key: span for key, span in KAFKA_2_7.items() if key != 3},
            "knows no Metadata, and version 10 is needed: use Apache Kafka 2.8 or newer",
        ),
        ({3: (11, 20)}, "knows Metadata from version 11 on, crossfade up to 10: upgrade crossfade"),
    ],
    ids=["old", "another make", "no broker", "future"],
)
async def test_a_broker_that_cannot_do_it_is_refused(opened, versions, says):
    """At once and not at the first call: what it lacks, which version of it is needed, and who has that."""
    async with broker(versions) as port:
        with pytest.raises(BusRefusedError, match=f"127.0.0.1:{port} cannot be used: the broker {says}$"):
            await opened(f"kafka://127.0.0.1:{port}")
