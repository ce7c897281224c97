"""Whether a seam's legacy code may go, in which step of that it is, and what can be deleted then. Pure.

Rules
- At bus for a whole period without a legacy hit and without a gap, it may be retired.
- At retired for a whole period likewise: the code is kept as a tripwire, and a hit raises the alarm. Then somebody must
  acknowledge it.
- Missing data holds: no living process that declares the seam, one that is silent, no call seen.
- The body is listed only when another handler serves the seam. Where the body serves itself it must live on, at the
  worker; what can go is its place at the call site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from crossfade.shim.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from crossfade.shim.policies import Declared

    from .hits import Build, History

SELF: Final = "self"
_SERVICE: Final = "crossfade.proxy.http_handler:"  # `crossfade worker --http`: the service behind the route
_ROUTE: Final = (
    "The route stays: it is the way to the bus. Taken out, its requests go to the default upstream, and what "
    "`crossfade proxy export` writes then sends them there past crossfade"
)
Step = Literal["too-early", "retire", "acknowledge", "delete"]
"""What comes next. ``delete``: everything was waited for and acknowledged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retirement:
    """Where a seam is on its way out. ``holds``: what it waits for; empty when ``next`` may be done.

    ``builds``: the legacy hits of each build since it came to its stage.
    """

    seam: str
    stage: Stage
    next: Step
    holds: tuple[str, ...]
    since: datetime | None = None
    builds: tuple[Build, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """A place whose code can go, and what to do there."""

    place: str
    what: str


def judge_retirement(
    seam: str, stage: Stage, history: History | None, *, handlers: Collection[str], period: timedelta, now: datetime
) -> Retirement:
    """In which step ``seam`` is. ``handlers``: what answered its calls at this stage."""
    if stage not in (Stage.BUS, Stage.RETIRED):
        text = f"it is at {stage}: legacy still answers; bring it to bus first"
        return Retirement(seam=seam, stage=stage, next="too-early", holds=(text,))
    if history is None or history.stage is not stage:
        text = "nobody has counted its legacy hits: a controller must run (`crossfade control`)"
        return Retirement(seam=seam, stage=stage, next="too-early", holds=(text,))
    holds = tuple(_holds(history, handlers, period, now))
    following: Step = "retire" if stage is Stage.BUS else "delete" if history.acknowledged else "acknowledge"
    return Retirement(
        seam=seam, stage=stage, next=following, holds=holds, since=history.since, builds=tuple(history.builds)
    )


def _holds(history: History, handlers: Collection[str], period: timedelta, now: datetime) -> list[str]:
    found: list[str] = []
    quiet = now - history.since
    if quiet < period:
        found.append(f"quiet for {_days(quiet)} of {_days(period)}, since {history.why}")
    if history.silent:
        found.append(f"not heard of, killed or cut off: {', '.join(history.silent)}")
    if not any(not last.silent for last in history.processes.values()):
        found.append("no living process declares it, so nobody would tell of a hit")
    if not handlers:
        found.append("no call was seen at this stage, so nobody knows what answers")
    return found


def deletion(declared: Declared, handlers: Collection[str], *, route: str = "") -> Deletion:
    """What can be deleted once it is retired and acknowledged; ``route``: file and line of its route, where known."""
    others = ", ".join(sorted(handlers))
    if declared.domain == "http":
        place = route or declared.place
        if any(handler.startswith(_SERVICE) for handler in handlers):
            text = "the service itself still answers, asked by `crossfade worker --http`: delete nothing of it"
            return Deletion(place=place, what=f"{text}. {_ROUTE}")
        return Deletion(place=place, what=f"the service's code behind this route: {others} answers. {_ROUTE}")
    remote = f'{declared.seam.rpartition(".")[2]} = shim.remote("{declared.seam}", signature=...)'
    if SELF in handlers:
        text = f"delete nothing: the body itself answers on the bus. Move it to the worker's code, and leave {remote}"
        return Deletion(place=declared.place, what=text)
    return Deletion(place=declared.place, what=f"the body: {others} answers. Leave {remote}")


def _days(time: timedelta) -> str:
    days, hours = divmod(max(0, int(time.total_seconds() // 3600)), 24)
    return f"{days} d {hours} h" if days else f"{hours} h" if hours else f"{int(time.total_seconds() // 60)} min"
