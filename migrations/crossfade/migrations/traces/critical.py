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
    for piece, waited in _between(None, run.roots, run.began, run.end):
        pieces.append(piece)
        work.extend(waited)
    while work:
        node, low, high = work.pop()
        start, end = node.call.handled
        pieces.append(Piece(node, "queue", low, min(high, max(low, start))))
        pieces.append(Piece(node, "transport", max(low, min(high, end)), high))
        for piece, waited in _between(node, node.children, max(low, start), min(high, end)):
            pieces.append(piece)
            work.extend(waited)
    return sorted((piece for piece in pieces if piece.seconds > 0), key=lambda piece: piece.began)


def _between(
    node: Node | None, children: Sequence[Node], low: float, high: float
) -> Iterator[tuple[Piece, list[tuple[Node, float, float]]]]:
    """Cover ``low`` to ``high`` by ``node`` itself, each piece with the child that was waited for before it, if any."""
    part: Part = "handler" if node else "idle"
    at = high
    for child in sorted(children, key=lambda child: child.call.end, reverse=True):
        began, ended = max(child.call.began, low), min(child.call.end, at)
        if child.call.path in ("shadow", "noise") or ended <= began:
            continue
        yield Piece(node, part, ended, at), [(child, began, ended)]
        at = began
    yield Piece(node, part, low, max(low, at)), []
