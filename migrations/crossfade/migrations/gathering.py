"""Gathers evidence from what lies on the bus, so that every event is counted once, whenever this process ends.

Evidence and the positions up to which it counts are written in one go, by compare-and-set: a reader that was replaced
cannot write, and one that starts goes on where the last checkpoint was. The policy is read before the events: an event
of a newer revision than is known waits until the policy is known, too. A stream that was made anew, or that came back
without its end, is followed again and counted (``skipped``): a position of before must not hide what comes now.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.claimcheck import load_data
from crossfade.shim.coverage import Coverages
from crossfade.shim.errors import CrossfadeError, MalformedEventError, WrongRevisionError
from crossfade.shim.hooks import report

from .evidence import Evidence, Traffic

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus, Position, Stored
    from crossfade.shim.subjects import Subjects

    from .progress import Live

BUCKET: Final = "evidence"

_PATIENCE: Final = timedelta(seconds=10)
"""How long an event of an unknown revision is waited for; the policy's reader follows within two seconds."""


class OutrunError(CrossfadeError):
    """Another process has written this seam's evidence: it leads now, and this one must not act on what it holds."""


@dataclass(kw_only=True, slots=True)
class Gathered:
    """What is kept of one seam. ``baseline``: legacy's traffic when there last was any, under an earlier revision.

    ``positions``: by filter, of the last event that is counted; ``epochs``: of which stream they are. ``written``: the
    entry's revision, 0 before the first.
    """

    evidence: Evidence
    baseline: Traffic | None = None
    positions: dict[str, Position] = field(default_factory=dict[str, "Position"])
    epochs: dict[str, str] = field(default_factory=dict[str, str])
    written: int = 0
    changed: bool = False

    def renew(self, revision: int, since: datetime) -> None:
        """Begin anew, because the policy changed; legacy's traffic stays the measure where it has none any more."""
        legacy = self.evidence.paths["legacy"]
        self.baseline = legacy if legacy.calls else self.baseline
        known = self.evidence  # which builds have been seen is remembered, or a straggler would look like a new one
        self.evidence = Evidence(
            seam=known.seam, revision=revision, since=since, build=known.build, builds=known.builds, turns=known.turns
        )
        self.changed = True

    def encode(self) -> bytes:
        """The value of the bucket ``evidence``."""
        return json.dumps(
            {
                "evidence": self.evidence.to_json(),
                "baseline": self.baseline.to_json() if self.baseline else None,
                "positions": self.positions,
                "epochs": self.epochs,
            }
        ).encode()

    @classmethod
    def decode(cls, value: bytes, *, written: int) -> Gathered:
        """Read a value of the bucket. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        stored: dict[str, Any] = json.loads(value)
        return cls(
            evidence=Evidence.from_json(stored["evidence"]),
            baseline=Traffic.from_json(stored["baseline"]) if stored["baseline"] else None,
            positions=stored["positions"],
            epochs=stored.get("epochs", {}),
            written=written,
        )


class Gatherer:
    """Keeps the evidence of some seams up to date."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._state = bus.state(BUCKET)
        self._coverages = Coverages(bus)
        self._kept: dict[str, Gathered] = {}

    async def gather(self, seam: str, domain: str, live: Live) -> Gathered:
        """The evidence of ``seam`` under the policy in force, with everything that lies on the bus by now.

        Raises ``BusError``. What cannot be read is counted (``skipped``) and passed over.
        """
        since = min(live.since or self._bus.now(), self._bus.now())  # whoever moved it may have another clock
        kept = self._kept.get(seam) or await self._load(seam, live.revision, since)
        self._kept[seam] = kept
        if kept.evidence.revision != live.revision:
            kept.renew(live.revision, since)
        for family in self._families(seam, domain):
            await self._read(kept, family)
        counted = [found for found in await self._coverages.counted(seam) if found.revision == live.revision]
        kept.evidence.cover((kind, *counts) for found in counted for kind, counts in found.calls.items())
        unanswered = sum((Counter(found.unanswered) for found in counted), Counter[str]())
        kept.changed |= kept.evidence.miss(unanswered, self._bus.now())
        return kept

    async def keep(self, seam: str) -> None:
        """Write a checkpoint, if there is news. Raises ``OutrunError`` when another process has, and ``BusError``."""
        kept = self._kept[seam]
        if not kept.changed:
            return
        try:
            if kept.written:
                kept.written = await self._state.update(seam, kept.encode(), revision=kept.written)
            else:
                kept.written = await self._state.create(seam, kept.encode())
        except WrongRevisionError as error:
            self.forget()
            raise OutrunError(f"the evidence of {seam} was written by another process") from error
        kept.changed = False

    def forget(self) -> None:
        """Drop what is held: the next ``gather`` begins at the last checkpoint."""
        self._kept.clear()

    async def _load(self, seam: str, revision: int, since: datetime) -> Gathered:
        entry = await self._state.get(seam)
        if entry is not None:
            try:
                return Gathered.decode(entry.value, written=entry.revision)
            except (CrossfadeError, ValueError, KeyError, TypeError) as error:
                report.count("skipped", seam=seam, reason=f"evidence-{type(error).__name__}")
        fresh = Gathered(
            evidence=Evidence(seam=seam, revision=revision, since=since), written=entry.revision if entry else 0
        )
        fresh.changed = True
        return fresh

    def _families(self, seam: str, domain: str) -> tuple[str, ...]:
        subjects = self._subjects
        return subjects.verdicts(seam), subjects.observations(seam), subjects.results(domain, seam)

    async def _read(self, kept: Gathered, family: str) -> None:
        try:
            newest = await self._bus.last(family)
        except MalformedEventError:  # which the reader counts and passes over
            newest = None
        else:
            if newest is None or newest.position == kept.positions.get(family):
                return
        await self._follow(kept, family)
        came = False
        async for stored in self._bus.read(family, after=kept.positions.get(family)):
            came = True
            if self._must_wait(kept, stored):
                return
            await self._count(kept, stored)
            kept.positions[family] = stored.position
            kept.changed = True
        if newest is not None and not came:  # the position lies beyond the end: what came since cannot be told apart
            report.count("skipped", seam=kept.evidence.seam, reason="evidence-stream-lost")
            kept.positions[family] = newest.position
            kept.changed = True

    async def _follow(self, kept: Gathered, family: str) -> None:
        """Begin anew where the stream did."""
        epoch = (await self._bus.extent(family)).epoch
        if kept.epochs.get(family, epoch) != epoch:
            report.count("skipped", seam=kept.evidence.seam, reason="evidence-stream-anew")
            kept.positions.pop(family, None)
        kept.epochs[family] = epoch

    def _must_wait(self, kept: Gathered, stored: Stored) -> bool:
        """Whether it is of a revision that this reader has not heard of, and surely will."""
        revision = stored.event.get("policyrev") or ""
        ahead = revision.isdigit() and int(revision) > kept.evidence.revision
        return ahead and self._bus.now() - stored.time < _PATIENCE

    async def _count(self, kept: Gathered, stored: Stored) -> None:
        try:
            if stored.event.get("dataref"):
                data = await load_data(self._bus, stored.event)
                stored = replace(stored, event=replace(stored.event, data=data))
            kept.evidence.add(stored)
        except (CrossfadeError, ValueError, KeyError, TypeError) as error:
            report.count("skipped", seam=kept.evidence.seam, reason=f"evidence-{type(error).__name__}")
