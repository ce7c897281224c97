"""A state bucket seen by one client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crossfade.shim.errors import ConfigurationError

from ._bucket import check_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crossfade.shim.ports import Change, Entry, State

    from ._bus import MemoryBus


class MemoryState:
    """See ``crossfade.shim.ports.State``."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        self._bus = bus
        self._bucket = bus.broker.bucket(name)

    async def get(self, key: str) -> Entry | None:
        """See ``State.get``."""
        check_key(key)
        return await self._bus.perform("get", lambda: self._bucket.get(key, time.monotonic()))

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """See ``State.create``."""
        check_key(key)
        if ttl is not None and ttl < 1:
            raise ConfigurationError(f"a key lives 1 s at least, not {ttl} s", where="ttl")
        return await self._bus.perform(
            "create", lambda: self._bucket.set_at(key, value, revision=None, now=time.monotonic(), ttl=ttl)
        )

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """See ``State.update``."""
        check_key(key)
        return await self._bus.perform(
            "update", lambda: self._bucket.set_at(key, value, revision=revision, now=time.monotonic())
        )

    async def put(self, key: str, value: bytes) -> int:
        """See ``State.put``."""
        check_key(key)
        return await self._bus.perform("put", lambda: self._bucket.put(key, value))

    async def delete(self, key: str) -> None:
        """See ``State.delete``."""
        check_key(key)
        await self._bus.perform("delete", lambda: self._bucket.delete(key, time.monotonic()))

    async def entries(self) -> list[Entry]:
        """See ``State.entries``."""
        return await self._bus.perform("entries", lambda: self._bucket.entries(time.monotonic()))

    async def watch(self) -> AsyncIterator[Change]:
        """See ``State.watch``."""
        revision = 0
        while True:
            seen = self._bus.signal.changes
            for change in await self._changes(revision):
                if change.value is not None or revision:
                    yield change
                revision = change.revision
            await self._bus.signal.wait(seen, self._bucket.wakes_at())

    async def _changes(self, after: int) -> list[Change]:
        return await self._bus.perform_when_running("watch", lambda: self._bucket.changes(after, time.monotonic()))


_: type[State] = MemoryState
