"""The history of a seam's legacy hits since it came to its stage: since when nobody needed the legacy code. Pure.

Rules
- Every process that declares the seam reports a count that only grows. More hits, and the quiet begins anew.
- A process that ends says goodbye. One that has hits to tell leaves its last report in place of a goodbye.
- One that falls silent may be cut off and still serve callers: until it is back, nothing is known. Forgotten without a
  word, it spoils the quiet; back with the count that it had, it does not.
- While nobody looks, processes may come and go: after half an hour of that the quiet begins anew. (A process's last
  report is kept for an hour.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.instances import ALIVE
from crossfade.shim.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.shim.instances import Instance

UNWATCHED: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Reported:
    """A process's last report: its ``hits`` so far, when, and whether it was taken for lost since."""

    hits: int
    seen: datetime
    silent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A seam at ``stage``. ``since``: when its quiet began, for the reason ``why``; ``watched``: the last look.

    ``acknowledged``: who said that the legacy code may go, and when.
    """

    seam: str
    stage: Stage
    since: datetime
    why: str
    watched: datetime
    processes: Mapping[str, Reported] = field(default_factory=dict[str, Reported])
    acknowledged: str = ""

    @property
    def silent(self) -> list[str]:
        """Processes of which nobody knows whether they still serve callers."""
        return sorted(name for name, last in self.processes.items() if last.silent)

    def encode(self) -> bytes:
        """The value of the bucket ``hits``."""
        return json.dumps(
            {
                "stage": self.stage,
                "since": self.since.isoformat(),
                "why": self.why,
                "watched": self.watched.isoformat(),
                "processes": {
                    name: [last.hits, last.seen.isoformat(), last.silent] for name, last in self.processes.items()
                },
                "acknowledged": self.acknowledged,
            }
        ).encode()

    @classmethod
    def decode(cls, seam: str, value: bytes) -> History:
        """Read a value of the bucket. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        stored: dict[str, Any] = json.loads(value)
        return cls(
            seam=seam,
            stage=Stage(stored["stage"]),
            since=datetime.fromisoformat(stored["since"]),
            why=stored["why"],
            watched=datetime.fromisoformat(stored["watched"]),
            processes={
                name: Reported(hits, datetime.fromisoformat(seen), silent)
                for name, (hits, seen, silent) in stored["processes"].items()
            },
            acknowledged=stored["acknowledged"],
        )


def follow(
    history: History | None, seam: str, stage: Stage, instances: Sequence[Instance], *, now: datetime
) -> History:
    """``history`` after one more look at the processes that are known and declare ``seam``."""
    here = {found.instance: found for found in instances if seam in found.seams}
    seen = {name: _reported(found, seam, now) for name, found in here.items()}
    if history is None or history.stage is not stage:
        why = f"it came to {stage}" if history else f"the count began, at {stage}"
        return History(seam=seam, stage=stage, since=now, why=why, watched=now, processes=seen)
    spoiled = _spoiled(history, seen, now)
    following = replace(history, watched=now, processes=seen)
    return replace(following, since=now, why=spoiled, acknowledged="") if spoiled else following


def _reported(instance: Instance, seam: str, now: datetime) -> Reported:
    silent = not instance.ended and now - instance.seen > ALIVE
    return Reported(instance.legacy_hits.get(seam, 0), instance.seen, silent)


def _spoiled(history: History, seen: Mapping[str, Reported], now: datetime) -> str:
    """Why the quiet begins anew; empty when it goes on."""
    if now - history.watched > UNWATCHED:
        return f"no controller looked from {history.watched:%Y-%m-%d %H:%M} on"
    before = history.processes
    hits = {name: last.hits - (before[name].hits if name in before else 0) for name, last in seen.items()}
    if ran := {name: count for name, count in hits.items() if count > 0}:
        return "the legacy code ran in " + ", ".join(f"{name} ({count}x)" for name, count in ran.items())
    if lost := [name for name in history.silent if name not in seen]:
        return f"{', '.join(lost)} fell silent and was not heard of again"
    return ""
