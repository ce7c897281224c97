"""What is ruled of one seam at the step where it stands; the controller acts on it, everybody else shows it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from crossfade.shim.stages import TABLE

from .gates import Abort, Facts, Gate, judge
from .progress import Live

if TYPE_CHECKING:
    from crossfade.shim.standing import Standing

    from .gates import Ruling
    from .gathering import Gathered
    from .playbook import Playbook
    from .progress import SeamProgress


def live_of(standing: Standing) -> Live:
    """Where the bus says the seam is."""
    policy, live = standing.policy, standing.live
    return Live(
        stage=policy.stage,
        percent=policy.percent,
        revision=policy.revision,
        actor=live.actor if live else "",
        since=datetime.fromisoformat(live.changed) if live and live.changed else None,
    )


def rule_on(playbook: Playbook, progress: SeamProgress, live: Live, gathered: Gathered, *, now: datetime) -> Ruling:
    """What the step's gate and abort rules make of the evidence; before the first step nothing is asked for."""
    step = playbook.steps[progress.step] if progress.step >= 0 else None
    facts = Facts(
        evidence=gathered.evidence,
        path="bus" if TABLE[live.stage].commands else "shadow",
        now=now,
        baseline=gathered.baseline,
    )
    return judge(step.gate if step else Gate(), step.abort if step else Abort(), facts)
