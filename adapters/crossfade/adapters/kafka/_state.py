"""State buckets: a journal of writes, each on its condition; the order decides which one holds.

Compaction would keep the last record of a key, which may be the write that lost, so the topic is not compacted: the
journal's snapshots are what a compacted topic would be, a value per key, and they are made of winners only. A revision
is the offset of the write. Expiry is judged by the broker's time in the records, and for reading by its clock.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import ConfigurationError, WrongRevisionError
from crossfade.shim.ports import Change, Entry

from ._log import wait
from ._logs import milliseconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from crossfade.adapters._clock import BrokerClock

    from ._cluster import Cluster
    from ._journal import Journal, Operation

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds; ``expires`` in milliseconds of the broker's time."""

    value: bytes
    revision: int
    expires: int | None

    def is_there(self, now: int) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires


class Buckets:
    """Every bucket's keys; see ``State`` of the journal."""

    def __init__(self) -> None:
        self.all: dict[str, dict[str, Value]] = {}

    def apply(self, operation: Operation, value: bytes, *, offset: int, time: int) -> Any:
        """See ``State.apply``: ``(True, revision)``, or ``(False, the revision it is at)``."""
        act, key = operation.get("do"), operation.get("k")
        if act not in ("set", "delete") or key is None:
            return None
        bucket = self.all.setdefault(operation["b"], {})
        found = bucket.get(key)
        actual = found.revision if found is not None and found.is_there(time) else None
        if "at" in operation and operation["at"] != actual:
            return False, actual
        if act == "delete":
            bucket.pop(key, None)
        else:
            ttl = operation.get("ttl")
            bucket[key] = Value(value, offset, None if ttl is None else time + ttl)
        return True, offset

    def dump(self) -> Iterable[tuple[Operation, bytes]]:
        """See ``State.dump``."""
        for name, bucket in self.all.items():
            for key, found in bucket.items():
                yield {"b": name, "k": key, "revision": found.revision, "expires": found.expires}, found.value

    def load(self, parts: Iterable[tuple[Operation, bytes]]) -> None:
        """See ``State.load``."""
        for part, value in parts:
            if "b" in part:
                bucket = self.all.setdefault(part["b"], {})
                bucket[part["k"]] = Value(value, part["revision"], part["expires"])


class KafkaState:
    """See ``State``."""

    def __init__(self, cluster: Cluster, journal: Journal, buckets: Buckets, clock: BrokerClock, bucket: str) -> None:
        self._cluster = cluster
        self._journal = journal
        self._buckets = buckets
        self._clock = clock
        self._bucket = bucket

    async def get(self, key: str) -> Entry | None:
        """See ``State.get``."""
        _check(key)
        await self._journal.synced()
        return self._there().get(key)

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """See ``State.create``; a deleted or expired key counts as absent."""
        if ttl is not None and ttl < 1:
            raise ConfigurationError(f"ttl is {ttl}: 1 second is the shortest", where="ttl")
        more = {} if ttl is None else {"ttl": int(ttl * 1000)}
        return await self._write(key, value, {"do": "set", "at": None, **more})

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """See ``State.update``."""
        return await self._write(key, value, {"do": "set", "at": revision})

    async def put(self, key: str, value: bytes) -> int:
        """See ``State.put``."""
        return await self._write(key, value, {"do": "set"})

    async def delete(self, key: str) -> None:
        """See ``State.delete``."""
        await self._write(key, b"", {"do": "delete"})

    async def _write(self, key: str, value: bytes, operation: Operation) -> int:
        _check(key)
        done, revision = await self._journal.propose({"b": self._bucket, "k": key, **operation}, value)
        if not done:
            raise WrongRevisionError(key, actual=revision)
        return int(revision)

    async def entries(self) -> list[Entry]:
        """See ``State.entries``."""
        await self._journal.synced()
        return list(self._there().values())

    def _there(self) -> dict[str, Entry]:
        now = milliseconds(self._clock.now())
        return {
            key: Entry(key=key, value=found.value, revision=found.revision)
            for key, found in self._buckets.all.get(self._bucket, {}).items()
            if found.is_there(now)
        }

    async def watch(self) -> AsyncIterator[Change]:
        """See ``State.watch``: what differs from the last look, at each news of the journal and when a key expires."""
        woken = asyncio.Event()
        self._journal.log.listeners.add(woken.set)
        self._cluster.listeners.add(woken.set)
        try:
            known: dict[str, int] = {}
            await self._journal.synced()
            while True:
                woken.clear()
                self._cluster.check_open()
                for change in self._changes(known):
                    yield change
                await wait(woken, self._until_expiry())
        finally:
            self._journal.log.listeners.discard(woken.set)
            self._cluster.listeners.discard(woken.set)

    def _changes(self, known: dict[str, int]) -> list[Change]:
        """What differs from ``known`` (key -> revision), which is brought up to date."""
        now = self._there()
        last = self._journal.log.position - 1
        changes = [Change(key=key, value=None, revision=last) for key in known if key not in now]
        changes += [
            Change(key=entry.key, value=entry.value, revision=entry.revision)
            for entry in now.values()
            if known.get(entry.key) != entry.revision
        ]
        known.clear()
        known.update((key, entry.revision) for key, entry in now.items())
        return sorted(changes, key=lambda change: change.revision)

    def _until_expiry(self) -> float | None:
        now = milliseconds(self._clock.now())
        found = self._buckets.all.get(self._bucket, {}).values()
        dues = [each.expires - now for each in found if each.expires is not None and each.is_there(now)]
        return max(0.001, min(dues) / 1000) if dues else None


def _check(key: str) -> None:
    if not _KEY.match(key):
        raise ConfigurationError(f"{key!r} is no state key: use A-Z, a-z, 0-9, _ - and dots within", where="key")
