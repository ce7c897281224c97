"""Where instances lie: a state bucket of those that live, changed by compare-and-set, and one of those that ended.

Live ones never expire, however long they wait. What has ended moves to the second bucket, whose keys expire.

Events of two types have no order, so one may come before the event that starts its instance. It is kept in a third
bucket, under the instance it would belong to, for an hour. Whoever keeps one looks for the instance after that, whoever
starts one looks for early events after that: one of them finds the other.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import EventTooLargeError, MalformedEventError, WrongRevisionError
from crossfade.shim.hooks import report

from .instance import read_instance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.ports import Bus

    from .instance import Instance

LIVE: Final = "workflows"
ENDED: Final = "workflows_ended"
EARLY: Final = "workflows_early"

KEPT: Final = 3600.0
"""Seconds that an event is kept for an instance that has not begun."""

SLOTS: Final = 16
"""Events that are kept for one instance that has not begun."""

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
        self._early = bus.state(EARLY)

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

    async def keep_early(self, instance: str, event: Mapping[str, Any]) -> bool:
        """Keep an event for an instance that has not begun; ``False``: there are too many."""
        value = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")
        for slot in range(SLOTS):
            try:
                await self._early.create(f"{instance}.{slot}", value, ttl=KEPT)
            except WrongRevisionError:
                lying = await self._early.get(f"{instance}.{slot}")
                if lying is not None and json.loads(lying.value)["id"] == event["id"]:
                    return True
            else:
                return True
        return False

    async def early(self, instance: str) -> list[dict[str, Any]]:
        """The events kept for it; they stay until they expire."""
        found: list[dict[str, Any]] = []
        for slot in range(SLOTS):
            entry = await self._early.get(f"{instance}.{slot}")
            if entry is None:
                break
            found.append(json.loads(entry.value))
        return found

    async def awaited(self) -> set[str]:
        """The instances that events are kept for."""
        return {entry.key.partition(".")[0] for entry in await self._early.entries()}

    async def retire(self, instance: Instance, *, keep: float) -> None:
        """Move one that has ended to where it expires after ``keep`` seconds; again does no harm."""
        instance.outbox = []
        with contextlib.suppress(WrongRevisionError):  # moved before
            await self._ended.create(instance.id, instance.encode(), ttl=keep)
        await self._live.delete(instance.id)

    async def live(self) -> list[tuple[str, bytes, int]]:
        """Id, value and revision of every live instance, unread."""
        return [(entry.key, entry.value, entry.revision) for entry in await self._live.entries()]

    async def readable(self) -> list[Instance]:
        """Every live instance; one that cannot be read, of a later version perhaps, is counted: engines say more."""
        found: list[Instance] = []
        for _, value, _ in await self.live():
            try:
                found.append(read_instance(value))
            except MalformedEventError:
                report.count("skipped", seam="workflows", reason="state")
        return found

    async def ended(self) -> list[tuple[str, bytes, int]]:
        """The same of those that have ended and are still kept."""
        return [(entry.key, entry.value, entry.revision) for entry in await self._ended.entries()]
