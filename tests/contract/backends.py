"""What a test may do to a broker behind a client's back; one class per bus the suite runs on."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Protocol

from contract import kafka_raw, raw
from crossfade.adapters import memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import Bus, BusSettings
    from plugins.kafka import SharedKafka
    from support.nats_server import NatsServer


class Backend(Protocol):
    """One broker. A new bus joins by giving the suite one of these."""

    name: str

    def client(self, settings: BusSettings, hooks: Hooks) -> Bus:
        """A bus that is not open yet."""

    async def stop(self) -> None:
        """Stop the broker; what is stored stays."""

    async def start(self) -> None:
        """Start it again and return when it answers."""

    async def store_raw(self, prefix: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        """Store bytes that need not be an event."""

    async def limit(self, prefix: str, family: str, max_bytes: int) -> None:
        """Bound the stream of the subjects whose first token is ``family``."""

    async def clean(self, prefix: str) -> None:
        """Forget what a test stored under its prefix."""


class MemoryBackend:
    name = "memory"

    def __init__(self) -> None:
        self.broker = memory.MemoryBroker()

    def client(self, settings: BusSettings, hooks: Hooks) -> Bus:
        return memory.MemoryBus(settings, hooks, broker=self.broker)

    async def stop(self) -> None:
        self.broker.stop()
        await asyncio.sleep(0)

    async def start(self) -> None:
        self.broker.start()

    async def store_raw(self, prefix: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        self.broker.store_raw(subject, headers, data)

    async def limit(self, prefix: str, family: str, max_bytes: int) -> None:
        discard = "old" if family in (prefix + "o", prefix + "ui") else "new"
        self.broker.limit(family, max_bytes=max_bytes, discard=discard)

    async def clean(self, prefix: str) -> None:
        self.broker = memory.MemoryBroker()


class NatsBackend:
    name = "nats"

    def __init__(self, server: NatsServer) -> None:
        self.server = server

    def client(self, settings: BusSettings, hooks: Hooks) -> Bus:
        from crossfade.adapters.nats import open_bus

        return open_bus(self.server.url, settings, hooks)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def start(self) -> None:
        if self.server._process is None:
            await asyncio.to_thread(self.server.start)

    async def store_raw(self, prefix: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        await raw.store(await self.url(), subject, headers, data)

    async def limit(self, prefix: str, family: str, max_bytes: int) -> None:
        await raw.limit(await self.url(), family, max_bytes)

    async def clean(self, prefix: str) -> None:
        await raw.clean(await self.url(), prefix)

    async def url(self) -> str:
        return self.server.url


class EmbeddedBackend(NatsBackend):
    name = "embedded"

    def __init__(self, path: Path) -> None:
        self.path = path

    def client(self, settings: BusSettings, hooks: Hooks) -> Bus:
        from crossfade.adapters.embedded import open_bus

        return open_bus(f"embedded://{self.path}", settings, hooks)

    async def stop(self) -> None:
        from crossfade.adapters.embedded import stop

        await asyncio.to_thread(stop, self.path)

    async def start(self) -> None:
        await self.url()

    async def url(self) -> str:
        from crossfade.adapters.embedded import ensure_server

        return (await asyncio.to_thread(ensure_server, self.path)).url


class KafkaBackend:
    """The run's broker; it goes away for this process by a cut of the ways to it."""

    name = "kafka"

    def __init__(self, broker: SharedKafka) -> None:
        self.broker = broker
        self._clients: weakref.WeakSet[Bus] = weakref.WeakSet()

    def client(self, settings: BusSettings, hooks: Hooks) -> Bus:
        from crossfade.adapters.kafka import open_bus

        client = open_bus(self.broker.url, settings, hooks)
        self._clients.add(client)
        return client

    async def stop(self) -> None:
        self.broker.ways.cut()
        await asyncio.sleep(0.05)  # a broker takes longer to go

    async def start(self) -> None:
        self.broker.ways.mend()

    async def store_raw(self, prefix: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        await kafka_raw.store(self.broker.server, prefix, subject, headers, data)

    async def limit(self, prefix: str, family: str, max_bytes: int) -> None:
        await kafka_raw.limit(self.broker.server, prefix, family, max_bytes)
        for client in self._clients:
            if client.connected:
                await client._limits.refresh()  # they look every two seconds

    async def clean(self, prefix: str) -> None:
        await kafka_raw.clean(self.broker.server, prefix)
