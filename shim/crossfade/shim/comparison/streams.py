"""Streams: what a call yielded, in order, and how it ended.

The items are the list ``$``: rules reach them by ``$[*]``. Where the stream was cut says nothing of texts under
``"$" = {matcher = "exact", normalise = "join"}``. The error at the end is ``$error``; that one side ended with one and
the other without is a mismatch under any rule, whatever came before.

Of a legacy stream that was closed early only what was taken is compared: what the other would have yielded then, and
how it would have ended, nobody has asked.

Where a run of items is missing or extra and all behind it is the same, it alone differs, not every place behind it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from .budget import Budget
from .findings import MOST, MOST_ALIKE, fold, signature
from .kernel import compare
from .observed import Outcome
from .rendering import shorten
from .rules import Rules
from .values import identical
from .verdict import Difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .kernel import Comparator
    from .verdict import DifferenceKind, Verdict

_STRENGTH: Final = ("match", "ignored", "skipped", "inconclusive", "mismatch")
_item = re.compile(r"\$\[(\d+)\]").match


def compare_streams(
    old: Outcome,
    new: Outcome,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    comparator: Comparator | None = None,
) -> Verdict:
    """What to make of ``new`` where ``old`` is the legacy stream: the stronger of what items and endings say.

    ``mismatch`` is the strongest and keeps the differences of both; each of the two has the whole ``budget``.
    ``comparator`` has the last word where both ended well: it finds the list of items in ``value``.
    """
    if {old.kind, new.kind} & {"unknown", "not-executed"}:
        return compare(old, new, rules, budget=budget)
    was, now = list(old.items or ()), list(new.items or ())
    if old.closed and len(now) >= len(was):
        now, new = now[: len(was)], Outcome(kind="value", duration=new.duration)
    items = _items(replace(old, value=was), replace(new, value=now), rules, budget, comparator)
    ending = compare(replace(old, value=None), replace(new, value=None), rules, budget=budget)
    if items.kind == ending.kind == "mismatch":
        return _both(items, ending)
    if items.kind == ending.kind:
        rule = ", ".join(sorted({*items.rule.split(", "), *ending.rule.split(", ")} - {""}))
        return replace(items, rule=rule, reason=items.reason or ending.reason)
    return max(items, ending, key=lambda verdict: _STRENGTH.index(verdict.kind))


def _items(old: Outcome, new: Outcome, rules: Rules, budget: Budget, comparator: Comparator | None) -> Verdict:
    if old.error is not None or new.error is not None:
        comparator = None
    sides = [replace(side, kind="value", error=None) for side in (old, new)]
    found = compare(sides[0], sides[1], rules, budget=budget, comparator=comparator)
    return _aligned(found, old.value, new.value, rules, budget)


def _aligned(found: Verdict, old: Sequence[Any], new: Sequence[Any], rules: Rules, budget: Budget) -> Verdict:
    """``found``; where only a run of items is missing or extra, that they are."""
    if found.kind != "mismatch" or found.rule or any(rule.path == "$" for rule in rules.rules):
        return found
    place = _item(found.differences[0].path)
    if place is None:
        return found
    at, gap = int(place[1]), abs(len(old) - len(new))
    longer, shorter = (old, new) if len(old) > len(new) else (new, old)
    if not gap:
        return replace(found, detail=_reordered(old[at:], new[at:], at))
    if not _is_same(longer[at + gap :], shorter[at:], rules, budget):
        return replace(found, detail=f"legacy yielded {len(old)} items, the other side {len(new)}")
    kind: DifferenceKind = "missing" if longer is old else "extra"
    shown = [_gap(n, kind, longer[n]) for n in range(at, at + min(gap, MOST_ALIKE))]
    alike = signature([fold(b"$", at) + kind.encode()])
    return replace(found, differences=tuple(shown), more=gap - len(shown), signature=alike, reason="")


def _gap(at: int, kind: DifferenceKind, item: Any) -> Difference:
    old, new = (shorten(item), "") if kind == "missing" else ("", shorten(item))
    return Difference(path=f"$[{at}]", kind=kind, old=old, new=new)


def _is_same(old: Sequence[Any], new: Sequence[Any], rules: Rules, budget: Budget) -> bool:
    sides = [Outcome(kind="value", value=list(side)) for side in (old, new)]
    return compare(sides[0], sides[1], rules, budget=budget).kind in {"match", "ignored"}


def _reordered(old: Sequence[Any], new: Sequence[Any], at: int) -> str:
    if identical(sorted(map(repr, old)), sorted(map(repr, new))):
        return f"the same items from $[{at}] on, in another order"
    return ""


def _both(items: Verdict, ending: Verdict) -> Verdict:
    differences = (*items.differences, *ending.differences)
    return replace(
        items,
        differences=differences[:MOST],
        more=items.more + ending.more + len(differences[MOST:]),
        signature=signature([items.signature.encode(), ending.signature.encode()]),
    )
