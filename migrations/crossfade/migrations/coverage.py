"""How much of a seam's traffic its comparisons speak for, by kind of call: coverage = compared / eligible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from crossfade.shim.coverage import Coverages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crossfade.shim.coverage import Counted
    from crossfade.shim.events import Event
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

JUDGED: Final = frozenset({"match", "mismatch", "ignored"})


@dataclass(kw_only=True, slots=True)
class Covered:
    """One kind of call: ``eligible`` ones, those fully ``observed``, ``compared``, and ``unjudged`` by a shadow.

    ``unjudged`` are skipped or inconclusive; ``observed`` less both never reached a shadow, or have not yet.
    """

    eligible: int = 0
    observed: int = 0
    compared: int = 0
    unjudged: int = 0

    @property
    def share(self) -> float | None:
        """Compared of eligible, 0 to 1; ``None`` when nothing was eligible: missing data is no coverage."""
        return min(1.0, self.compared / self.eligible) if self.eligible else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """A seam under one revision of its policy, by kind of call; see ``crossfade.shim.coverage.kind_of_call``."""

    seam: str
    revision: int
    kinds: Mapping[str, Covered] = field(default_factory=dict[str, Covered])

    @property
    def total(self) -> Covered:
        """All kinds together."""
        return together(self.kinds)


def together(kinds: Mapping[str, Covered]) -> Covered:
    """All kinds of calls as one."""
    found = kinds.values()
    return Covered(
        eligible=sum(kind.eligible for kind in found),
        observed=sum(kind.observed for kind in found),
        compared=sum(kind.compared for kind in found),
        unjudged=sum(kind.unjudged for kind in found),
    )


async def read_coverage(bus: Bus, subjects: Subjects, seam: str, *, revision: int) -> Coverage:
    """The coverage of ``seam`` since ``revision`` of its policy is in force. Raises ``BusError``.

    Processes tell their counts every 15 seconds (sooner after a change of the policy) and when they end: until then a
    comparison may be known whose call is not. Reads every ``seam.compared`` of the seam that is kept, in time linear in
    them.
    """
    counted = await Coverages(bus).counted(seam)
    events = [stored.event async for stored in bus.read(subjects.verdicts(seam))]
    return fold(seam, revision, counted, events)


def fold(seam: str, revision: int, counted: Iterable[Counted], compared: Iterable[Event]) -> Coverage:
    """The coverage that processes' counts and ``seam.compared`` events amount to; other revisions' are left out."""
    kinds: dict[str, Covered] = {}
    for found in counted:
        if found.revision == revision:
            for kind, (eligible, observed) in found.calls.items():
                covered = kinds.setdefault(kind, Covered())
                covered.eligible += eligible
                covered.observed += observed
    for event in compared:
        payload = json.loads(event.data or b"{}")
        if event.get("policyrev") == str(revision) and payload.get("source") == "shadow":
            covered = kinds.setdefault(payload.get("kind") or "unknown", Covered())
            if payload["verdict"] in JUDGED:
                covered.compared += 1
            else:
                covered.unjudged += 1
    return Coverage(seam=seam, revision=revision, kinds=dict(sorted(kinds.items())))
