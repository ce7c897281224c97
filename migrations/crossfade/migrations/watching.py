"""What there is to tell of seams on their playbooks while somebody watches: changes, not counts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .overview import SeamView


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """A seam as it is seen now. ``held``: what each finding says that holds it; its numbers grow all the time.

    ``holding`` names these findings by metric and state, which change seldom.
    """

    seam: str
    stage: str
    step: str
    status: str
    reason: str
    held: tuple[str, ...] = ()
    holding: tuple[str, ...] = ()

    def differs(self, other: Sight | None) -> bool:
        """Whether this is news to who saw ``other``."""
        if other is None:
            return True
        return (self.stage, self.step, self.status, self.holding) != (
            other.stage,
            other.step,
            other.status,
            other.holding,
        )

    def to_json(self) -> dict[str, Any]:
        """What scripts read."""
        return {
            "seam": self.seam,
            "stage": self.stage,
            "step": self.step,
            "status": self.status,
            "reason": self.reason,
            "held": list(self.held),
        }


def sight_of(view: SeamView) -> Sight:
    """What is to be told of one seam."""
    row = view.to_json()
    share = f" {row['percent']:g}%" if row["stage"] == "canary" else ""
    judged = view.ruling.findings if view.ruling and row["status"] == "holding" else ()
    findings = [finding for finding in judged if finding.state != "met"]
    return Sight(
        seam=row["seam"],
        stage=f"{row['stage']}{share}" if row["stage"] else "",
        step=f"{row['step'] + 1} of {len(row['steps'])}",
        status=row["status"],
        reason=row["reason"],
        held=tuple(finding.text for finding in findings),
        holding=tuple(f"{finding.metric} {finding.state}" for finding in findings),
    )


def news(seen: Mapping[str, Sight], views: Iterable[SeamView]) -> list[Sight]:
    """What has changed since ``seen``, by seam."""
    return [sight for view in views if (sight := sight_of(view)).differs(seen.get(sight.seam))]
