"""Judges two outcomes of one call; shadow, replay and gates all ask this function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from .budget import Budget
from .findings import signature
from .observed import Outcome
from .rendering import cut, shorten, shorten_error
from .rules import Rules
from .values import compare_values, identical
from .verdict import Difference, Verdict

if TYPE_CHECKING:
    from crossfade.shim.outcomes import ErrorRecord

    from .findings import Findings

Comparator = Callable[[Outcome, Outcome], bool | Verdict]
"""A user's own word on two outcomes that are both values, timing included: equal or not, or a whole verdict.

It must not change them, and no budget bounds it.
"""

_BY_COMPARATOR: Final = "comparator"


def compare(
    old: Outcome,
    new: Outcome,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    comparator: Comparator | None = None,
) -> Verdict:
    """What to make of ``new`` where ``old`` is the legacy answer. Never raises on account of the outcomes.

    Two values are compared under the rules of ``$``, two errors by type, message and arguments under those of
    ``$error``; one value and one error are a ``mismatch`` under any rule. A side that did not run is
    ``skipped(not-executed)``, one of which nobody knows ``inconclusive(unknown)``.
    ``comparator`` has the last word on two values: a bool, where ``True`` leaves a ``match`` or ``ignored`` as
    they are, or a verdict. When it raises or answers anything else: ``inconclusive(comparator)``.
    """
    if "unknown" in (old.kind, new.kind):
        return Verdict(kind="inconclusive", reason="unknown", detail=old.reason or new.reason)
    if "not-executed" in (old.kind, new.kind):
        return Verdict(kind="skipped", reason="not-executed", detail=old.reason or new.reason)
    if old.error is not None and new.error is not None:
        return _errors(old.error, new.error, rules, budget)
    if old.kind != new.kind:
        return _ended_differently(old, new)
    verdict = _values(old.value, new.value, rules, budget)
    return verdict if comparator is None else _asked(comparator, old, new, verdict)


def _values(old: Any, new: Any, rules: Rules, budget: Budget) -> Verdict:
    if identical(old, new):
        return Verdict(kind="match")
    return _verdict(compare_values(old, new, rules, budget))


def _errors(old: ErrorRecord, new: ErrorRecord, rules: Rules, budget: Budget) -> Verdict:
    once = _repeats(old) == _repeats(new) != ""
    findings = compare_values(_document(old, once=once), _document(new, once=once), rules, budget, root="$error")
    verdict = _verdict(findings)
    return replace(verdict, reason="both-errors") if verdict.kind == "match" else verdict


def _document(error: ErrorRecord, *, once: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": error.type, "message": error.message}
    return fields if once else {**fields, "args": list(error.args)}


def _repeats(error: ErrorRecord) -> str:
    """How the arguments only repeat the message, as most errors' do: what differs in both is said once."""
    if len(error.args) != 1 or not isinstance(error.args[0], str):
        return ""
    return {error.args[0]: "plain", repr(error.args[0]): "quoted"}.get(error.message, "")


def _ended_differently(old: Outcome, new: Outcome) -> Verdict:
    endings = [outcome.error.type if outcome.error else "" for outcome in (old, new)]
    shown = [shorten_error(outcome.error) if outcome.error else shorten(outcome.value) for outcome in (old, new)]
    return Verdict(
        kind="mismatch",
        differences=(Difference(path="$", kind="outcome", old=shown[0], new=shown[1]),),
        signature=signature([f"outcome {endings[0]}>{endings[1]}".encode("utf-8", "surrogatepass")]),
    )


def _verdict(found: Findings) -> Verdict:
    if found.differences:
        return Verdict(
            kind="mismatch",
            reason="budget" if found.exhausted else "",
            differences=tuple(found.differences),
            more=found.more,
            signature=found.signature,
        )
    if found.exhausted:
        return Verdict(kind="inconclusive", reason="budget")
    if found.undecided:
        return Verdict(kind="inconclusive", reason=found.undecided[0], detail=found.undecided[1])
    judged = ", ".join(sorted(found.judged))
    if found.ignored:
        return Verdict(kind="ignored", rule=", ".join(sorted(found.ignored)), judged=judged)
    return Verdict(kind="match", judged=judged)


def _asked(comparator: Comparator, old: Outcome, new: Outcome, ours: Verdict) -> Verdict:
    try:
        answer: object = comparator(old, new)
    except Exception as error:
        return _no_answer(f"raised {type(error).__name__}: {_text(error)}")
    if isinstance(answer, Verdict):
        return answer
    if answer is True:
        return ours if ours.kind in ("match", "ignored") else Verdict(kind="match", rule=_BY_COMPARATOR)
    if answer is False:
        return _refused(old, new, ours)
    return _no_answer(f"answered {type(answer).__name__}, not a bool or a Verdict")


def _refused(old: Outcome, new: Outcome, ours: Verdict) -> Verdict:
    if ours.kind == "mismatch":
        return replace(ours, rule=_BY_COMPARATOR)
    difference = Difference(path="$", kind="changed", old=shorten(old.value), new=shorten(new.value))
    return Verdict(
        kind="mismatch", rule=_BY_COMPARATOR, differences=(difference,), signature=signature([b"comparator"])
    )


def _no_answer(detail: str) -> Verdict:
    return Verdict(kind="inconclusive", reason=_BY_COMPARATOR, detail=cut(detail))


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<unprintable: {type(broken).__name__}>"
