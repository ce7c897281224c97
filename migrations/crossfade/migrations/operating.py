"""What people do to seams under a playbook: approve, resume, move on without proof, take back, pause.

Each is one write by compare-and-set on the playbook, or a move of the seam and then that; the controller finds either
order, because the live stage is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from crossfade.shim.errors import PolicyChangedError, StageChangeRefusedError, UnknownSeamError
from crossfade.shim.policies import Move
from crossfade.shim.stages import ORDER, Stage

from .applied import Migrations
from .progress import Back, Forward, moved, stage_before

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.shim.policies import LivePolicy, Policies, StageChange
    from crossfade.shim.ports import Bus
    from crossfade.shim.standing import Standing

    from .applied import Applied
    from .playbook import Playbook, Step
    from .progress import SeamProgress

Changing: TypeAlias = "Callable[[Playbook, SeamProgress], SeamProgress]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """Who does it, and why. ``expected``: only if the seam's policy still is at the revision they looked at."""

    actor: str
    reason: str = ""
    expected: int | None = None


class Operating:
    """Acts of people on the playbooks in force."""

    def __init__(self, bus: Bus, policies: Policies) -> None:
        self._bus = bus
        self._policies = policies
        self._migrations = Migrations(bus)

    async def approve(self, seam: str, act: Act) -> SeamProgress:
        """Say yes to the seam's next step. Raises ``StageChangeRefusedError`` when nobody asks, or not this actor."""
        live = (await self._policies.live()).get(seam)

        def say_yes(playbook: Playbook, progress: SeamProgress) -> SeamProgress:
            if act.expected not in (None, progress.revision):
                raise changed_since(seam, act.expected, live, at=progress.revision)
            following = _next(playbook, progress)
            if progress.step + 1 in progress.approved:
                return progress
            if not following.approve:
                raise StageChangeRefusedError(f"nobody has to approve {following} for {seam}: its gate decides")
            if following.approve == "owner" and playbook.owners and act.actor not in playbook.owners:
                owners = ", ".join(playbook.owners)
                raise StageChangeRefusedError(f"{act.actor} is no owner: {owners} may approve {following} for {seam}")
            return replace(progress, approved={**progress.approved, progress.step + 1: act.actor})

        return await self._change(seam, say_yes)

    async def resume(self, seam: str, act: Act) -> SeamProgress:
        """Give a paused or rolled-back seam back to the controller, where it stands."""

        def go_on(_playbook: Playbook, progress: SeamProgress) -> SeamProgress:
            if progress.status not in ("paused", "rolled-back"):
                raise StageChangeRefusedError(f"{seam} is {progress.status}: there is nothing to resume")
            reason = f"resumed by {act.actor}: {act.reason}".rstrip(": ")
            return replace(progress, status="holding", reason=reason, resumed=self._bus.now().isoformat())

        return await self._change(seam, go_on)

    async def pause(self, seam: str, act: Act) -> SeamProgress:
        """Keep the controller's hands off a seam; abort rules are not judged either."""

        def stop(_playbook: Playbook, progress: SeamProgress) -> SeamProgress:
            return replace(progress, status="paused", reason=f"paused by {act.actor}: {act.reason}".rstrip(": "))

        return await self._change(seam, stop)

    async def skip_gate(self, seam: str, act: Act, *, unsafe_storage: bool = False) -> StageChange:
        """Move a seam to its next step without proof, as this actor's own decision."""
        applied = await self._of(seam)
        progress = applied.seams[seam]
        following = _next(applied.playbook, progress)
        move = Move(
            target=following.to,
            actor=act.actor,
            reason=act.reason,
            settings={"percent": following.percent} if following.to is Stage.CANARY else {},
            unsafe_storage=unsafe_storage,
            expected=act.expected,
        )
        change = await self._policies.set_stage(seam, move)
        action = Forward(step=progress.step + 1, expected=change.revision - 1)
        await self._change(seam, lambda playbook, known: moved(playbook, known, action, revision=change.revision))
        return change

    async def roll_back(self, seam: str, act: Act, *, to: Stage | None = None) -> StageChange:
        """Take a seam back at once: to ``to``, else to where legacy answers everybody. It stays there until resumed.

        Raises ``StageChangeRefusedError`` where that is no way back: ``to`` lies ahead, or the seam is retired.
        """
        now = await self._stage(seam)
        target = to or stage_before(now)
        _check_back(seam, now, target)
        move = Move(target=target, actor=act.actor, reason=act.reason, mode="abort", force=True)
        change = await self._policies.set_stage(seam, move)
        if await self._migrations.of_seam(seam) is not None:
            said = f"{act.actor}: {act.reason}".rstrip(": ")
            proof = {"from": str(now), "at": self._bus.now().isoformat()}
            action = Back(stage=target, expected=change.revision - 1, reason=said, proof=proof)
            await self._change(seam, lambda playbook, known: moved(playbook, known, action, revision=change.revision))
        return change

    async def _stage(self, seam: str) -> Stage:
        """Where it stands. Raises ``UnknownSeamError``."""
        declared = await self._policies.find(seam)
        live = (await self._policies.live()).get(seam)
        return (live.over(declared.policy, now=self._bus.now()) if live else declared.policy).stage

    async def _of(self, seam: str) -> Applied:
        found = await self._migrations.of_seam(seam)
        if found is None:
            raise UnknownSeamError(f"no playbook moves {seam}: crossfade migrate apply FILE")
        return found

    async def _change(self, seam: str, change: Changing) -> SeamProgress:
        applied = await self._of(seam)
        changed = await self._migrations.change(
            applied.name, lambda known: known.with_progress(change(known.playbook, known.seams[seam]))
        )
        return changed.seams[seam]


