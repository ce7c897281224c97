"""Where the parts of a run lie on one scale of time, as shares from 0 to 1. Pure; whoever draws chooses how.

The file of ``crossfade traces report`` and the dashboard's page draw from the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .critical import Part, critical_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .run import Call, Node, Run

BarPart: TypeAlias = Part | Literal["critical"]
"""``critical``: while the run waited for this call itself."""

Span: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a call, from ``low`` to ``high``, shares of the scale; ``seconds``: how long it took."""

    part: BarPart
    low: float
    high: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """A call at its depth in the tree, with what is drawn of it."""

    node: Node
    depth: int
    bars: tuple[Bar, ...]


def rows(run: Run, *, most: int) -> list[Row]:
    """The first ``most`` calls of ``run``, callers first, on the scale of the whole run."""
    waited: defaultdict[str, list[Span]] = defaultdict(list)
    for piece in critical_path(run):
        if piece.node is not None:
            waited[piece.node.call.id].append((piece.began, piece.ended))
    began, seconds = run.began, run.seconds
    return [
        Row(node, depth, bars(node.call, began, seconds, waited.get(node.call.id, ())))
        for (node, depth), _ in zip(run.walk(), range(most), strict=False)
    ]


def bars(call: Call, began: float, seconds: float, waited: Sequence[Span] = ()) -> tuple[Bar, ...]:
    """The parts of ``call`` on a scale of ``seconds`` from ``began``; its handler is there however short it was."""
    start, end = call.handled
    parts: list[tuple[BarPart, Span]] = [
        ("queue", (call.began, start)),
        ("handler", (start, end)),
        ("transport", (end, call.end)),
        *(("critical", span) for span in waited),
    ]
    return tuple(_bar(part, span, began, seconds) for part, span in parts if span[1] > span[0] or part == "handler")


def waits(run: Run) -> tuple[Bar, ...]:
    """What the whole run waited for, from its beginning to its end without gaps: its critical path by part."""
    return tuple(_bar(piece.part, (piece.began, piece.ended), run.began, run.seconds) for piece in critical_path(run))


def _bar(part: BarPart, span: Span, began: float, seconds: float) -> Bar:
    low, high = ((at - began) / (seconds or 1.0) for at in span)
    return Bar(part, _share(low), _share(high), span[1] - span[0])


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
