"""A run as its page shows it: rows of a tree with bars, and what the run waited for. Pure; the template draws."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from crossfade.migrations.traces import geometry

from . import drawing, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossfade.migrations.traces.geometry import Bar, BarPart
    from crossfade.migrations.traces.run import Call, Run

MOST: Final = 500
"""Calls that are shown; a run of more is one for the command line."""

SETTLES: Final = timedelta(seconds=30)
"""How long after its last event a run may still become longer."""

PARTS: Final[dict[BarPart, str]] = {
    "queue": "in the queue",
    "handler": "handler",
    "transport": "transport",
    "idle": "idle, no call under way",
}
_LEAST: Final = 1.5  # as narrow as a bar that can be seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A rectangle: x coordinates from 0 to ``drawing.CHART_WIDTH``."""

    part: BarPart
    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One call. Times in seconds; ``told``: the drawing in words; ``mismatch``: the compared call, if they differed."""

    call: Call
    level: int
    nested: bool
    offset: float
    queue: float
    handler: float
    transport: float
    marks: list[Mark]
    told: str
    mismatch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Waterfall:
    """One run. ``waits``: seconds it waited by part; ``left_out``: calls that are not shown; ``live``: it may go on."""

    run: str
    began: datetime
    seconds: float
    calls: int
    errors: int
    paths: list[str]
    users: list[str]
    rows: list[Row]
    waits: dict[BarPart, tuple[float, float]]
    strip: list[Mark]
    left_out: int
    live: bool


def waterfall(run: Run, *, now: datetime) -> Waterfall:
    """Everything there is to show of ``run``."""
    calls = [node.call for node, _ in run.walk()]
    waits = geometry.waits(run)
    unfinished = any(call.ended is None for call in calls)
    return Waterfall(
        run=run.id,
        began=datetime.fromtimestamp(run.began, UTC),
        seconds=run.seconds,
        calls=len(calls),
        errors=sum(call.outcome == "error" for call in calls),
        paths=sorted({call.path for call in calls}),
        users=sorted({call.user for call in calls if call.user}),
        rows=[_row(row, run.began) for row in geometry.rows(run, most=MOST)],
        waits=_by_part(waits, run.seconds),
        strip=_marks(waits),
        left_out=max(0, len(calls) - MOST),
        live=unfinished or now - datetime.fromtimestamp(run.end, UTC) < SETTLES,
    )


def _row(row: geometry.Row, began: float) -> Row:
    call = row.node.call
    start, end = call.handled
    parts = {"queue": start - call.began, "handler": end - start, "transport": call.transport}
    critical = sum(bar.seconds for bar in row.bars if bar.part == "critical")
    told = [f"from {numbers.seconds(call.began - began)}"]
    told += [f"{part} {numbers.seconds(seconds)}" for part, seconds in parts.items() if seconds > 0]
    told += [f"the run waited {numbers.seconds(critical)} for it"] if critical > 0 else []
    return Row(
        call=call,
        level=row.depth + 1,
        nested=bool(row.node.children),
        offset=call.began - began,
        marks=_marks(row.bars),
        told=", ".join(told),
        mismatch=call.parent if call.path == "shadow" and call.outcome == "mismatch" else "",
        **parts,
    )


def _marks(bars: Iterable[Bar]) -> list[Mark]:
    whole = drawing.CHART_WIDTH
    marks: list[Mark] = []
    for bar in bars:
        width = max(_LEAST, (bar.high - bar.low) * whole)
        marks.append(Mark(part=bar.part, x=round(min(bar.low * whole, whole - width), 1), width=round(width, 1)))
    return marks


def _by_part(waits: Iterable[Bar], whole: float) -> dict[BarPart, tuple[float, float]]:
    """Seconds and share of each part that the run waited for."""
    found: defaultdict[BarPart, float] = defaultdict(float)
    for bar in waits:
        found[bar.part] += bar.seconds
    return {part: (found[part], found[part] / (whole or 1.0)) for part in PARTS if found[part]}
