"""How far a seam is on its playbook, and what to do next. Pure.

Rules
1. The live stage is the truth. What a playbook remembers is reconciled with it before anything is decided, so a
   controller that dies between moving a seam and writing that down leaves nothing half done.
2. Who moves a seam by hand takes it out of the controller's: it is paused, and stays where the person put it. What
   is stopped stays stopped, also when a move was under way just then.
3. Forward one step, when the step's gate allows it and everybody who must has approved. Back at once, when an abort
   rule is broken: one stage, to where legacy answers. A seam that was taken back stays there until a person says
   otherwise.
4. Beyond the last step the abort rules stay in force: done is not unwatched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from crossfade.shim.stages import ORDER, TABLE, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .gates import Ruling
    from .playbook import Playbook, Step

Status = Literal["waiting", "holding", "awaiting-approval", "paused", "rolled-back", "done", "retired"]
"""Of a seam on its playbook. ``waiting``: not begun; ``holding``: its gate does not allow it on."""

CONTROLLER: Final = "controller"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeamProgress:
    """Where one seam is. ``step``: index of the step it stands at, -1 before the first.

    ``revision``: the policy's, as the controller last saw it. ``approved``: who said yes, by index of the step.
    ``resumed``: when a person last gave it back to the controller (ISO, the broker's time). ``back``: what the last
    rollback rested on, as ``Back`` holds it.
    """

    seam: str
    step: int = -1
    status: Status = "waiting"
    revision: int = 0
    reason: str = ""
    approved: Mapping[int, str] = field(default_factory=dict[int, str])
    resumed: str = ""
    back: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "seam": self.seam,
            "step": self.step,
            "status": self.status,
            "revision": self.revision,
            "reason": self.reason,
            "approved": {str(step): who for step, who in self.approved.items()},
            "resumed": self.resumed,
            "back": dict(self.back),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SeamProgress:
        """Read what ``to_json`` wrote. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        if stored["status"] not in get_args(Status):
            raise ValueError(f"{stored['status']!r} is no status")
        return cls(
            seam=stored["seam"],
            step=int(stored["step"]),
            status=cast("Status", stored["status"]),
            revision=int(stored["revision"]),
            reason=stored["reason"],
            approved={int(step): who for step, who in stored["approved"].items()},
            resumed=stored.get("resumed", ""),
            back=stored.get("back", {}),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """What the bus says of the seam now. ``actor``: who moved it last, ``since`` when, for what ``reason``.

    ``unsafe``: running a call twice does harm, so no shadow runs any.
    """

    stage: Stage
    percent: float
    revision: int
    actor: str = ""
    since: datetime | None = None
    reason: str = ""
    unsafe: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """Move the seam to ``step``, if its policy still is at ``expected``."""

    step: int
    expected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Back:
    """Take the seam back to ``stage``, whatever is under way.

    ``proof``: the evidence of then, which begins anew with the move: ``from``, ``at``, ``digest``, ``build``,
    ``findings`` and ``mismatches``, as scripts read them.
    """

    stage: Stage
    expected: int
    reason: str
    proof: Mapping[str, Any] = field(default_factory=dict[str, Any])


def reconcile(playbook: Playbook, progress: SeamProgress, live: Live) -> SeamProgress:
    """``progress`` as the live stage says it is."""
    reached = _reached(playbook, live)
    if (live.revision, reached) == (progress.revision, progress.step):
        return progress
    seen = replace(progress, step=reached, revision=live.revision, approved=_still_approved(progress, reached))
    if live.stage is Stage.RETIRED:
        return replace(seen, status="retired", reason="")
    if live.actor == CONTROLLER and progress.status in ("paused", "rolled-back"):
        return seen
    if live.actor == CONTROLLER:
        status: Status = "rolled-back" if reached < progress.step else "holding"
        reason = live.reason if status == "rolled-back" else seen.reason
        return seen if reached == progress.step else replace(seen, status=status, reason=reason)
    exactly = reached == -1 or _is_at(playbook.steps[reached], live)
    # More than one change since the last look: the controller may have moved it on, and a person back to here.
    kept = reached == progress.step and exactly and live.revision == progress.revision + 1
    kept = kept and progress.status != "retired"
    if kept or (progress.step, progress.status) == (-1, "waiting"):
        return seen  # a setting was changed, not the stage: the evidence begins anew, the way goes on
    return replace(seen, status="paused", reason=f"{live.actor or 'somebody'} moved it to {live.stage}")


def decide(
    playbook: Playbook, progress: SeamProgress, live: Live, ruling: Ruling
) -> tuple[SeamProgress, Forward | Back | None]:
    """What becomes of a seam whose progress is reconciled with ``live``: its progress, and what to do.

    The progress is as it is while nothing has been done: who acts calls ``moved`` when that has worked.
    """
    if progress.status in ("paused", "rolled-back", "retired"):
        return progress, None
    if ruling.kind == "rollback" and progress.step >= 0:
        return progress, Back(stage=stage_before(live.stage), expected=live.revision, reason=_broken(ruling))
    if progress.step + 1 == len(playbook.steps):
        return replace(progress, status="done", reason=""), None
    if progress.step >= 0 and ruling.kind != "allow":
        return replace(progress, status="holding", reason=_why(ruling)), None
    following = playbook.steps[progress.step + 1]
    if following.approve and progress.step + 1 not in progress.approved:
        reason = f"{following.approve} must approve {following}"
        return replace(progress, status="awaiting-approval", reason=reason), None
    return progress, Forward(step=progress.step + 1, expected=live.revision)


def moved(playbook: Playbook, progress: SeamProgress, action: Forward | Back, *, revision: int) -> SeamProgress:
    """The progress after ``action`` has worked and made ``revision`` of the policy."""
    if isinstance(action, Forward):
        return replace(progress, step=action.step, status="holding", revision=revision, reason="")
    standing = Live(stage=action.stage, percent=0, revision=revision)
    step = _reached(playbook, standing)
    return replace(
        progress,
        step=step,
        status="rolled-back",
        revision=revision,
        reason=action.reason,
        approved=_still_approved(progress, step),
        back=action.proof,
    )


def carried(progress: SeamProgress, was: Playbook | None, now: Playbook) -> SeamProgress:
    """The progress under another text of its playbook: at the same stage, however its steps are numbered there.

    Whoever approved a step has approved it where it is there as it was; ``was`` is ``None`` where nobody can read it.
    """
    if was is None:
        return replace(progress, step=-1, approved={})
    if progress.step < 0:
        return progress
    at = was.steps[progress.step]
    step = _reached(now, Live(stage=at.to, percent=at.percent, revision=progress.revision))
    same = {_asked(was, was.steps[old]): who for old, who in progress.approved.items()}
    approved = {new: same[asked] for new, each in enumerate(now.steps) if (asked := _asked(now, each)) in same}
    return replace(progress, step=step, approved=approved)


def _asked(playbook: Playbook, step: Step) -> tuple[Any, ...]:
    """What a yes to this step is a yes to."""
    return (step.to, step.percent, step.approve, playbook.owners if step.approve == "owner" else ())


def stage_before(stage: Stage) -> Stage:
    """Where an abort takes a seam: to the last stage at which legacy answers everybody, before its own."""
    earlier = [each for each in ORDER[: ORDER.index(stage)] if TABLE[each].answers == "legacy"]
    return earlier[-1] if earlier else Stage.LEGACY


def _still_approved(progress: SeamProgress, step: int) -> Mapping[int, str]:
    """Who said yes to what, for a seam that now is at ``step``: on the way back every yes beyond it is used up."""
    if step >= progress.step:
        return progress.approved
    return {at: who for at, who in progress.approved.items() if at <= step}


def _is_at(step: Step, live: Live) -> bool:
    return step.to is live.stage and (step.to is not Stage.CANARY or step.percent == live.percent)


def _reached(playbook: Playbook, live: Live) -> int:
    """The last step that the live stage is at or beyond; -1 before the first."""
    place = (ORDER.index(live.stage), live.percent if live.stage is Stage.CANARY else 0)
    reached = [at for at, step in enumerate(playbook.steps) if (ORDER.index(step.to), step.percent) <= place]
    return reached[-1] if reached else -1


def _broken(ruling: Ruling) -> str:
    """What was broken, each number once: abort rules come first, and the gate may ask for the same number."""
    said: dict[str, str] = {}
    for finding in ruling.findings:
        if finding.state == "violated":
            said.setdefault(finding.metric, finding.text)
    return "; ".join(said.values())


def _why(ruling: Ruling) -> str:
    return "; ".join(finding.text for finding in ruling.findings if finding.state != "met")
