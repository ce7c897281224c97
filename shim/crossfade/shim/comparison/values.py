"""Compares two JSON values place by place, under rules and within a budget.

Rule 1: numbers are numbers: ``1`` equals ``1.0`` (JSON has one number type), ``NaN`` equals ``NaN``, and
``true`` is no number. Texts are compared as they are, so ``"NaN"`` is not ``NaN``.
Rule 2: a missing member is not ``null``. Members have no order; items are compared by position.
Rule 3: redacted values are compared by their hash. One redacted side tells nothing, nor does a value that was
redacted because a limit was reached: undecided (``redacted``).
Rule 4: a rule's ``normalise`` comes first, then its matcher; what the matcher settles as a whole is settled but for
the places in it that a stronger rule compares.
Rule 5: what differs under ``ignore`` counts as ignored. Where an ignored part is missing or of another type,
the places in it that a stronger rule compares count as missing.
Rule 6: nothing recurses: depth costs memory, not stack. Both sides are visited in one order, so swapping them
changes nothing but the names of what is found.
"""

from __future__ import annotations

import marshal
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from crossfade.shim.redaction import MARK, is_redacted

from .budget import ExhaustedError, Meter
from .findings import Findings, fold
from .matchers import MISSING, Judgement
from .normalising import normalised, weight
from .paths import show_path
from .rendering import shorten
from .scopes import Scope
from .unordered import pair
from .verdict import Difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .budget import Budget
    from .matchers import AnyOrder
    from .paths import Root
    from .rules import Rule, Rules
    from .verdict import DifferenceKind

    Pairs = Iterator[tuple[str | int | None, Any, Any]]

_LIMITED_TEXT: Final = "[redacted:limit]"
_TYPES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
    type(MISSING): "missing",
}
_SCALARS: Final = frozenset({"null", "boolean", "number", "text"})
_CONTAINERS: Final = frozenset({"list", "object"})
_JUDGEMENTS: Final = get_args(Judgement)


def identical(old: Any, new: Any) -> bool:
    """Whether two JSON values are equal beyond doubt, at a fraction of a walk's cost; ``False`` says nothing.

    Their encodings are compared and never read back (``==`` alone would call ``True`` and ``1`` equal).
    """
    try:
        encoded = marshal.dumps(old)
        return encoded == marshal.dumps(new) and _LIMITED_TEXT.encode() not in encoded
    except ValueError:  # nested too deeply for it, or no JSON
        return False


def compare_values(old: Any, new: Any, rules: Rules, budget: Budget, *, root: Root = "$") -> Findings:
    """Every difference between two JSON values (trees of exact built-in types), under the rules of ``root``."""
    walk = _Walk(rules, Meter(budget), root)
    try:
        walk.run(old, new)
    except ExhaustedError:
        walk.found.exhausted = True
    return walk.found


class _Frame:
    """A container being walked: its place, what holds there, and the pairs in it still to be looked at."""

    __slots__ = ("folded", "pairs", "scope", "segment", "settled")

    def __init__(
        self,
        segment: str | int | None,
        scope: Scope,
        pairs: Pairs,
        *,
        folded: bytes = b"",
        settled: Rule | None = None,
    ) -> None:
        self.segment = segment
        self.scope = scope
        self.pairs = pairs
        self.settled = settled  # the rule that has called all of it the same
        self.folded = folded  # see ``fold``; empty until a difference below needs it


