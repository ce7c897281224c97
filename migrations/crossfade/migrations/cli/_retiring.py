"""What ``crossfade migrate retire`` does: look, move the seam or take an acknowledgement, and say what is next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossfade.migrations.gathering import Gatherer
from crossfade.migrations.histories import Histories
from crossfade.migrations.retiring import deletion, judge_retirement
from crossfade.migrations.ruling import live_of
from crossfade.proxy.documents import read_document
from crossfade.proxy.settings import SHAPE
from crossfade.shim.errors import ConfigurationError, StageChangeRefusedError, UnknownSeamError
from crossfade.shim.instances import build_name
from crossfade.shim.policies import Move
from crossfade.shim.stages import Stage
from crossfade.shim.standing import standings

if TYPE_CHECKING:
    from datetime import timedelta

    from crossfade.migrations.hits import Build
    from crossfade.migrations.operating import Act
    from crossfade.migrations.retiring import Deletion, Retirement
    from crossfade.shim.standing import Standing

    from ._session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What somebody typed."""

    seam: str
    period: timedelta
    check: bool
    acknowledge: bool
    routes: str | None
    act: Act


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
            "builds": [
                {
                    "build": build.name,
                    "legacy_hits": build.hits,
                    "processes": build.processes,
                    "silent": build.silent,
                    "seen": build.seen.isoformat(),
                }
                for build in found.builds
            ],
            "done": self.did,
            "delete": {"place": code.place, "what": code.what} if code else None,
        }

    def lines(self) -> list[str]:
        """What a person reads."""
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
            f"  crossfade migrate retire {found.seam}{option}",
            *self._hits(),
        ]

    def _hits(self) -> list[str]:
        """Legacy hits by build."""
        if not self.retirement.builds:
            return []
        head = f"Legacy hits by build, since it came to {self.retirement.stage}:"
        return [head, *(f"  {_of_build(build)}" for build in self.retirement.builds)]


def _of_build(build: Build) -> str:
    silent = f", {build.silent} not heard of" if build.silent else ""
    processes = f"processes: {build.processes}{silent}; last heard of {build.seen:%Y-%m-%d %H:%M}"
    return f"{build_name(build.name)}: {build.hits} ({processes})"


async def carry_out(asked: Asked, opened: Session) -> Done:
    """Do the next step, if it is asked for and nothing holds it.

    Raises ``StageChangeRefusedError`` when it is too early and more than a look was asked for, ``UnknownSeamError``,
    and ``ConfigurationError`` when the file of routes does not hold its.
    """
    standing = await _find(asked.seam, opened)
    route = _route(asked)
    histories = Histories(opened.bus, opened.policies.instances)
    gathered = await Gatherer(opened.bus, opened.subjects).gather(
        asked.seam, standing.declared.domain, live_of(standing)
    )
    handlers = gathered.evidence.handlers
    found = judge_retirement(
        asked.seam,
        standing.policy.stage,
        await histories.find(asked.seam),
        handlers=handlers,
        period=asked.period,
        now=opened.bus.now(),
    )
    if asked.check or (found.next == "acknowledge" and not asked.acknowledge and not found.holds):
        return Done(retirement=found)
    if found.holds:
        raise StageChangeRefusedError(f"{asked.seam} is at {found.stage}, too early: {'; '.join(found.holds)}")
    if found.next == "retire":
        return await _retire(asked, found, standing, opened)
    if found.next == "acknowledge" and not await histories.acknowledge(
        asked.seam, by=asked.act.actor, period=asked.period
    ):
        raise StageChangeRefusedError(f"{asked.seam}: its quiet ended just now; look again with --check")
    code = deletion(standing.declared, handlers, route=route)
    return Done(retirement=found, did=f"acknowledged by {asked.act.actor}", deletion=code)


async def _retire(asked: Asked, found: Retirement, standing: Standing, opened: Session) -> Done:
    move = Move(
        target=Stage.RETIRED,
        actor=asked.act.actor,
        reason=asked.act.reason or f"no legacy hit since {found.since:%Y-%m-%d %H:%M}",
        expected=standing.policy.revision,
        evidence={"quiet_since": found.since.isoformat() if found.since else "", "period": str(asked.period)},
    )
    change = await opened.policies.set_stage(asked.seam, move)
    return Done(
        retirement=found,
        did=f"{change.was} -> {change.now} (revision {change.revision}). The legacy code stays as a tripwire: its use "
        "raises seam.skipped (legacy-hit). After another quiet period: --acknowledge",
    )


async def _find(seam: str, opened: Session) -> Standing:
    found = next((each for each in await standings(opened.policies, opened.bus) if each.seam == seam), None)
    if found is None:
        raise UnknownSeamError(f"no process has declared seam {seam!r}: see `crossfade stage list`")
    return found


def _route(asked: Asked) -> str:
    """File and line of the seam's route, if a file was named. Raises ``ConfigurationError`` when it holds none."""
    if asked.routes is None:
        return ""
    document = read_document(asked.routes, SHAPE)
    document.check()
    routes = document.values.get("routes") or ()
    for at, route in enumerate(routes):
        if route.get("seam") == asked.seam:
            return f"{asked.routes}:{document.place(('routes', at, 'seam'))[0]}"
    known = ", ".join(str(route.get("seam")) for route in routes) or "none"
    raise ConfigurationError(f"has no route with seam {asked.seam}; there are: {known}", where=asked.routes)
