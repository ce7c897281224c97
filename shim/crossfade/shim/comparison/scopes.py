"""Which rule holds at each place of a document, found while walking down it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .matchers import AnyOrder
from .paths import Root, Segment, Wild

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .rules import Rule, Rules

_Rank = tuple[int, int, int, int]
_LEAST: Final[_Rank] = (-1, 0, 0, 0)


class _Candidate:
    """A rule with its rank among the others (see ``rules``)."""

    __slots__ = ("rank", "rule", "segments")

    def __init__(self, rule: Rule, order: int) -> None:
        self.rule = rule
        self.segments = rule.place.segments
        self.rank: _Rank = (rule.place.named, -rule.place.deep, len(self.segments), -order)


_Position = tuple[_Candidate, int]


class Scope:
    """What holds at one place: ``rule``, the winner so far, and the rules that could still win below.

    Scopes are made as places are met and shared by places that no rule tells apart, so a step is a look-up.
    """

    __slots__ = ("_below", "_best", "_names", "_open", "rule")

    def __init__(self, best: _Candidate | None, positions: Iterable[_Position], names: frozenset[str | int]) -> None:
        self.rule = best.rule if best else None
        self._best = best
        rank = best.rank if best else _LEAST
        # What ranks lower than the winner here can win nowhere below.
        self._open = frozenset(at for position in positions for at in _with_skips(position) if at[0].rank > rank)
        self._names = names
        self._below: dict[Segment, Scope] = {}

    @classmethod
    def of(cls, rules: Rules, root: Root) -> Scope:
        """What holds at the top of the document ``root``."""
        candidates = [_Candidate(rule, at) for at, rule in enumerate(rules.rules) if rule.place.root == root]
        best = next((candidate for candidate in candidates if not candidate.segments), None)
        names = frozenset(
            segment for candidate in candidates for segment in candidate.segments if not isinstance(segment, Wild)
        )
        return cls(best, [(candidate, 0) for candidate in candidates if candidate.segments], names)

    @property
    def may_change(self) -> bool:
        """Whether another rule may hold somewhere below."""
        return bool(self._open)

    @property
    def order(self) -> AnyOrder | None:
        """Whether, and how, a list here has no order."""
        judge = self.rule.judge if self.rule else None
        return judge if isinstance(judge, AnyOrder) else None

    def below(self, segment: Segment) -> Scope:
        """What holds one level down. Where the order of a list says nothing, neither does a position in it."""
        if not self._open:
            return self
        if isinstance(segment, int) and self.order is not None:
            segment = Wild.ITEM
        symbol: Segment = segment if segment in self._names else Wild.NAME if isinstance(segment, str) else Wild.ITEM
        found = self._below.get(symbol)
        if found is None:
            found = self._below[symbol] = self._step(symbol)
        return found

    def _step(self, symbol: Segment) -> Scope:
        reached = [
            (candidate, at if candidate.segments[at] is Wild.DEEP else at + 1)
            for candidate, at in self._open
            if _fits(candidate.segments[at], symbol)
        ]
        ended = [candidate for candidate, at in reached if at == len(candidate.segments)]
        best = max(ended, key=lambda candidate: candidate.rank, default=self._best)
        going = [(candidate, at) for candidate, at in reached if at < len(candidate.segments)]
        step = Scope(best, going, self._names)
        return self if step.rule is self.rule and step._open == self._open else step


def _with_skips(position: _Position) -> list[_Position]:
    """``..`` may also skip nothing."""
    candidate, at = position
    return [position, (candidate, at + 1)] if candidate.segments[at] is Wild.DEEP else [position]


def _fits(wanted: Segment, given: Segment) -> bool:
    """Whether a rule's segment allows a step; ``given`` is a wildcard for what no rule names."""
    if wanted is Wild.DEEP or wanted == given:
        return True
    return wanted is (Wild.NAME if isinstance(given, str) else Wild.ITEM if isinstance(given, int) else None)
