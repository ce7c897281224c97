"""Where instances lie: a state bucket of those that live, changed by compare-and-set, and one of those that ended.

Live ones never expire, however long they wait. What has ended moves to the second bucket, whose keys expire.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import EventTooLargeError, WrongRevisionError

from .instance import read_instance

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus

    from .instance import Instance

LIVE: Final = "workflows"
ENDED: Final = "workflows_ended"

LARGEST: Final = 512 * 1024
"""Bytes of an instance's state: half of what a broker accepts unless told otherwise."""


@dataclass(slots=True)
class Held:
    """An instance as it lies in the bucket. ``sent``: this process has published its outbox."""

    instance: Instance
    revision: int
    sent: bool = False


class Store:
    """Reads and writes instances over a connected bus. Every method raises ``BusError``."""

    def __init__(self, bus: Bus) -> None:
        self._live = bus.state(LIVE)
        self._ended = bus.state(ENDED)

    async def get(self, instance: str) -> Held | None:
        """The live instance of this id. Raises ``MalformedEventError`` (reason ``state``) when it cannot be read."""
        entry = await self._live.get(instance)
        return None if entry is None else Held(read_instance(entry.value), entry.revision)

    async def find(self, instance: str) -> Instance | None:
        """The instance of this id, live or ended."""
        held = await self.get(instance)
        if held is not None:
            return held.instance
        entry = await self._ended.get(instance)
        return None if entry is None else read_instance(entry.value)

    async def was(self, instance: str) -> bool:
        """Whether an instance of this id has ended. Ask after ``get``: it moves there before it is deleted here."""
        return await self._ended.get(instance) is not None

    async def write(self, instance: Instance, *, revision: int | None) -> Held:
        """Store it, if it is still at ``revision`` (``None``: not there).

        Raises ``WrongRevisionError``, and ``EventTooLargeError`` above half a megabyte.
        """
        value = instance.encode()
        if len(value) > LARGEST:
            raise EventTooLargeError(size=len(value), limit=LARGEST)
        if revision is None:
            return Held(instance, await self._live.create(instance.id, value))
        return Held(instance, await self._live.update(instance.id, value, revision=revision))

    async def retire(self, instance: Instance, *, keep: float) -> None:
        """Move one that has ended to where it expires after ``keep`` seconds; again does no harm."""
        instance.outbox = []
        with contextlib.suppress(WrongRevisionError):  # moved before
            await self._ended.create(instance.id, instance.encode(), ttl=keep)
        await self._live.delete(instance.id)

    async def live(self) -> list[tuple[str, bytes, int]]:
        """Id, value and revision of every live instance, unread."""
        return [(entry.key, entry.value, entry.revision) for entry in await self._live.entries()]

    async def ended(self) -> list[tuple[str, bytes, int]]:
        """The same of those that have ended and are still kept."""
        return [(entry.key, entry.value, entry.revision) for entry in await self._ended.entries()]
