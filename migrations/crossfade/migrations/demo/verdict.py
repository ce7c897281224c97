"""What the demo claims, computed from the desk's own journal and from the answers people got. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .traffic import Asked


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage the seam stood at: seconds since the start, and answers given under it."""

    stage: str
    at: float
    answers: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The summary; its fields are the keys of ``crossfade demo --json``."""

    calls: int
    executed: Mapping[str, int]
    lost: int
    doubled: int
    unknown: int
    mismatches: Sequence[str]
    kills: int
    redelivered: int
    stages: Sequence[StageRow]
    latency_ms: Mapping[str, Mapping[str, float]]
    seconds: float
    missed_kills: int = 0
    observed: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled, unknown or different, and every kill hit a call in flight."""
        return not (self.lost or self.doubled or self.unknown or self.mismatches or self.missed_kills)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON."""
        return asdict(self)


def judge(
    *,
    tool: str,
    journal: Path,
    asked: Sequence[Asked],
    stages: Sequence[StageRow],
    kills: int,
    missed_kills: int,
    observed: int,
    seconds: float,
) -> Verdict:
    """Count what happened. A call is lost when its answer never came or its execution never ended."""
    entries = [entry for entry in _read(journal) if entry["tool"] == tool]
    begun = Counter(entry["request"] for entry in entries if entry["phase"] == "begin")
    ended = Counter(entry["request"] for entry in entries if entry["phase"] == "end")
    roles = Counter(entry["role"] for entry in entries if entry["phase"] == "end")
    unanswered = [item for item in asked if item.answer is None]
    unknown = sum("OutcomeUnknown" in item.failure for item in unanswered)
    never_ran = [item for item in asked if item.answer is not None and f"{item.request}.1" not in ended]
    never_ended = [request for request in begun if request not in ended]
    return Verdict(
        calls=len(begun),
        executed={"legacy": roles["legacy"], "bus": roles["worker"]},
        lost=len(unanswered) - unknown + len(never_ran) + len(never_ended),
        doubled=sum(count > 1 for count in ended.values()),
        unknown=unknown,
        mismatches=_mismatches(asked),
        kills=kills,
        missed_kills=missed_kills,
        redelivered=sum(count > 1 for count in begun.values()),
        stages=stages,
        latency_ms={
            "legacy": _latency(item.seconds for item in asked if item.phase == "legacy"),
            "bus": _latency(item.seconds for item in asked if item.phase == "bus"),
        },
        observed=observed,
        seconds=round(seconds, 1),
    )


def _mismatches(asked: Iterable[Asked]) -> list[str]:
    """Questions whose answer was not the first one given: the stages must not differ in what they answer."""
    first: dict[str, Any] = {}
    different: dict[str, None] = {}
    for item in asked:
        if item.answer is not None:
            answer = {key: value for key, value in item.answer.items() if key != "request_id"}
            if first.setdefault(item.question, answer) != answer:
                different[f"{item.question} ({item.phase}, {item.request})"] = None
    return list(different)


def _latency(seconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"p50": 0.0, "p99": 0.0}
    return {
        "p50": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
    }


def _read(journal: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for line in journal.read_bytes().split(b"\n"):
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue  # a line torn by the kill; a begin that is missing proves that the tool did not run
    return entries
