"""The runs that pages show: one index in this process, brought up to date a bit at a time while somebody looks.

It lies in a temporary file, reads each event once, and forgets what is old: nobody's look reads the log again. A run
that it does not hold is asked of the bus by its subject.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from crossfade.migrations.traces.index import Selection, TraceIndex

if TYPE_CHECKING:
    from crossfade.migrations.traces.index import Summary
    from crossfade.migrations.traces.run import Run
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

REACH: Final = timedelta(hours=1)
"""How far back the first look goes; what a run's subject still holds is found beyond it."""

KEPT: Final = timedelta(hours=24)
"""How long a run is shown: as long as the bus keeps calls."""

MOST_CALLS: Final = 50_000
"""Calls of the index, about 15 MB of a temporary file."""

LISTED: Final = 50
AT_ONCE: Final = 2000
"""Events of a kind that one look takes in; the page says when there are more, and looks again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """The newest runs that were asked for. ``behind``: events are left to be read."""

    runs: list[Summary]
    behind: bool


class Runs:
    """Looks when it is asked to."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._index = TraceIndex(None, source="this process")
        self._looking = asyncio.Lock()
        weakref.finalize(self, self._index.close)

    async def newest(self, wanted: Selection) -> Listed:
        """What is known now. Raises ``BusError``."""
        async with self._looking:
            behind = await self._look()
            return Listed(runs=self._index.summaries(wanted, limit=LISTED), behind=behind)

    async def find(self, run: str) -> Run | None:
        """One run by its id, or the id of any of its calls. Raises ``BusError``."""
        async with self._looking:
            await self._look()
            found = self._index.run(run)
            if found is None:
                await self._index.take_run(self._bus, self._subjects, run, most=AT_ONCE)
                found = self._index.run(run)
            return found

    async def _look(self) -> bool:
        behind = await self._index.glance(self._bus, self._subjects, reach=REACH, most=AT_ONCE)
        self._index.prune(most=MOST_CALLS, before=(self._bus.now() - KEPT).timestamp())
        return behind
