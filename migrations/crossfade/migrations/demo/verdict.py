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
class Moved:
    """A seam that moved: where to, who moved it, why, and on which findings; ``at`` by ``time.monotonic``."""

    seam: str
    was: str
    to: str
    actor: str
    reason: str
    ruling: str = ""
    digest: str = ""
    findings: Sequence[Mapping[str, Any]] = ()
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """What became of a seam on its playbook: where it ended, why it stays there, and every move."""

    status: str
    reason: str = ""
    moves: Sequence[Moved] = ()

    @property
    def taken_back(self) -> Moved | None:
        """The move by which the controller took it back, if it did."""
        return next((move for move in self.moves if move.ruling == "rollback"), None)

    @property
    def stage(self) -> str:
        """Where it stands."""
        return self.moves[-1].to if self.moves else "legacy"


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A worker that was killed in mid-call, and when, by ``time.monotonic``."""

    pid: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the steps themselves saw: how each seam went, workers killed in mid-call, kills that missed, observations.

    ``routed``: answers that the bus gave, by the route's seam. ``regression``: the seam with a planted bug, or empty.
    """

    ways: Mapping[str, Way] = field(default_factory=dict[str, Way])
    kills: Sequence[Kill] = ()
    missed_kills: int = 0
    routed: Mapping[str, int] = field(default_factory=dict[str, int])
    observed: int = 0
    verdicts: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Any])
    regression: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The summary; its fields are the keys of ``crossfade demo --json``.

    ``unknown`` counts reports whose person was told that nobody can know whether they were written: the price of
    killing a worker in the middle of one; ``spoiled`` those that the planted bug failed while it was at canary.
    ``tasks`` were answered with 202 first, ``routed`` over the bus. ``seams``: how each went; ``stuck`` names those
    that neither were retired nor had to be taken back.
    """

    calls: int
    executed: Mapping[str, int]
    lost: int
    doubled: int
    unknown: int
    spoiled: int
    mismatches: Sequence[str]
    kills: int
    redelivered: int
    seams: Mapping[str, Way]
    latency_ms: Mapping[str, Mapping[str, float]]
    seconds: float
    tasks: int
    routed: Mapping[str, int]
    missed_kills: int
    observed: int
    shadowed: int
    verdicts: Mapping[str, Mapping[str, int]]
    stuck: Sequence[str]
    regression: str
    regression_caught: bool

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled, different or stuck, every kill hit, and the planted bug was caught."""
        bad = self.lost, self.doubled, self.mismatches, self.missed_kills, self.stuck
        return self.regression_caught and not any(bad)

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
    spoiled = [item for item in unanswered if item not in unknown and _was_spoiled(item, evidence)]
    excused = {item.request for item in unknown}
    never_ran = [item for item in asked if item.answer is not None and ("search", f"{item.request}.1") not in ended]
    never_ended = [call for call in begun if call not in ended and call[1].rpartition(".")[0] not in excused]
    return Verdict(
        calls=len(begun),
        executed={"legacy": roles["legacy"], "bus": roles["worker"]},
        lost=len(unanswered) - len(unknown) - len(spoiled) + len(never_ran) + len(never_ended),
        doubled=_doubled(real, asked, evidence) + _started_twice(begun),
        unknown=len(unknown),
        spoiled=len(spoiled),
        mismatches=_mismatches(asked),
        kills=len(evidence.kills),
        redelivered=sum(count > 1 for count in begun.values()),
        seams=evidence.ways,
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
        stuck=[seam for seam, way in evidence.ways.items() if way.status != "retired" and seam != evidence.regression],
        regression=evidence.regression,
        regression_caught=not evidence.regression or _was_taken_back(evidence) is not None,
    )


def _was_taken_back(evidence: Evidence) -> Moved | None:
    way = evidence.ways.get(evidence.regression)
    return way.taken_back if way and way.status == "rolled-back" else None


def _was_spoiled(item: Asked, evidence: Evidence) -> bool:
    """Whether the planted bug failed this report: at canary it answers people, until it is taken back."""
    back = _was_taken_back(evidence)
    return back is not None and back.was == "canary" and item.kind == "report" and item.began <= back.at


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
