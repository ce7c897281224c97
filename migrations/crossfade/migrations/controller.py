"""The controller: looks at the evidence of every seam under a playbook each second, and moves it, or takes it back.

Several may run; the one that holds the lease works. Whatever it writes is guarded by compare-and-set, and before it
moves a seam it asks again whether it leads, and whether nobody has changed what it decided on: one that lost the lease
without noticing changes nothing. It never decides on what it could not read: missing data holds, for that seam alone.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import (
    BusError,
    BusUnavailableError,
    PolicyChangedError,
    StageChangeRefusedError,
    WrongRevisionError,
)
from crossfade.shim.hooks import report
from crossfade.shim.policies import Move, Policies
from crossfade.shim.stages import Stage
from crossfade.shim.standing import standings

from .applied import Migrations
from .gathering import Gatherer, OutrunError
from .histories import Histories
from .lease import Lease
from .progress import CONTROLLER, Back, Forward, decide, moved, reconcile
from .replays import Replays
from .requests import Requests
from .ruling import asks_for_replay, live_of, rule_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.ports import Bus
    from crossfade.shim.standing import Standing
    from crossfade.shim.subjects import Subjects

    from .applied import Applied
    from .gates import Ruling
    from .gathering import Gathered
    from .playbook import Playbook
    from .progress import Live, SeamProgress

LEASE: Final = "controller"
TICK: Final = 1.0  # seconds
LOOK: Final = 5  # ticks between two looks at legacy hits: a process's last report is kept for an hour
CHECKPOINT: Final = 10  # ticks between two checkpoints of evidence on which nothing was decided

_SHOWN: Final = 3  # kinds of mismatch that a rollback keeps
_END: Final = 2.0  # seconds for the last checkpoints when it is asked to stop
_log = logging.getLogger("crossfade")


@dataclass(kw_only=True, slots=True)
class View:
    """What was last judged of one seam, for whoever looks: the evidence, the ruling, where it is."""

    playbook: str
    progress: SeamProgress
    live: Live
    ruling: Ruling
    gathered: Gathered


class Controller:
    """Moves seams as their playbooks say. ``instance`` names this process in the lease."""

    def __init__(self, bus: Bus, subjects: Subjects, *, instance: str, tick: float = TICK) -> None:
        self._bus = bus
        self._policies = Policies(bus, subjects)
        self._migrations = Migrations(bus)
        self._gatherer = Gatherer(bus, subjects)
        self._histories = Histories(bus, self._policies.instances)
        self._replays = Replays(bus)
        self._requests = Requests(bus, subjects)
        self._lease = Lease(bus, LEASE, instance)
        self._tick = tick
        self._ticks = 0
        self._stages: dict[str, Stage] = {}
        self.views: dict[str, View] = {}

    async def run(self) -> None:
        """Work while this process holds the lease, until cancelled; what fails is counted and tried again."""
        try:
            while True:
                try:
                    await self.tick()
                except Exception as error:  # it must not end, nor end unnoticed
                    report.count("controller-failed", reason=type(error).__name__)
                    _log.warning("the controller could not look at its seams, and tries again: %s", error)
                await asyncio.sleep(self._tick)
        finally:
            await self._let_go()

    async def tick(self) -> bool:
        """Look at every seam under a playbook once, and act; ``False`` when another process leads."""
        if not await self._lease.held():
            self._gatherer.forget()
            self.views.clear()
            return False
        self._ticks += 1
        playbooks = await self._migrations.readable()
        counting = self._ticks % LOOK == 1
        found = await standings(self._policies, self._bus) if playbooks or counting else []
        stages = {each.seam: each.policy.stage for each in found}
        if counting or stages != self._stages:  # the quiet begins with the stage, not with the next look
            await self._histories.look(found)
        self._stages = stages
        standing = {each.seam: each for each in found}
        for applied in playbooks:
            now = applied
            for seam in applied.playbook.seams:
                if seam in standing:
                    now = await self._try_to_look(now, seam, standing[seam])
        return True

    async def _try_to_look(self, applied: Applied, seam: str, standing: Standing) -> Applied:
        """What fails for one seam must not keep another from being taken back. Raises ``BusUnavailableError``."""
        try:
            return await self._look_at(applied, seam, standing)
        except BusUnavailableError:
            raise
        except Exception as error:
            report.count("controller-failed", seam=seam, reason=type(error).__name__)
            _log.warning("the controller could not look at %s, and tries again: %s", seam, error)
            return await self._migrations.find(applied.name)

    async def _look_at(self, applied: Applied, seam: str, standing: Standing) -> Applied:
        playbook, live = applied.playbook, live_of(standing)
        progress = reconcile(playbook, applied.seams[seam], live)
        gathered = await self._gatherer.gather(seam, standing.declared.domain, live)
        ruling = rule_on(
            playbook,
            progress,
            live,
            gathered,
            now=self._bus.now(),
            replayed=await self._replays.last(seam) if asks_for_replay(playbook, progress) else None,
            requested=(await self._requests.newest()).get(seam),
        )
        progress, action = decide(playbook, progress, live, ruling)
        if isinstance(action, Back):
            action = replace(action, proof=self._proof(playbook, progress, ruling, gathered))
        if action is not None:
            progress = await self._act(applied, progress, action, ruling, gathered)
        self.views[seam] = View(playbook=applied.name, progress=progress, live=live, ruling=ruling, gathered=gathered)
        if action is not None or self._ticks % CHECKPOINT == 0:
            await self._gatherer.keep(seam)
        return await self._save(applied, progress)

    async def _act(
        self, applied: Applied, progress: SeamProgress, action: Forward | Back, ruling: Ruling, gathered: Gathered
    ) -> SeamProgress:
        """Do it; a move that the stage table, the storage or a blocker refuses keeps the seam where it is, with why."""
        playbook = applied.playbook
        await self._gatherer.keep(progress.seam)  # first: a decision never rests on evidence that could be lost
        if not await self._may_act(applied):
            report.count("skipped", seam=progress.seam, reason="outrun")
            return progress
        try:
            change = await self._policies.set_stage(progress.seam, _move(playbook, action, ruling, gathered), wait=0)
        except PolicyChangedError:
            return progress  # somebody was faster: the next look begins with what is
        except StageChangeRefusedError as error:
            return replace(progress, status="holding", reason=str(error))
        report.count("moved", seam=progress.seam, reason="back" if not isinstance(action, Forward) else "forward")
        _log.info("seam %s: %s to %s (revision %d)", progress.seam, change.was, change.now, change.revision)
        return moved(playbook, progress, action, revision=change.revision)

    def _proof(
        self, playbook: Playbook, progress: SeamProgress, ruling: Ruling, gathered: Gathered
    ) -> Mapping[str, Any]:
        """What ``Back`` keeps of the evidence: whoever is woken by the rollback wants to see why."""
        evidence = gathered.evidence
        newest = evidence.mismatches()[:_SHOWN]
        return {
            "from": str(playbook.steps[progress.step]),
            "at": self._bus.now().isoformat(),
            "digest": evidence.digest(),
            "build": evidence.build or "",
            "findings": [finding.to_json() for finding in ruling.findings],
            "mismatches": [{**kind, "samples": kind["samples"][-1:]} for kind in newest],
        }

    async def _may_act(self, applied: Applied) -> bool:
        """Whether this still leads, and nobody has touched the playbook, by pausing a seam, since this look began."""
        unchanged = await self._migrations.is_at(applied.name, applied.revision)
        return unchanged and await self._lease.confirmed()

    async def _save(self, applied: Applied, progress: SeamProgress) -> Applied:
        known = applied.seams[progress.seam]
        if progress == known:
            return applied
        try:
            return await self._migrations.save(applied.with_progress(progress))
        except WrongRevisionError:  # an operator was faster: the next look reconciles with what they said
            return await self._migrations.find(applied.name)

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(_END):
                for seam in list(self.views):
                    await self._gatherer.keep(seam)
                await self._lease.release()
        except (BusError, OutrunError, TimeoutError) as error:
            report.count("controller-failed", reason=type(error).__name__)


def _move(playbook: Playbook, action: Forward | Back, ruling: Ruling, gathered: Gathered) -> Move:
    evidence = {
        "playbook": playbook.name,
        "revision": gathered.evidence.revision,
        "digest": gathered.evidence.digest(),
        "ruling": ruling.kind,
        "findings": [finding.to_json() for finding in ruling.findings],
    }
    if isinstance(action, Forward):
        step = playbook.steps[action.step]
        return Move(
            target=step.to,
            actor=CONTROLLER,
            reason=f"playbook {playbook.name}: {'; '.join(finding.text for finding in ruling.findings) or 'no gate'}",
            settings={"percent": step.percent} if step.to is Stage.CANARY else {},
            expected=action.expected,
            evidence=evidence,
        )
    return Move(
        target=action.stage,
        actor=CONTROLLER,
        reason=f"playbook {playbook.name}: {action.reason}",
        mode="abort",
        expected=action.expected,
        evidence=evidence,
    )
