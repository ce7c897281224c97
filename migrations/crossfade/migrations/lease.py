"""Who leads: one of several processes that could, by a lease that must be renewed.

A lease does not keep a paused leader from writing when it wakes up; what it writes is guarded by compare-and-set, so
that an old leader loses, and before it moves a seam it asks once more. The lease keeps two from working against each
other all the time.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import WrongRevisionError

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus, Entry

BUCKET: Final = "leases"
TERM: Final = timedelta(seconds=10)
_RENEW: Final = TERM / 3


class Lease:
    """A named lease that ``holder`` asks for. All times are the broker's."""

    def __init__(self, bus: Bus, name: str, holder: str) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)
        self._name = name
        self._holder = holder
        self._until: datetime | None = None

    async def held(self) -> bool:
        """Take it when it is free, renew it when it is ours; whether it is ours now. Raises ``BusError``."""
        now = self._bus.now()
        if self._until and now < self._until - TERM + _RENEW:
            return True
        entry = await self._state.get(self._name)
        if entry is not None:
            holder, until = _read(entry)
            if holder != self._holder and now < until:
                self._until = None
                return False
        return await self._write(entry, now + TERM)

    async def confirmed(self) -> bool:
        """Whether it is ours by what the bus says just now, whatever was known. Raises ``BusError``."""
        entry = await self._state.get(self._name)
        if entry is None:
            return False
        found, until = _read(entry)
        return found == self._holder and self._bus.now() < until

    async def release(self) -> None:
        """Let another have it at once. Raises ``BusError``."""
        if self._until is None:
            return
        self._until = None
        entry = await self._state.get(self._name)
        if entry is not None and _read(entry)[0] == self._holder:
            await self._write(entry, self._bus.now())
            self._until = None

    async def _write(self, entry: Entry | None, until: datetime) -> bool:
        value = json.dumps({"holder": self._holder, "until": until.isoformat()}).encode()
        try:
            if entry is None:
                await self._state.create(self._name, value)
            else:
                await self._state.update(self._name, value, revision=entry.revision)
        except WrongRevisionError:
            self._until = None
            return False
        self._until = until
        return True


async def holder(bus: Bus, name: str) -> str:
    """Who holds the lease now; empty when nobody does. Raises ``BusError``."""
    entry = await bus.state(BUCKET).get(name)
    if entry is None:
        return ""
    found, until = _read(entry)
    return found if bus.now() < until else ""


def _read(entry: Entry) -> tuple[str, datetime]:
    stored = json.loads(entry.value)
    return stored["holder"], datetime.fromisoformat(stored["until"])