def changed_since(seam: str, expected: int, live: LivePolicy | None, *, at: int) -> PolicyChangedError:
    """The error for who looked at ``expected``: it is ``at`` another revision now, and who made ``live`` is named."""
    by = {"actor": live.actor, "changed": live.changed} if live else {}
    return PolicyChangedError(seam, expected=expected, actual=at, **by)


async def check_not_led(bus: Bus, standing: Standing, move: Move) -> None:
    """Raise ``StageChangeRefusedError`` when ``move`` would move a seam that a playbook moves, without force."""
    policy = standing.policy
    percent = move.settings.get("percent", policy.percent)
    moves = move.target is not policy.stage or (move.target is Stage.CANARY and percent != policy.percent)
    if move.force or not moves:
        return
    applied = await Migrations(bus).of_seam(standing.seam)
    if applied is not None:
        status = applied.seams[standing.seam].status
        raise StageChangeRefusedError(
            f"playbook {applied.name} moves {standing.seam} (applied by {applied.actor} at {applied.applied}, now "
            f"{status}): say `crossfade migrate advance {standing.seam}`, or "
            "rollback or pause, or --force as your own decision, which pauses it there"
        )


def _check_back(seam: str, now: Stage, target: Stage) -> None:
    """A rollback is forced past whatever would hold it up, so it must never be what moves a seam forward."""
    if now is Stage.RETIRED:
        raise StageChangeRefusedError(
            f"{seam} is retired, which is one-way: its legacy code may be gone. If it still is there: "
            f"crossfade stage set {seam} bus --force"
        )
    if ORDER.index(target) > ORDER.index(now):
        raise StageChangeRefusedError(
            f"{seam} is at {now}, so {target} is not back: crossfade migrate advance {seam}, or crossfade stage set"
        )


def _next(playbook: Playbook, progress: SeamProgress) -> Step:
    if progress.step + 1 >= len(playbook.steps):
        raise StageChangeRefusedError(f"{progress.seam} is at the last step of its playbook")
    return playbook.steps[progress.step + 1]