class _Walk:
    """One comparison. ``_segment``, ``_scope``, ``_settled`` are of the pair being looked at, below the last frame."""

    def __init__(self, rules: Rules, meter: Meter, root: Root) -> None:
        self.found = Findings()
        self._meter = meter
        self._root: Root = root
        self._scope = self._top = Scope.of(rules, root)
        self._segment: str | int | None = None
        self._settled: Rule | None = None
        self._frames: list[_Frame] = []

    def run(self, old: Any, new: Any) -> None:
        """Look at every pair, parts right after their whole."""
        self._frames = [_Frame(None, self._top, iter([(None, old, new)]), folded=self._root.encode())]
        while self._frames:
            frame = self._frames[-1]
            for self._segment, one, other in frame.pairs:
                self._meter.spend()
                inside = self._look(frame, one, other)
                if inside is not None:
                    self._frames.append(_Frame(self._segment, self._scope, inside, settled=self._settled))
                    break
            else:
                self._frames.pop()

    def _look(self, above: _Frame, old: Any, new: Any) -> Pairs | None:
        """Note what is to be said of one pair; the pairs inside it when they are to be looked at."""
        was = _type(old)
        now = _type(new)
        if was == now and was in _SCALARS and _is_same_scalar(old, new):
            return None
        self._scope = self._top if self._segment is None else above.scope.below(self._segment)
        self._settled = above.settled if above.settled is self._scope.rule else None
        if self._settled is not None:
            return self._inside_settled(old, new)
        rule = self._scope.rule
        if rule is not None and rule.steps:
            self._meter.spend(weight(old) + weight(new))
            old, new = normalised(old, rule.steps), normalised(new, rule.steps)
            was, now = _type(old), _type(new)
        if not (was and now and _is_plain(old) and _is_plain(new)):
            self._undecided("not-json")
            return None
        if "missing" not in (was, now) and (_is_hidden(old) or _is_hidden(new)):
            self._compare_hidden(old, new)
            return None
        return self._compare(old, new) if rule is None else self._look_under(rule, old, new)

    def _look_under(self, rule: Rule, old: Any, new: Any) -> Pairs | None:
        """``_look`` at what a rule has a say in."""
        if rule.steps and _type(old) == _type(new) in _SCALARS and _is_same_scalar(old, new):
            return None
        if rule.has_opinion:
            self._meter.spend(weight(old) + weight(new))
        judgement = self._ask(rule, old, new)
        if judgement == "same":
            if rule.is_semantic:
                self.found.judged.add(rule.path)
            self._settled = rule
            return self._inside_settled(old, new)
        return self._compare(old, new) if judgement == "descend" else None

    def _compare(self, old: Any, new: Any) -> Pairs | None:
        was, now = _type(old), _type(new)
        if was == now and was in _CONTAINERS:
            return self._inside(old, new)
        self._differ(_kind(was, now), old, new)
        rule = self._scope.rule
        return self._inside_settled(old, new) if rule is not None and rule.ignores else None

    def _ask(self, rule: Rule, old: Any, new: Any) -> Judgement | None:
        """What the rule's matcher says; ``None`` when that is noted and there is no more to it."""
        try:
            judgement = rule.judge.judge(old, new)
        except Exception as error:
            self._undecided("matcher", type(error).__name__)
            return None
        if judgement not in _JUDGEMENTS:
            self._undecided("matcher", f"answered {shorten(judgement)}")
            return None
        if judgement == "different":
            self._differ("changed", old, new)
        return judgement

    # -- what is inside ------------------------------------------------------------------------------------------

    def _inside(self, old: Any, new: Any) -> Pairs:
        if isinstance(old, list):
            order = self._scope.order
            items = cast("Sequence[Any]", old)
            return _items(items, new) if order is None else self._paired(items, new, order)
        self._meter.foresee(max(len(old), len(new)))
        return ((name, old.get(name, MISSING), new.get(name, MISSING)) for name in sorted(old.keys() | new.keys()))

    def _paired(self, old: Sequence[Any], new: Sequence[Any], order: AnyOrder) -> Pairs:
        pairs, is_open = pair(old, new, order, self._scope, self._meter)
        if is_open:
            self._undecided("redacted")
        return iter(pairs)

    def _inside_settled(self, old: Any, new: Any) -> Pairs | None:
        """What a stronger rule may ask for inside what is ignored or the same as a whole."""
        if not self._scope.may_change:
            return None
        if self._settled is not None and _type(old) == _type(new) in _CONTAINERS:
            return self._inside(old, new)
        was = ((segment, part, MISSING) for segment, part in self._parts(old))
        now = ((segment, MISSING, part) for segment, part in self._parts(new))
        return chain(was, now) if isinstance(old, list) else chain(now, was)  # the list's first, whichever side has it

    def _parts(self, value: Any) -> Iterator[tuple[str | int, Any]]:
        if isinstance(value, list):
            return enumerate(cast("Sequence[Any]", value))
        if not isinstance(value, dict) or is_redacted(value):
            return iter(())
        members = cast("dict[str, Any]", value)
        self._meter.foresee(len(members))
        return iter(sorted(members.items(), key=lambda member: member[0]))

    # -- what is found -------------------------------------------------------------------------------------------

    def _compare_hidden(self, old: Any, new: Any) -> None:
        if not (is_redacted(old) and is_redacted(new)) or _is_limited(old) or _is_limited(new):
            self._undecided("redacted")
        elif old != new:
            self._differ("changed", old, new)

    def _undecided(self, reason: str, detail: str = "") -> None:
        if not self._is_ignored() and self.found.undecided is None:
            self.found.undecided = (reason, f"{self._place()}: {detail}" if detail else self._place())

    def _differ(self, kind: DifferenceKind, old: Any, new: Any) -> None:
        if not self._is_ignored() and self.found.counts(self._folded() + kind.encode()):
            difference = Difference(path=self._place(), kind=kind, old=shorten(old), new=shorten(new))
            self.found.differences.append(difference)

    def _is_ignored(self) -> bool:
        """Whether what is found here is only counted; counts it."""
        rule = self._scope.rule
        if rule is None or not rule.ignores:
            return False
        self.found.ignored.add(rule.path)
        return True

    def _place(self) -> str:
        segments = [frame.segment for frame in self._frames] + [self._segment]
        return show_path(self._root, [segment for segment in segments if segment is not None])

    def _folded(self) -> bytes:
        known = len(self._frames) - 1
        while not self._frames[known].folded:
            known -= 1
        for at in range(known + 1, len(self._frames)):
            self._frames[at].folded = fold(self._frames[at - 1].folded, self._frames[at].segment)
        return fold(self._frames[-1].folded, self._segment)


def _items(old: Sequence[Any], new: Sequence[Any]) -> Pairs:
    for at, (one, other) in enumerate(zip_longest(old, new, fillvalue=MISSING)):
        yield at, one, other


def _type(value: object) -> str:
    return _TYPES.get(type(value), "")


def _kind(was: str, now: str) -> DifferenceKind:
    if was == now:
        return "changed"
    return "extra" if was == "missing" else "missing" if now == "missing" else "type"


def _is_same_scalar(old: Any, new: Any) -> bool:
    return bool(old == new and old != _LIMITED_TEXT) or (old != old and new != new)  # noqa: PLR0124 - NaN


def _is_plain(value: Any) -> bool:
    """Whether an object's names are texts, as JSON's are."""
    return not isinstance(value, dict) or set(map(type, cast("Mapping[Any, Any]", value))) <= {str}


def _is_hidden(value: Any) -> bool:
    return is_redacted(value) or (isinstance(value, str) and value == _LIMITED_TEXT)


def _is_limited(value: Any) -> bool:
    return isinstance(value, str) or value[MARK].startswith("limit:")
