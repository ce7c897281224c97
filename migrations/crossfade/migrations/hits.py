"""The history of a seam's legacy hits since it came to its stage: since when nobody needed the legacy code. Pure.

Rules
- Every process that declares the seam reports a count that only grows. More hits, and the quiet begins anew.
- A process that ends says goodbye. One that has hits to tell leaves its last report in place of a goodbye.
- One that falls silent may be cut off and still serve callers: until it is back, nothing is known. Forgotten without a
  word, it spoils the quiet; back with the count that it had, it does not.
- Hits are kept by build as well, for as long as the seam is at the stage: a build whose processes have all gone is not
  forgotten once it had a hit.
- While nobody looks, processes may come and go: after half an hour of that the quiet begins anew. (A process's last
  report is kept for an hour.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.instances import ALIVE, build_name
from crossfade.shim.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.shim.instances import Instance

UNWATCHED: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Reported:
    """A process's last report: its ``hits`` so far, when, whether it was taken for lost since, and its ``build``."""

    hits: int
    seen: datetime
    silent: bool = False
    build: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """A build of the application, empty when nobody named it: its hits since the seam came to its stage.

    ``seen``: when one of its processes last reported; ``processes`` of it are known now, ``silent`` those that are not
    heard of.
    """

    name: str
    hits: int
    seen: datetime
    processes: int = 0
    silent: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A seam at ``stage``. ``since``: when its quiet began, for the reason ``why``; ``watched``: the last look.

    ``acknowledged``: who said that the legacy code may go, when, and why. ``hits``: per build how many since the seam
    came to the stage, and when the last process with one was heard of.
    """

    seam: str
    stage: Stage
    since: datetime
    why: str
    watched: datetime
    processes: Mapping[str, Reported] = field(default_factory=dict[str, Reported])
    acknowledged: str = ""
    hits: Mapping[str, tuple[int, datetime]] = field(default_factory=dict[str, "tuple[int, datetime]"])

    @property
    def silent(self) -> list[str]:
        """Processes of which nobody knows whether they still serve callers, each with its build."""
        return sorted(f"{name} of {build_name(last.build)}" for name, last in self.processes.items() if last.silent)

    @property
    def builds(self) -> list[Build]:
        """Every build that has a process now or had a hit at this stage, by name."""
        found: list[Build] = []
        for name in sorted({*self.hits, *(last.build for last in self.processes.values())}):
            own = [last for last in self.processes.values() if last.build == name]
            seen = [last.seen for last in own]
            hits = 0
            if name in self.hits:
                hits, when = self.hits[name]
                seen.append(when)
            found.append(
                Build(
                    name=name,
                    hits=hits,
                    seen=max(seen),
                    processes=len(own),
                    silent=sum(last.silent for last in own),
                )
            )
        return found

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
                "builds": {name: last.build for name, last in self.processes.items()},
                "hits": {build: [hits, seen.isoformat()] for build, (hits, seen) in self.hits.items()},
                "acknowledged": self.acknowledged,
            }
        ).encode()

    @classmethod
    def decode(cls, seam: str, value: bytes) -> History:
        """Read a value of the bucket. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        stored: dict[str, Any] = json.loads(value)
        builds: dict[str, str] = stored.get("builds", {})
        return cls(
            seam=seam,
            stage=Stage(stored["stage"]),
            since=datetime.fromisoformat(stored["since"]),
            why=stored["why"],
            watched=datetime.fromisoformat(stored["watched"]),
            processes={
                name: Reported(hits, datetime.fromisoformat(seen), silent, builds.get(name, ""))
                for name, (hits, seen, silent) in stored["processes"].items()
            },
            acknowledged=stored["acknowledged"],
            hits={
                build: (hits, datetime.fromisoformat(seen)) for build, (hits, seen) in stored.get("hits", {}).items()
            },
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
    fresh = _fresh(history, seen)
    spoiled = _spoiled(history, seen, fresh, now)
    following = replace(history, watched=now, processes=seen, hits=_by_build(history, seen, fresh))
    return replace(following, since=now, why=spoiled, acknowledged="") if spoiled else following


def _reported(instance: Instance, seam: str, now: datetime) -> Reported:
    silent = not instance.ended and now - instance.seen > ALIVE
    return Reported(instance.legacy_hits.get(seam, 0), instance.seen, silent, instance.build)


def _fresh(history: History, seen: Mapping[str, Reported]) -> dict[str, int]:
    """Per process the hits that it has had since the last look, where it had any."""
    before = history.processes
    fresh = {name: last.hits - (before[name].hits if name in before else 0) for name, last in seen.items()}
    return {name: count for name, count in fresh.items() if count > 0}


def _by_build(
    history: History, seen: Mapping[str, Reported], fresh: Mapping[str, int]
) -> dict[str, tuple[int, datetime]]:
    counted = dict(history.hits)
    for name, count in fresh.items():
        build = seen[name].build
        before, when = counted.get(build, (0, seen[name].seen))
        counted[build] = (before + count, max(when, seen[name].seen))
    return counted


def _spoiled(history: History, seen: Mapping[str, Reported], fresh: Mapping[str, int], now: datetime) -> str:
    """Why the quiet begins anew; empty when it goes on."""
    if now - history.watched > UNWATCHED:
        return f"no controller looked from {history.watched:%Y-%m-%d %H:%M} on"
    if fresh:
        ran = ", ".join(f"{name} of {build_name(seen[name].build)} ({count}x)" for name, count in fresh.items())
        return f"the legacy code ran in {ran}"
    before = history.processes
    lost = sorted(name for name, last in before.items() if last.silent and name not in seen)
    if lost:
        named = ", ".join(f"{name} of {build_name(before[name].build)}" for name in lost)
        return f"{named} fell silent and was not heard of again"
    return ""
