"""Several runs of one recorded call, for what answers otherwise each time, as a model does. Pure.

1. Most of the runs decide; as many for as against is a mismatch, for one answer of two is not to be relied on.
2. What semantic rules do not cover (which tool, its arguments, their order, the shape) is compared as without repeats.
3. Two variances, never one: how often two runs of the same code differ, and how often a comparator of texts that is
   asked the same again says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .comparison import Outcome, Rules, Verdict
    from .judging import Recorded

AGREEING: Final = frozenset({"match", "ignored"})


class Judge(Protocol):
    """``judging.judge`` of one service; ``asks``: the user's own comparator has the last word."""

    def __call__(self, old: Recorded, new: Outcome, rules: Rules, /, *, asks: bool) -> Verdict:
        """What to make of ``new``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """What the runs amount to: see ``schemas.Repeated``, as which it travels."""

    runs: int
    matched: int
    structure: int
    pairs: int
    varied: int
    asked: int
    flipped: int

    def to_json(self) -> dict[str, Any]:
        """The payload's ``repeated``."""
        return asdict(self)


def judge_runs(
    recorded: Recorded,
    ended: Sequence[Outcome],
    rules: Rules,
    judge: Judge,
    *,
    redaction: str,
    lost: Sequence[Verdict] = (),
) -> tuple[Verdict, Repeats]:
    """What most runs say, and how much they vary.

    ``lost`` are verdicts on runs that brought no outcome; ``redaction`` is the fingerprint of the key by which those
    that did are redacted.
    """
    found = [judge(recorded, run, rules, asks=True) for run in ended]
    structure = [judge(recorded, run, rules.with_semantic_as("type"), asks=False) for run in ended]
    exact = rules.with_semantic_as("exact")
    pairs = [
        judge(replace(recorded, outcome=one, redaction=redaction), other, exact, asks=False)
        for one, other in pairwise(ended)
    ]
    asked = [at for at, verdict in enumerate(found) if _was_asked(verdict, structure[at])]
    again = [judge(recorded, ended[at], rules, asks=True) for at in asked]
    repeats = Repeats(
        runs=len(ended) + len(lost),
        matched=sum(map(_agrees, found)),
        structure=sum(map(_agrees, structure)),
        pairs=len(pairs),
        varied=sum(verdict.kind == "mismatch" for verdict in pairs),
        asked=len(asked),
        flipped=sum(found[at].kind != verdict.kind for at, verdict in zip(asked, again, strict=True)),
    )
    return majority([*found, *lost]), repeats


def majority(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of most runs, with every semantic rule that those for it rest on; at a tie, that against."""
    agreeing = [verdict for verdict in verdicts if _agrees(verdict)]
    if 2 * len(agreeing) > len(verdicts):
        judged = {path for verdict in agreeing for path in verdict.judged.split(", ")} - {""}
        return replace(agreeing[0], judged=", ".join(sorted(judged)))
    against = [verdict for verdict in verdicts if verdict.kind == "mismatch"]
    undecided = [verdict for verdict in verdicts if not (_agrees(verdict) or verdict.kind == "mismatch")]
    return undecided[0] if undecided and 2 * len(against) < len(verdicts) else against[0]


def _agrees(verdict: Verdict) -> bool:
    return verdict.kind in AGREEING


def _was_asked(verdict: Verdict, structure: Verdict) -> bool:
    """Whether a comparator decided it, this way or that."""
    return bool(verdict.judged) or verdict.rule == "comparator" or (_agrees(structure) and not _agrees(verdict))
