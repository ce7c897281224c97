"""What a test may do to a broker behind a client's back; one class per bus the suite runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from crossfade.adapters import memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import Bus, BusSettings


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
        """Bound the stream of the subjects whose first token is ``family``; it refuses what does not fit."""

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
        self.broker.limit(family, max_bytes=max_bytes, discard="new")

    async def clean(self, prefix: str) -> None:
        self.broker = memory.MemoryBroker()
