"""Following playbooks while the controller works: which seam moved where, on what evidence, and how each ended."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.operating import Act
from crossfade.migrations.playbook import read_playbook
from crossfade.migrations.retirements import Asked, Retirements
from crossfade.shim.errors import StageChangeRefusedError
from crossfade.shim.policies import Policies

from .verdict import Moved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping
    from datetime import timedelta

    from crossfade.migrations.playbook import Playbook
    from crossfade.migrations.progress import SeamProgress
    from crossfade.migrations.retiring import Deletion
    from crossfade.shim.ports import Bus, Position
    from crossfade.shim.subjects import Subjects

_LOOK: Final = 0.25  # seconds between two looks
_ENDED: Final = ("done", "rolled-back", "paused")


class Walk:
    """Puts playbooks in force and follows what the controller makes of them, over an open bus."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._migrations = Migrations(bus)
        self._subjects = subjects
        self._moves = subjects.fact("seam.stage.changed")
        self._seen: Position | None = None

    async def apply(self, text: str) -> Playbook:
        """Put a playbook in force, as ``crossfade migrate apply`` does."""
        playbook = read_playbook("the desk's playbook", text=text.encode())
        now = datetime.now(UTC).isoformat()
        await self._migrations.apply(Applied(name=playbook.name, text=text, actor="demo", applied=now))
        return playbook

    async def follow(self, tell: Callable[[Moved], None], *, seconds: float) -> Mapping[str, SeamProgress]:
        """Tell every move until all seams have come to an end, or for so long; returns where they are."""
        end = time.monotonic() + seconds
        while True:
            seams = {seam: progress for found in await self._migrations.all() for seam, progress in found.seams.items()}
            async for move in self._news():
                tell(move)
            if all(progress.status in _ENDED for progress in seams.values()) or time.monotonic() > end:
                return seams
            await asyncio.sleep(_LOOK)

    async def retire(
        self, seams: Collection[str], tell: Callable[[Moved], None], *, period: timedelta, seconds: float
    ) -> tuple[Mapping[str, Deletion], Mapping[str, str]]:
        """Retire seams as ``crossfade migrate retire`` does, each as soon as nothing holds it, for so long.

        Returns what can be deleted of each that was acknowledged, and what held the others.
        """
        end = time.monotonic() + seconds
        retirements = Retirements(self._bus, self._subjects, Policies(self._bus, self._subjects))
        gone: dict[str, Deletion] = {}
        held: dict[str, str] = dict.fromkeys(seams, "")
        while held and time.monotonic() < end:
            for seam in list(held):
                act = Act(actor="demo", reason=f"nobody needed its legacy code for {period.seconds} s")
                try:
                    done = await retirements.carry_out(Asked(seam=seam, period=period, act=act, acknowledge=True))
                except StageChangeRefusedError as error:
                    held[seam] = str(error)
                    continue
                if done.deletion is not None:
                    gone[seam] = done.deletion
                    del held[seam]
            async for move in self._news():
                tell(move)
            await asyncio.sleep(_LOOK)
        return gone, held

    async def _news(self) -> AsyncGenerator[Moved]:
        async for stored in self._bus.read(self._moves, after=self._seen):
            self._seen = stored.position
            yield _moved(json.loads(stored.event.data or b"{}"))


def _moved(payload: Mapping[str, Any]) -> Moved:
    evidence = payload.get("evidence", {})
    return Moved(
        seam=payload["seam"],
        was=payload["from"],
        to=payload["to"],
        actor=payload["actor"],
        reason=payload["reason"].removeprefix(f"playbook {evidence.get('playbook', '')}: "),
        ruling=evidence.get("ruling", ""),
        digest=evidence.get("digest", ""),
        findings=evidence.get("findings", []),
        at=time.monotonic(),
    )
