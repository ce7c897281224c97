"""Leads a seam's legacy code out: look, move the seam or take an acknowledgement, and say what is next.

The command line, the API and the dashboard do it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossfade.shim.errors import StageChangeRefusedError, UnknownSeamError
from crossfade.shim.instances import build_name
from crossfade.shim.policies import Move
from crossfade.shim.stages import Stage
from crossfade.shim.standing import standings

from .gathering import Gatherer
from .histories import Histories
from .operating import changed_since
from .retiring import deletion, judge_retirement
from .ruling import live_of

if TYPE_CHECKING:
    from datetime import timedelta

    from crossfade.shim.policies import Policies
    from crossfade.shim.ports import Bus
    from crossfade.shim.standing import Standing
    from crossfade.shim.subjects import Subjects

    from .hits import Build, History
    from .operating import Act
    from .retiring import Deletion, Retirement, Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What somebody wants. ``only``: this step and no other; ``route``: where the seam's route is, if that is known."""

    seam: str
    period: timedelta
    act: Act
    check: bool = False
    acknowledge: bool = False
    only: Step | None = None
    route: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A seam on its way out: ``handlers`` answered at this stage; ``deletion``: what can go once all is done."""

    standing: Standing
    history: History | None
    retirement: Retirement
    handlers: frozenset[str]
    deletion: Deletion


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """Where the seam was, what was done, and what can be deleted."""

    retirement: Retirement
    did: str = ""
    deletion: Deletion | None = None

    def to_json(self) -> dict[str, Any]:
        """What scripts read."""
        found, code = self.retirement, self.deletion
        return {
            "seam": found.seam,
            "stage": found.stage,
            "next": found.next,
            "holds": list(found.holds),
            "quiet_since": found.since.isoformat() if found.since else None,
            "builds": [told_of(build) for build in found.builds],
            "done": self.did,
            "delete": {"place": code.place, "what": code.what} if code else None,
        }

    def lines(self, *, period: str) -> list[str]:
        """What a person reads; ``period`` as they wrote it, for the command that is next."""
        found = self.retirement
        if self.deletion:
            return [f"{found.seam}: {self.did}", f"{self.deletion.place}: {self.deletion.what}"]
        if self.did:
            return [f"{found.seam}: {self.did}"]
        if found.holds:
            held = [f"{found.seam} is at {found.stage}, too early:", *(f"  {why}" for why in found.holds)]
            return [*held, *self._hits()]
        option = " --acknowledge" if found.next != "retire" else ""
        return [
            f"{found.seam} is at {found.stage}, and nobody needs its legacy code. Next:",
            f"  crossfade migrate retire {found.seam} --period {period}{option}",
            *self._hits(),
        ]

    def _hits(self) -> list[str]:
        """Legacy hits by build."""
        if not self.retirement.builds:
            return []
        head = f"Legacy hits by build, since it came to {self.retirement.stage}:"
        return [head, *(f"  {_of_build(build)}" for build in self.retirement.builds)]


def told_of(build: Build) -> dict[str, Any]:
    """A build as scripts read it."""
    return {
        "build": build.name,
        "legacy_hits": build.hits,
        "processes": build.processes,
        "silent": build.silent,
        "seen": build.seen.isoformat(),
    }


def _of_build(build: Build) -> str:
    silent = f", {build.silent} not heard of" if build.silent else ""
    processes = f"processes: {build.processes}{silent}; last heard of {build.seen:%Y-%m-%d %H:%M}"
    return f"{build_name(build.name)}: {build.hits} ({processes})"


class Retirements:
    """Looks and acts over a connected bus."""

    def __init__(self, bus: Bus, subjects: Subjects, policies: Policies) -> None:
        self._bus = bus
        self._gatherer = Gatherer(bus, subjects)
        self._policies = policies
        self._histories = Histories(bus, policies.instances)

    async def look(self, seam: str, period: timedelta, *, route: str = "") -> Seen:
        """In which step ``seam`` is, and what holds it. Raises ``UnknownSeamError``, ``BusError``."""
        standing = await self._find(seam)
        gathered = await self._gatherer.gather(seam, standing.declared.domain, live_of(standing))
        handlers = frozenset(gathered.evidence.handlers)
        stage = standing.policy.stage
        history, now = await self._histories.now(seam, stage), self._bus.now()
        return Seen(
            standing=standing,
            history=history,
            retirement=judge_retirement(seam, stage, history, handlers=handlers, period=period, now=now),
            handlers=handlers,
            deletion=deletion(standing.declared, handlers, route=route),
        )

    async def carry_out(self, asked: Asked) -> Done:
        """Do the next step, if it is asked for and nothing holds it.

        Raises ``StageChangeRefusedError`` when it is too early and more than a look was asked for,
        ``PolicyChangedError`` when it stands elsewhere than was seen, ``UnknownSeamError``.
        """
        seen = await self.look(asked.seam, asked.period, route=asked.route)
        found, revision = seen.retirement, seen.standing.policy.revision
        if asked.act.expected is not None and asked.act.expected != revision:
            raise changed_since(asked.seam, asked.act.expected, seen.standing.live, at=revision)
        if asked.only not in (None, found.next) and not found.holds:
            raise StageChangeRefusedError(f"{asked.seam} is at {found.stage}: the next step is {found.next}")
        if asked.check or (found.next == "acknowledge" and not asked.acknowledge and not found.holds):
            return Done(retirement=found)
        if found.holds:
            raise StageChangeRefusedError(f"{asked.seam} is at {found.stage}, too early: {'; '.join(found.holds)}")
        if found.next == "retire":
            return await self._retire(asked, seen)
        if found.next == "acknowledge" and not await self._histories.acknowledge(
            asked.seam, by=asked.act.actor, reason=asked.act.reason, period=asked.period
        ):
            raise StageChangeRefusedError(f"{asked.seam}: its quiet ended just now; look again with --check")
        return Done(retirement=found, did=f"acknowledged by {asked.act.actor}", deletion=seen.deletion)

    async def _retire(self, asked: Asked, seen: Seen) -> Done:
        found = seen.retirement
        move = Move(
            target=Stage.RETIRED,
            actor=asked.act.actor,
            reason=asked.act.reason or f"no legacy hit since {found.since:%Y-%m-%d %H:%M}",
            expected=seen.standing.policy.revision,
            evidence={"quiet_since": found.since.isoformat() if found.since else "", "period": str(asked.period)},
        )
        change = await self._policies.set_stage(asked.seam, move)
        return Done(
            retirement=found,
            did=f"{change.was} -> {change.now} (revision {change.revision}). The legacy code stays as a tripwire: its "
            "use raises seam.skipped (legacy-hit). After another quiet period: --acknowledge",
        )

    async def _find(self, seam: str) -> Standing:
        found = next((each for each in await standings(self._policies, self._bus) if each.seam == seam), None)
        if found is None:
            raise UnknownSeamError(f"no process has declared seam {seam!r}: see `crossfade stage list`")
        return found
