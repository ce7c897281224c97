"""Migrations that are made up: how often gates let a bad candidate on, and abort rules take a good one back. Pure.

Every migration is looked at once a minute, as the controller looks, until it is promoted, taken back, or over; what is
judged is real evidence by the real ``judge``. Only the calls are drawn, from a candidate whose truth is known.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from .evidence import Evidence, Traffic
from .gates import Abort, Facts, Gate, judge
from .limits import Limit
from .statistics import fixed_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .evidence import PathName

Ending = Literal["promoted", "rolled-back", "held"]

LOOKS: Final = 40  # minutes
CALLS: Final = 50  # a minute, on each path
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SURE: Final = 0.999  # a promise is told to be broken when chance does not explain it
_RARELY: Final = 10
_SELDOM: Final = 4  # minutes between two looks there
_SECONDS: Final = 0.02  # a call's mean time at legacy

_MATCH: Final = Gate(match=Limit(">=", 0.97), calls=100)
_ERRORS: Final = Gate(errors=Limit("<=", 0.03, legacy=True), calls=100)
_LATENCY: Final = Gate(p50=Limit("<=", 0.0, legacy=True, factor=1.5), calls=100)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A new side as it truly is. ``promise``: the largest share of migrations that may end as ``wrong``.

    ``mismatches`` and ``errors`` are shares of its calls, ``slow`` the factor of its time, 0: time is not drawn at all;
    ``late``: only from that look on, before it is as legacy. Legacy fails one call in a hundred.
    """

    name: str
    gate: Gate
    abort: Abort
    wrong: Ending
    promise: float
    path: PathName = "bus"
    mismatches: float = 0.0
    errors: float = 0.01
    slow: float = 0.0
    late: int = 0


def candidates() -> tuple[Candidate, ...]:
    """Good ones, bad ones by various sizes, those at the very limit, and one that turns bad late."""
    sure, kind = (
        1 - Gate().confidence,
        2 * (1 - Abort().confidence),
    )  # an abort is judged on all and on the last minutes
    match, errors = Abort(match=Limit("<", 0.97)), Abort(errors=Limit(">", 0.03, legacy=True))
    slow, none = Abort(p50=Limit(">", 0.0, legacy=True, factor=1.5)), Abort()
    shown = "match, wanted >= 97 %: truly"
    failing = "errors, wanted <= legacy + 3 %: truly legacy +"
    timed = "p50, wanted <= legacy * 1.5: truly legacy *"
    bad = (
        [
            Candidate(
                name=f"{shown} {100 - 100 * share:g} %",
                path="shadow",
                gate=_MATCH,
                abort=none,
                mismatches=share,
                wrong="promoted",
                promise=sure,
            )
            for share in (0.0301, 0.04, 0.1)
        ]
        + [
            Candidate(
                name=f"{failing} {100 * more:g} %",
                gate=_ERRORS,
                abort=none,
                errors=0.01 + more,
                wrong="promoted",
                promise=sure,
            )
            for more in (0.0301, 0.05, 0.1)
        ]
        + [
            Candidate(
                name=f"{timed} {factor:g}", gate=_LATENCY, abort=none, slow=factor, wrong="promoted", promise=sure
            )
            for factor in (1.51, 2.0)
        ]
    )
    good = (
        [
            Candidate(
                name=f"{shown} {100 - 100 * share:g} %",
                path="shadow",
                gate=Gate(calls=10**9),
                abort=match,
                mismatches=share,
                wrong="rolled-back",
                promise=kind,
            )
            for share in (0.0299, 0.01)
        ]
        + [
            Candidate(
                name=f"{failing} {100 * more:g} %",
                gate=Gate(calls=10**9),
                abort=errors,
                errors=0.01 + more,
                wrong="rolled-back",
                promise=kind,
            )
            for more in (0.0299, 0.0)
        ]
        + [
            Candidate(
                name=f"{timed} {factor:g}",
                gate=Gate(calls=10**9),
                abort=slow,
                slow=factor,
                wrong="rolled-back",
                promise=kind,
            )
            for factor in (1.49, 1.0)
        ]
    )
    turning = Candidate(
        name=f"{failing} 30 % in the second half",
        gate=Gate(calls=10**9),
        abort=errors,
        errors=0.31,
        late=LOOKS // 2,
        wrong="held",
        promise=kind,
    )
    proven = Candidate(
        name=f"{shown} 99.9 %, to be let on",
        path="shadow",
        gate=_MATCH,
        abort=match,
        mismatches=0.001,
        wrong="held",
        promise=sure,
    )
    return (*bad, *good, turning, proven)


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """How ``migrations`` of one candidate ended."""

    candidate: Candidate
    migrations: int
    endings: Counter[Ending]

    @property
    def wrong(self) -> float:
        """The share that ended as they must not."""
        return self.endings[self.candidate.wrong] / self.migrations

    @property
    def kept(self) -> bool:
        """Whether what is promised holds, as far as so many migrations can tell."""
        wrong = self.endings[self.candidate.wrong]
        return fixed_bounds(wrong, self.migrations - wrong, confidence=_SURE).low <= self.candidate.promise


def simulate(migrations: int, *, seed: int) -> Iterator[Simulated]:
    """So many migrations, shared out among the candidates, fewer where time is drawn; equal for an equal ``seed``."""
    chosen = candidates()
    # Quantiles cost a hundred times what shares cost.
    parts = sum(1 / _RARELY if candidate.slow else 1 for candidate in chosen)
    for candidate in chosen:
        each = max(1, int(migrations / parts / (_RARELY if candidate.slow else 1)))
        chance = random.Random(f"{seed} {candidate.name}")  # noqa: S311 - made up calls
        endings = Counter[Ending](_migrate(candidate, chance) for _ in range(each))
        yield Simulated(candidate=candidate, migrations=each, endings=endings)


def _migrate(candidate: Candidate, chance: random.Random) -> Ending:
    evidence = Evidence(seam="simulated", revision=1, since=_BEGAN)
    for look in range(0, LOOKS, _SELDOM if candidate.slow else 1):
        now = _BEGAN + timedelta(minutes=look)
        as_legacy = look < candidate.late
        timed = _SECONDS if candidate.slow else 0.0
        _call(evidence, "legacy", now, chance, errors=0.01, seconds=timed)
        errors = 0.01 if as_legacy else candidate.errors
        _call(evidence, candidate.path, now, chance, errors=errors, seconds=timed * candidate.slow)
        if candidate.path == "shadow":
            misses = sum(chance.random() < candidate.mismatches for _ in range(CALLS))
            evidence.verdicts["mismatch"] += misses
            evidence.verdicts["match"] += CALLS - misses
        ruling = judge(candidate.gate, candidate.abort, Facts(evidence=evidence, path=candidate.path, now=now))
        if ruling.kind != "hold":
            return "promoted" if ruling.kind == "allow" else "rolled-back"
    return "held"


def _call(
    evidence: Evidence, path: PathName, now: datetime, chance: random.Random, *, errors: float, seconds: float
) -> None:
    """A minute's calls of one path."""
    minute = Traffic(calls=CALLS, errors=sum(chance.random() < errors for _ in range(CALLS)))
    for _ in range(CALLS if seconds else 0):
        minute.latency.add(chance.expovariate(1 / seconds))
    evidence.paths[path].merge(minute)
    evidence.minutes.setdefault(int(now.timestamp()) // 60, {})[path] = minute
