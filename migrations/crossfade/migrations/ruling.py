"""What is ruled of one seam at the step where it stands; the controller acts on it, everybody else shows it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from crossfade.shim.stages import TABLE

from .gates import Abort, Facts, Gate, Ruling, judge
from .progress import Live

if TYPE_CHECKING:
    from crossfade.shim.standing import Standing

    from .gates import ReplayPassed
    from .gathering import Gathered
    from .playbook import Playbook
    from .progress import SeamProgress
    from .requests import Requested


def live_of(standing: Standing) -> Live:
    """Where the bus says the seam is."""
    policy, live = standing.policy, standing.live
    return Live(
        stage=policy.stage,
        percent=policy.percent,
        revision=policy.revision,
        actor=live.actor if live else "",
        since=datetime.fromisoformat(live.changed) if live and live.changed else None,
        reason=live.reason if live else "",
        unsafe=policy.effects == "unsafe",
    )


def rule_on(
    playbook: Playbook,
    progress: SeamProgress,
    live: Live,
    gathered: Gathered,
    *,
    now: datetime,
    replayed: ReplayPassed | None = None,
    requested: Requested | None = None,
) -> Ruling:
    """What the step's gate and abort rules make of the evidence; before the first step nothing is asked for.

    ``replayed``: the last replay of the seam that passed. ``requested``: the newest request to take it back.
    """
    step = playbook.steps[progress.step] if progress.step >= 0 else None
    facts = Facts(
        evidence=gathered.evidence,
        path="bus" if TABLE[live.stage].commands else "shadow",
        now=now,
        baseline=gathered.baseline,
        replayed=replayed,
        observing=live.stage == "observe",
        unsafe=live.unsafe,
    )
    ruling = judge(step.gate if step else Gate(), step.abort if step else Abort(), facts)
    if requested is not None and _is_heard(requested, playbook, progress, live):
        return Ruling("rollback", (requested.finding, *ruling.findings))
    return ruling


def asks_for_replay(playbook: Playbook, progress: SeamProgress) -> bool:
    """Whether the gate of the step where the seam stands asks for one."""
    return progress.step >= 0 and playbook.steps[progress.step].gate.replay is not None


def _is_heard(requested: Requested, playbook: Playbook, progress: SeamProgress, live: Live) -> bool:
    """Whether it is of the policy in force, while calls go over the bus, and younger than a person's go-ahead."""
    if playbook.breaker == "ignore" or requested.revision != live.revision or not TABLE[live.stage].commands:
        return False
    return not progress.resumed or requested.time > datetime.fromisoformat(progress.resumed)
