"""What the demo claims, computed from the desk's own journal and from the answers people got. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .traffic import Asked

TOOLS: Final = ("search", "summarise", "write_report")
"""The journal's names of the seams that move."""


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage the seams stood at: seconds since the start, and answers given under it."""

    stage: str
    at: float
    answers: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the steps themselves saw: pids of workers killed in mid-call, kills that missed, observations, verdicts."""

    stages: Sequence[StageRow]
    killed: Sequence[int] = ()
    missed_kills: int = 0
    observed: int = 0
    verdicts: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Any])
    stayed_back: Sequence[str] = ()
    regression: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The summary; its fields are the keys of ``crossfade demo --json``.

    ``unknown`` counts calls of which nobody can know whether their effect happened: the price of killing a worker
    in the middle of an unsafe call, one per kill at most.
    """

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
    missed_kills: int
    observed: int
    shadowed: int
    verdicts: Mapping[str, Mapping[str, int]]
    stayed_back: Sequence[str]
    regression_caught: bool

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or different, every kill hit, and the planted regression was caught."""
        # Whichever call a kill was meant for, it may hit one that writes a report at the same worker.
        return not (self.lost or self.doubled or self.mismatches or self.missed_kills) and (
            self.regression_caught and self.unknown <= self.kills
        )

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON."""
        return asdict(self)


def judge(*, journal: Path, asked: Sequence[Asked], evidence: Evidence, seconds: float) -> Verdict:
    """Count what happened. A call is lost when its answer never came or its execution never ended."""
    entries = [entry for entry in _read(journal) if entry["tool"] in TOOLS]
    real = [entry for entry in entries if entry["role"] != "shadow"]
    begun = Counter(_call(entry) for entry in real if entry["phase"] == "begin")
    ended = Counter(_call(entry) for entry in real if entry["phase"] == "end")
    ended_by_living = Counter(
        _call(entry) for entry in real if entry["phase"] == "end" and entry["pid"] not in evidence.killed
    )
    roles = Counter(entry["role"] for entry in real if entry["phase"] == "end")
    unanswered = [item for item in asked if item.answer is None]
    unknown = [item for item in unanswered if "outcome_unknown" in item.failure]
    excused = {item.request for item in unknown}
    never_ran = [item for item in asked if item.answer is not None and ("search", f"{item.request}.1") not in ended]
    never_ended = [call for call in begun if call not in ended and call[1].rpartition(".")[0] not in excused]
    return Verdict(
        calls=len(begun),
        executed={"legacy": roles["legacy"], "bus": roles["worker"]},
        lost=len(unanswered) - len(unknown) + len(never_ran) + len(never_ended),
        # A read that its worker had ended and not yet answered when it was killed runs again, as reads may.
        doubled=sum(count > 1 for count in ended_by_living.values()) + _started_twice(begun),
        unknown=len(unknown),
        mismatches=_mismatches(asked),
        kills=len(evidence.killed),
        redelivered=sum(count > 1 for count in begun.values()),
        stages=evidence.stages,
        latency_ms={
            "legacy": _latency(item.seconds for item in asked if item.phase == "legacy" and not item.report),
            "bus": _latency(item.seconds for item in asked if item.phase == "bus" and not item.report),
        },
        seconds=round(seconds, 1),
        missed_kills=evidence.missed_kills,
        observed=evidence.observed,
        shadowed=sum(entry["role"] == "shadow" and entry["phase"] == "end" for entry in entries),
        verdicts=evidence.verdicts,
        stayed_back=evidence.stayed_back,
        regression_caught=not evidence.regression or evidence.regression in evidence.stayed_back,
    )


def _call(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["tool"], entry["request"]


def _started_twice(begun: Mapping[tuple[str, str], int]) -> int:
    """Unsafe calls that started more than once: never allowed, also when they did not end."""
    return sum(count > 1 for (tool, _), count in begun.items() if tool == "write_report")


def _mismatches(asked: Iterable[Asked]) -> list[str]:
    """Questions whose answer was not the first one given: the stages must not differ in what they answer."""
    first: dict[str, Any] = {}
    different: dict[str, None] = {}
    for item in asked:
        if item.answer is not None and not item.report:
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
