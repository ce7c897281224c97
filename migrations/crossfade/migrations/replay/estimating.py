"""What a replay would do, and how long it would take, without running anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recording import Recording
    from .running import Replay, ReplayOptions
    from .selecting import Selection


@dataclass(kw_only=True, slots=True)
class Planned:
    """Of one seam: how many calls there are, and why some would be skipped."""

    calls: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])


@dataclass(kw_only=True, slots=True)
class Estimate:
    """``takes`` assumes that today's code takes as long as the recorded calls did."""

    seams: dict[str, Planned]
    takes: timedelta = timedelta()

    def to_json(self) -> dict[str, Any]:
        """For scripts; ``seconds`` as ``takes``."""
        seams = {name: {"calls": each.calls, "skipped": dict(each.skipped)} for name, each in self.seams.items()}
        return {"seams": seams, "seconds": round(self.takes.total_seconds(), 3)}


def estimate(replay: Replay, recording: Recording, selection: Selection, options: ReplayOptions) -> Estimate:
    """Go through the calls of ``selection``: none is run, and a nested call that is missing cannot be foreseen."""
    found = Estimate(seams={name: Planned() for name in selection.seams})
    busy, paced, last = 0.0, 0.0, None
    for call in recording.selected(selection):
        planned = found.seams[call.seam]
        planned.calls += 1
        paced += 0.0 if last is None else options.pace.pause(call.begun - last)
        last = call.begun
        if refused := replay.refusal(call):
            planned.skipped[refused.reason] += 1
        else:
            busy += call.seconds
    found.takes = timedelta(seconds=max(paced, busy / options.concurrency))
    return found
