"""Two trees laid side by side: which call of one is which call of the other.

What counts is who called what, and in which order: a call of a seam matches the first call of the same seam that its
match made and that is not taken. How a call travelled is folded: a call over the bus is one node, as a legacy call is.
Calls under way at the same time have no order. Time grows with the number of calls, and its logarithm.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .run import Node

Change = Literal["same", "missing", "extra", "reordered", "moved"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A call on both sides, or on one. ``moved``: another call makes it there; ``reordered``: earlier or later.

    A moved call stands where the old side has it.
    """

    old: Node | None
    new: Node | None
    depth: int
    change: Change

    @property
    def seam(self) -> str:
        """Which seam was called."""
        node = self.old or self.new
        return node.call.seam if node is not None else ""

    @property
    def outcome_differs(self) -> bool:
        """Whether one side failed, and the other did not or in another way."""
        if self.old is None or self.new is None:
            return False
        old, new = (
            (call.outcome == "error", call.reason * (call.outcome == "error"))
            for call in (self.old.call, self.new.call)
        )
        return old != new


def align(old: Sequence[Node], new: Sequence[Node]) -> list[Pair]:
    """Every call of both sides once, callers first."""
    return _with_moves(list(_aligned(old, new)))


def changes(pairs: Sequence[Pair]) -> Counter[Change]:
    """How many of each kind."""
    return Counter(pair.change for pair in pairs)


def _aligned(old: Sequence[Node], new: Sequence[Node]) -> Iterator[Pair]:
    stack = _siblings(old, new, 0)[::-1]
    while stack:
        pair = stack.pop()
        yield pair
        below_old = pair.old.children if pair.old else ()
        below_new = pair.new.children if pair.new else ()
        stack.extend(reversed(_siblings(below_old, below_new, pair.depth + 1)))


def _siblings(old: Sequence[Node], new: Sequence[Node], depth: int) -> list[Pair]:
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    for at, node in enumerate(new):
        waiting[node.call.seam].append(at)
    matched = [waiting[node.call.seam].popleft() if waiting[node.call.seam] else None for node in old]
    moved = _out_of_order(old, new, matched)
    pairs = [
        Pair(node, None, depth, "missing")
        if at is None
        else Pair(node, new[at], depth, "reordered" if at in moved else "same")
        for node, at in zip(old, matched, strict=True)
    ]
    return pairs + [
        Pair(None, new[at], depth, "extra") for at in sorted(at for left in waiting.values() for at in left)
    ]


def _out_of_order(old: Sequence[Node], new: Sequence[Node], matched: Sequence[int | None]) -> set[int]:
    """Which of the new side must move for both to have one order, fewest first; but not what was concurrent."""
    places = [(node, at) for node, at in zip(old, matched, strict=True) if at is not None]
    kept = set(_longest_rising([at for _, at in places]))
    return {
        at
        for place, (node, at) in enumerate(places)
        if at not in kept
        and any(_swapped(node, other, new[at], new[there]) for other, there in _crossing(places, place))
    }


def _crossing(places: Sequence[tuple[Node, int]], place: int) -> Iterator[tuple[Node, int]]:
    """Those that lie on the other side of it there; looked at near it, because a run may make thousands of calls."""
    _, at = places[place]
    for other in range(max(0, place - _NEAR), min(len(places), place + _NEAR)):
        node, there = places[other]
        if (other < place) != (there < at) and other != place:
            yield node, there


_NEAR = 64


def _swapped(a: Node, b: Node, a_new: Node, b_new: Node) -> bool:
    return not (_overlap(a, b) or _overlap(a_new, b_new))


def _overlap(a: Node, b: Node) -> bool:
    return a.call.began < b.call.end and b.call.began < a.call.end


def _longest_rising(numbers: Sequence[int]) -> list[int]:
    """A longest rising subsequence, by patience sorting."""
    tops: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for place, number in enumerate(numbers):
        at = bisect_left(tops, number)
        tops[at : at + 1] = [number]
        places[at : at + 1] = [place]
        before.append(places[at - 1] if at else -1)
    found: list[int] = []
    place = places[-1] if places else -1
    while place >= 0:
        found.append(numbers[place])
        place = before[place]
    return found[::-1]


def _with_moves(pairs: list[Pair]) -> list[Pair]:
    """Join what is missing in one place and extra in another."""
    extra: defaultdict[str, deque[int]] = defaultdict(deque)
    for at, pair in enumerate(pairs):
        if pair.change == "extra":
            extra[pair.seam].append(at)
    gone: set[int] = set()
    for at, pair in enumerate(pairs):
        if pair.change == "missing" and extra[pair.seam]:
            there = extra[pair.seam].popleft()
            gone.add(there)
            pairs[at] = Pair(pair.old, pairs[there].new, pair.depth, "moved")
    return [pair for at, pair in enumerate(pairs) if at not in gone]
