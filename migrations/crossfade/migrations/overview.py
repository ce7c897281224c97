"""What there is to see of the playbooks in force, for whoever looks: command line, API and dashboard read this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.standing import standings

from .applied import Migrations
from .controller import LEASE
from .gathering import Gatherer
from .lease import holder
from .progress import reconcile
from .replays import Replays
from .ruling import asks_for_replay, live_of, rule_on

if TYPE_CHECKING:
    from crossfade.shim.policies import Policies
    from crossfade.shim.ports import Bus
    from crossfade.shim.standing import Standing
    from crossfade.shim.subjects import Subjects

    from .applied import Applied
    from .gates import Ruling
    from .gathering import Gathered
    from .progress import Live, SeamProgress


_NOTHING: Final = {"from": "", "at": "", "digest": "", "build": "", "findings": (), "mismatches": ()}
"""Of a rollback that rested on no evidence: a person's, or one whose controller died before it could say more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeamView:
    """One seam on its playbook, with what is known of it up to now.

    ``standing``, ``live``, ``ruling`` and ``gathered`` are ``None`` while no process has declared the seam.
    """

    applied: Applied
    progress: SeamProgress
    standing: Standing | None = None
    live: Live | None = None
    ruling: Ruling | None = None
    gathered: Gathered | None = None

    def to_json(self) -> dict[str, Any]:
        """What scripts and pages read."""
        steps = self.applied.playbook.steps
        following = steps[self.progress.step + 1] if self.progress.step + 1 < len(steps) else None
        return {
            "seam": self.progress.seam,
            "playbook": self.applied.name,
            "stage": self.live.stage if self.live else None,
            "percent": self.live.percent if self.live else None,
            "revision": self.live.revision if self.live else None,
            "step": self.progress.step,
            "steps": [str(step) for step in steps],
            "next": str(following) if following else None,
            "status": self.progress.status,
            "reason": self.progress.reason,
            "ruling": self.ruling.kind if self.ruling else None,
            "findings": [finding.to_json() for finding in self.ruling.findings] if self.ruling else [],
            "evidence": _evidence(self.gathered) if self.gathered else None,
            "rolled_back": {**_NOTHING, **self.progress.back} if self.progress.status == "rolled-back" else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Every playbook in force; ``leader``: the process that moves their seams, empty when none does.

    ``others``: declared seams that no playbook moves.
    """

    leader: str
    playbooks: list[Applied]
    seams: list[SeamView]
    others: list[Standing]


async def overview(bus: Bus, subjects: Subjects, policies: Policies, *, gatherer: Gatherer | None = None) -> Overview:
    """Everything, judged now from the last checkpoint and what came after it. Raises ``BusError``.

    Who looks again and again keeps a ``gatherer``: it reads on from where it was.
    """
    gatherer = gatherer or Gatherer(bus, subjects)
    playbooks = await Migrations(bus).all()
    standing = {found.seam: found for found in await standings(policies, bus)}
    seams = [
        await _view(bus, gatherer, applied, progress, standing.get(name))
        for applied in playbooks
        for name, progress in applied.seams.items()
    ]
    moved = {view.progress.seam for view in seams}
    others = [found for name, found in standing.items() if name not in moved]
    return Overview(leader=await holder(bus, LEASE), playbooks=playbooks, seams=seams, others=others)


async def _view(
    bus: Bus, gatherer: Gatherer, applied: Applied, progress: SeamProgress, standing: Standing | None
) -> SeamView:
    if standing is None:
        return SeamView(applied=applied, progress=progress)
    live = live_of(standing)
    progress = reconcile(applied.playbook, progress, live)
    gathered = await gatherer.gather(progress.seam, standing.declared.domain, live)
    replayed = await Replays(bus).last(progress.seam) if asks_for_replay(applied.playbook, progress) else None
    ruling = rule_on(applied.playbook, progress, live, gathered, now=bus.now(), replayed=replayed)
    return SeamView(applied=applied, progress=progress, standing=standing, live=live, ruling=ruling, gathered=gathered)


def _evidence(gathered: Gathered) -> dict[str, Any]:
    evidence = gathered.evidence
    covered = evidence.covered
    return {
        "since": evidence.begun.isoformat(),
        "build": evidence.build,
        "outdated": evidence.outdated,
        "unanswered": dict(evidence.unanswered),
        "tenants": {
            name: {"calls": share.calls, "failed": share.failed} for name, share in evidence.tenants.shares.items()
        },
        "newest": evidence.newest.isoformat() if evidence.newest else None,
        "verdicts": dict(evidence.verdicts),
        "reasons": dict(evidence.reasons),
        "handlers": sorted(evidence.handlers),
        "keys": len(evidence.keys),
        "eligible": covered.eligible,
        "compared": evidence.compared,
        "coverage": covered.share,
        "digest": evidence.digest(),
        "mismatches": evidence.mismatches(),
        "paths": {
            path: {
                "calls": traffic.calls,
                "errors": traffic.errors,
                "unknown": traffic.unknown,
                "not_executed": traffic.not_executed,
                "p50": traffic.latency.quantile(0.5),
                "p99": traffic.latency.quantile(0.99),
            }
            for path, traffic in evidence.paths.items()
        },
    }
