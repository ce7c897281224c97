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
class Kill:
    """A worker that was killed in mid-call, and when, by ``time.monotonic``."""

    pid: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the steps themselves saw: workers killed in mid-call, kills that missed, observations, verdicts.

    ``routed``: answers that the bus gave, by the route's seam.
    """

    stages: Sequence[StageRow]
    kills: Sequence[Kill] = ()
    missed_kills: int = 0
    routed: Mapping[str, int] = field(default_factory=dict[str, int])
    observed: int = 0
    verdicts: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Any])
    stayed_back: Sequence[str] = ()
    regression: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The summary; its fields are the keys of ``crossfade demo --json``.

    ``unknown`` counts reports whose person was told that nobody can know whether they were written: the price of
    killing a worker in the middle of one. ``tasks`` were answered with 202 first, ``routed`` over the bus.
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
    tasks: int
    routed: Mapping[str, int]
    missed_kills: int
    observed: int
    shadowed: int
    verdicts: Mapping[str, Mapping[str, int]]
    stayed_back: Sequence[str]
    regression_caught: bool

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or different, every kill hit, and the planted regression was caught."""
        return self.regression_caught and not (self.lost or self.doubled or self.mismatches or self.missed_kills)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON."""
        return asdict(self)


def judge(*, journal: Path, asked: Sequence[Asked], evidence: Evidence, seconds: float) -> Verdict:
    """Count what happened. A call is lost when its answer never came or its execution never ended."""
    entries = [entry for entry in _read(journal) if entry["tool"] in TOOLS]
    real = [entry for entry in entries if entry["role"] != "shadow"]
    begun = Counter(_call(entry) for entry in real if entry["phase"] == "begin")
    ended = Counter(_call(entry) for entry in real if entry["phase"] == "end")
    roles = Counter(entry["role"] for entry in real if entry["phase"] == "end")
    unanswered = [item for item in asked if item.answer is None]
    # Only who waited when a worker was killed may be told that nobody can know.
    unknown = [item for item in unanswered if "outcome_unknown" in item.failure and _was_hit(item, evidence)]
    excused = {item.request for item in unknown}
    never_ran = [item for item in asked if item.answer is not None and ("search", f"{item.request}.1") not in ended]
    never_ended = [call for call in begun if call not in ended and call[1].rpartition(".")[0] not in excused]
    return Verdict(
        calls=len(begun),
        executed={"legacy": roles["legacy"], "bus": roles["worker"]},
        lost=len(unanswered) - len(unknown) + len(never_ran) + len(never_ended),
        doubled=_doubled(real, asked, evidence) + _started_twice(begun),
        unknown=len(unknown),
        mismatches=_mismatches(asked),
        kills=len(evidence.kills),
        redelivered=sum(count > 1 for count in begun.values()),
        stages=evidence.stages,
        latency_ms={
            "legacy": _latency(item.seconds for item in asked if item.phase == "legacy" and item.kind == "ask"),
            "bus": _latency(item.seconds for item in asked if item.phase == "bus" and item.kind == "ask"),
        },
        seconds=round(seconds, 1),
        tasks=sum(item.task for item in asked),
        routed=evidence.routed,
        missed_kills=evidence.missed_kills,
        observed=evidence.observed,
        shadowed=sum(entry["role"] == "shadow" and entry["phase"] == "end" for entry in entries),
        verdicts=evidence.verdicts,
        stayed_back=evidence.stayed_back,
        regression_caught=not evidence.regression or evidence.regression in evidence.stayed_back,
    )


def _call(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["tool"], entry["request"]


def _was_hit(item: Asked, evidence: Evidence) -> bool:
    return any(item.was_under_way(kill.at) for kill in evidence.kills)


def _doubled(entries: Iterable[Mapping[str, Any]], asked: Iterable[Asked], evidence: Evidence) -> int:
    """Reads that ended twice. A worker that was killed before it answered is no second one, as reads go.

    A worker of functions leaves its pid in the journal. One of routes asks a service, so what a person looked up
    while it was killed may have ended there twice.
    """
    killed = {kill.pid for kill in evidence.kills}
    again = {("search", f"{item.request}.1") for item in asked if item.kind == "look" and _was_hit(item, evidence)}
    ended = Counter(_call(entry) for entry in entries if entry["phase"] == "end" and entry["pid"] not in killed)
    return sum(count > 1 for call, count in ended.items() if call not in again)


def _started_twice(begun: Mapping[tuple[str, str], int]) -> int:
    """Unsafe calls that started more than once: never allowed, also when they did not end."""
    return sum(count > 1 for (tool, _), count in begun.items() if tool == "write_report")


def _mismatches(asked: Iterable[Asked]) -> list[str]:
    """Questions whose answer was not the first one given: the stages must not differ in what they answer."""
    first: dict[tuple[str, str], Any] = {}
    different: dict[str, None] = {}
    for item in asked:
        if item.answer is not None and item.kind != "report":
            answer = {key: value for key, value in item.answer.items() if key != "request_id"}
            if first.setdefault((item.kind, item.question), answer) != answer:
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
