"""Streams: what a call yielded, in order, and how it ended.

The items are the list ``$``: rules reach them by ``$[*]``. Where the stream was cut says nothing of texts under
``"$" = {matcher = "exact", normalise = "join"}``. The error at the end is ``$error``; that one side ended with one and
the other without is a mismatch under any rule, whatever came before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .budget import Budget
from .findings import MOST, signature
from .kernel import compare
from .observed import Outcome
from .rules import Rules

if TYPE_CHECKING:
    from crossfade.shim.outcomes import ErrorRecord

    from .verdict import Verdict

_STRENGTH: Final = ("match", "ignored", "skipped", "inconclusive", "mismatch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """What one side yielded, as decoded JSON already redacted, and the error it ended with, if it did."""

    items: tuple[Any, ...]
    error: ErrorRecord | None = None

    @property
    def ending(self) -> Outcome:
        """How it ended, without its items."""
        return Outcome(kind="error" if self.error else "value", error=self.error)


def compare_streams(
    old: Stream,
    new: Stream,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    budget: Budget = Budget(),  # noqa: B008 - frozen
) -> Verdict:
    """What to make of ``new`` where ``old`` is the legacy stream: the stronger of what items and endings say.

    ``mismatch`` is the strongest and keeps the differences of both; each of the two has the whole ``budget``.
    """
    sides = [Outcome(kind="value", value=list(side.items)) for side in (old, new)]
    items = compare(sides[0], sides[1], rules, budget=budget)
    ending = compare(old.ending, new.ending, rules, budget=budget)
    if items.kind == ending.kind == "mismatch":
        return _both(items, ending)
    if items.kind == ending.kind:
        rule = ", ".join(sorted({*items.rule.split(", "), *ending.rule.split(", ")} - {""}))
        return replace(items, rule=rule, reason=items.reason or ending.reason)
    return max(items, ending, key=lambda verdict: _STRENGTH.index(verdict.kind))


def _both(items: Verdict, ending: Verdict) -> Verdict:
    differences = (*items.differences, *ending.differences)
    return replace(
        items,
        differences=differences[:MOST],
        more=items.more + ending.more + len(differences[MOST:]),
        signature=signature([items.signature.encode(), ending.signature.encode()]),
    )
