"""Keeps the history of legacy hits of every seam at bus or retired, in the bucket ``hits``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import WrongRevisionError
from crossfade.shim.hooks import report
from crossfade.shim.stages import Stage

from .hits import History, follow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from crossfade.shim.instances import Instances
    from crossfade.shim.ports import Bus, Entry
    from crossfade.shim.standing import Standing

BUCKET: Final = "hits"
_COUNTED: Final = (Stage.BUS, Stage.RETIRED)


class Histories:
    """Reads and writes them over a connected bus; whoever looks is the one controller that leads."""

    def __init__(self, bus: Bus, instances: Instances) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)
        self._instances = instances

    async def find(self, seam: str) -> History | None:
        """The history of ``seam``, if there is one that can be read. Raises ``BusError``."""
        entry = await self._state.get(seam)
        return _read(entry) if entry else None

    async def now(self, seam: str, stage: Stage) -> History | None:
        """The history of ``seam`` with one look more, which nobody writes down. Raises ``BusError``.

        For who decides on it: a hit since the controller's last look is no quiet.
        """
        history = await self.find(seam)
        if history is None or history.stage is not stage:
            return history
        return follow(history, seam, stage, await self._instances.known(), now=self._bus.now())

    async def look(self, seams: Iterable[Standing]) -> None:
        """Look at every process now, and write down what it means for these seams. Raises ``BusError``."""
        counted = [found for found in seams if found.policy.stage in _COUNTED]
        known = await self._instances.known() if counted else []
        for found in counted:
            entry = await self._state.get(found.seam)
            history = _read(entry) if entry else None
            following = follow(history, found.seam, found.policy.stage, known, now=self._bus.now())
            await self._write(entry, following)

    async def acknowledge(self, seam: str, *, by: str, period: timedelta, reason: str = "") -> History | None:
        """Write down that somebody knows that the code goes; ``None`` when the quiet has ended meanwhile."""
        entry = await self._state.get(seam)
        known = _read(entry) if entry else None
        history = await self.now(seam, known.stage) if known else None
        if history is None or history.silent or self._bus.now() - history.since < period:
            return None
        said = replace(history, acknowledged=f"{by}, {self._bus.now().isoformat()}: {reason}".rstrip(": "))
        await self._write(entry, said)
        return said

    async def _write(self, entry: Entry | None, history: History) -> None:
        try:
            if entry is None:
                await self._state.create(history.seam, history.encode())
            else:
                await self._state.update(history.seam, history.encode(), revision=entry.revision)
        except WrongRevisionError:  # another leads now, or somebody has acknowledged: the next look goes on from there
            report.count("skipped", seam=history.seam, reason="hits-outrun")


def _read(entry: Entry) -> History | None:
    try:
        return History.decode(entry.key, entry.value)
    except (ValueError, KeyError, TypeError) as error:  # the quiet begins anew: unreadable is unknown
        report.count("skipped", seam=entry.key, reason=f"hits-{type(error).__name__}")
        return None
