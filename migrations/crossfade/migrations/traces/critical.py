"""The critical path: what a run waited for at each moment, from its end back to its beginning.

Going back from the end of a call, the child that ended last is what the call waited for; before that child began, the
one that ended last before then; between them the call itself was at work. The pieces add up to the run's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .run import Node, Run

Part = Literal["queue", "handler", "transport", "idle"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What the run waited for from ``began`` to ``ended`` (epoch seconds); ``node`` is ``None`` while nothing ran."""

    node: Node | None
    part: Part
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.ended - self.began


def critical_path(run: Run) -> list[Piece]:
    """What the run waited for, in order of time, without gaps."""
    pieces: list[Piece] = []
    work: list[tuple[Node, float, float]] = []
    _between(None, run.roots, run.began, run.end, "idle", pieces, work)
    while work:
        node, low, high = work.pop()
        pieces.extend(_of(node, low, high, work))
    return sorted((piece for piece in pieces if piece.seconds > 0), key=lambda piece: piece.began)


def _of(node: Node, low: float, high: float, work: list[tuple[Node, float, float]]) -> Iterator[Piece]:
    """The pieces of one call between ``low`` and ``high``; its children's go to ``work``."""
    start, end = node.call.handled
    yield Piece(node, "queue", low, min(high, max(low, start)))
    yield Piece(node, "transport", max(low, min(high, end)), high)
    inside: list[Piece] = []
    _between(node, node.children, max(low, start), min(high, end), "handler", inside, work)
    yield from inside


def _between(
    node: Node | None,
    children: Sequence[Node],
    low: float,
    high: float,
    part: Part,
    pieces: list[Piece],
    work: list[tuple[Node, float, float]],
) -> None:
    """Cover ``low`` to ``high`` by the children that were waited for, and by the call itself."""
    at = high
    for child in sorted(children, key=lambda child: child.call.end, reverse=True):
        began, ended = max(child.call.began, low), min(child.call.end, at)
        if child.call.path == "shadow" or ended <= began or began >= at:
            continue
        pieces.append(Piece(node, part, ended, at))
        work.append((child, began, ended))
        at = began
    pieces.append(Piece(node, part, low, max(low, at)))
