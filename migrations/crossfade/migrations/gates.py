"""Gates and abort rules: what evidence allows, holds back, or takes back. Pure.

Rules
- A gate judges bounds, not rates: what it asks for must be proven, whenever it is looked at.
- Missing data holds: it is neither good nor bad news.
- Both are judged on everything since the last move and on the last minutes alone, so that a late regression is not
  outvoted by a good past: proven, it keeps a gate shut. An abort rule asks for less proof than a gate, because going
  back is cheap.
- ``legacy`` in a limit is what the legacy path shows in the same evidence; where it has no traffic any more, what it
  showed last (``baseline``).
- A comparator of texts is never all that a gate rests on: how many matches do is said, and where every one is a whole
  answer that only a comparator called the same, or that differs and is ignored as a whole, a person decides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal

from crossfade.shim.instances import build_name

from .limits import Limit
from .statistics import Bounds, sequential_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from .evidence import Evidence, PathName, Traffic

State = Literal["met", "missing", "unmet", "violated"]
"""Of a finding. ``missing``: no data; ``unmet``: not proven yet; ``violated``: the opposite is proven."""

RulingKind = Literal["allow", "hold", "rollback"]

RECENT: Final = timedelta(minutes=5)
_LOOKS: Final = 60
"""A recent window is judged with so many times less tolerance for error: an hour has that many of them."""
_QUANTILES: Final = {"p50": 0.5, "p99": 0.99}
_SILENT: Final = timedelta(minutes=2)
"""How much later than the build that is judged another may have answered: in a rolling deploy they take turns."""
_WEIGHTY: Final = 0.05  # a kind of call with this share of the traffic must be covered like the whole


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayWanted:
    """A replay of the seam must have passed ``within`` so many seconds, and with ``build`` where one is named."""

    within: float
    build: str = ""

    def __str__(self) -> str:
        return f"{_time(self.within)}{f' with build {self.build}' if self.build else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayPassed:
    """The last replay of a seam that passed: when, and with which build of the application."""

    at: datetime
    build: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What must be proven before a seam moves on. What is not named is not asked for.

    Attributes:
        match: Share of compared calls without a difference that counts, like ``>= 0.99``.
        confidence: In every bound. Default 0.95. Danger: at 0.5 chance promotes.
        coverage: Share of eligible calls that were compared, in all and for each kind of call that matters.
        calls: Compared calls at shadow, calls that the bus answered from canary on.
        keys: Distinct users (else sessions, else runs) whose calls were compared, or answered by the bus; at observe:
            whose calls were seen. Danger of few: one noisy user is all the evidence.
        hold: Seconds since the last move, or a new build. Danger of short: yesterday's traffic is not Monday's.
        errors: Share of calls that failed on the bus, unanswered ones among them. Only from canary on.
        unknown: Share of calls of which nobody knows whether they ran. Only from canary on.
        p50: Seconds.
        p99: Seconds.
        replay: Which replay of the seam must have passed.
    """

    match: Limit | None = None
    confidence: float = 0.95
    coverage: Limit | None = None
    calls: int = 0
    keys: int = 0
    hold: float = 0.0
    errors: Limit | None = None
    unknown: Limit | None = None
    p50: Limit | None = None
    p99: Limit | None = None
    replay: ReplayWanted | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Abort:
    """What takes a seam back. Each is a limit that must not be passed; ``confidence`` 0.9 by default."""

    match: Limit | None = None
    errors: Limit | None = None
    unknown: Limit | None = None
    p50: Limit | None = None
    p99: Limit | None = None
    confidence: float = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a ruling rests on.

    ``path``: where the new side's traffic is: ``shadow`` until canary, then ``bus``. ``observing``: there is none yet,
    so keys are those whose calls were seen. ``replayed``: the last replay of the seam that passed. ``unsafe``: no
    shadow ever runs its calls.
    """

    evidence: Evidence
    path: PathName
    now: datetime
    baseline: Traffic | None = None
    replayed: ReplayPassed | None = None
    observing: bool = False
    unsafe: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found of one number: ``seen`` lies between ``low`` and ``high``. ``text`` is for people.

    ``limit``: the number that all of that must keep to, the strictest where legacy's own is known within bounds only.
    """

    metric: str
    state: State
    wanted: str
    text: str
    seen: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it; a bound that nothing is known of yet is null, because JSON has no infinity."""
        return {name: None if value == inf else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What to do, and why."""

    kind: RulingKind
    findings: tuple[Finding, ...]


def asked(rules: Gate | Abort) -> list[str]:
    """The rules as their playbook writes them."""
    found = {name: getattr(rules, name) for name in type(rules).__dataclass_fields__ if name != "confidence"}
    return [f"{name} {_written(name, value)}" for name, value in found.items() if value]


def _written(name: str, value: object) -> str:
    if name == "hold" and isinstance(value, float):
        return _time(value)
    return value.text("s") if name in _QUANTILES and isinstance(value, Limit) else str(value)


def judge(gate: Gate, abort: Abort, facts: Facts) -> Ruling:
    """Roll back where an abort rule is proven to be broken, allow where all of the gate is met, hold otherwise."""
    broken = tuple(finding for finding in _aborts(abort, facts) if finding.state == "violated")
    asked = tuple(_asks(gate, facts))
    if broken:
        return Ruling("rollback", (*broken, *asked))
    return Ruling("allow" if all(finding.state == "met" for finding in asked) else "hold", asked)


# -- the gate ----------------------------------------------------------------------------------------------------


def _asks(gate: Gate, facts: Facts) -> Iterator[Finding]:
    evidence, traffic = facts.evidence, facts.evidence.paths[facts.path]
    if facts.unsafe and not facts.observing and facts.path == "shadow" and (text := waits_for_ever(gate)):
        yield Finding(metric="effects", state="missing", wanted="a shadow", text=text)
    if gate.hold:
        yield _enough("hold", (facts.now - evidence.begun).total_seconds(), gate.hold, _time)
    if gate.calls:
        yield _enough("calls", evidence.compared if facts.path == "shadow" else traffic.answered, gate.calls)
    if gate.keys:
        yield _enough("keys", len(evidence.callers if facts.observing else evidence.keys), gate.keys)
    if gate.match:
        yield _not_by_words_alone(_match(gate.match, evidence, gate.confidence), evidence)
    if gate.coverage:
        yield _coverage(gate.coverage, evidence)
    yield from _numbers(gate, traffic, _legacy(facts), gate.confidence)
    if traffic.calls and not traffic.answered:
        text = f"the bus answered none of {traffic.calls} calls"
        yield Finding(metric="answers", state="violated", wanted="any", text=text, seen=0.0)
    if (other := _takes_over(evidence)) is not None:
        yield other
    if gate.replay is not None:
        yield _replay(gate.replay, facts)
    # Of the last minutes that had calls: what was wrong when they ended is not right because nobody calls at night.
    last = evidence.until(facts.path) or facts.now
    yield from (finding for finding in _lately(gate, facts, until=last) if finding.state == "violated")


def waits_for_ever(gate: Gate) -> str:
    """What ``gate`` asks of comparisons that an unsafe seam at shadow never has, and what to do; empty if nothing."""
    names = [name for name in ("match", "coverage", "calls", "keys", "p50", "p99") if getattr(gate, name)]
    if not names:
        return ""
    return (
        f"an unsafe seam is never run for comparison, so {', '.join(names)} at shadow would wait for ever: leave it to "
        "hold and replay there, or say effects='none' or 'idempotent' of the seam if that is true"
    )


def _enough(metric: str, seen: float, wanted: float, shown: Callable[[float], str] = "{:g}".format) -> Finding:
    state: State = "met" if seen >= wanted else "missing"
    text = f"{metric} {shown(seen)}, wanted {shown(wanted)}"
    return Finding(metric=metric, state=state, wanted=f">= {shown(wanted)}", text=text, seen=seen, limit=wanted)


def _match(limit: Limit, evidence: Evidence, confidence: float) -> Finding:
    judged = evidence.judged["part"] + evidence.judged["whole"]
    by_words = f", {judged} matches by a comparator of texts" if judged else ""
    return _match_of(limit, evidence.compared, evidence.verdicts["mismatch"], confidence, by_words)


def _match_of(limit: Limit, compared: int, misses: int, confidence: float, more: str) -> Finding:
    if not compared:
        return _missing("match", limit, "nothing was compared yet")
    bounds = sequential_bounds(compared - misses, misses, confidence=confidence)
    return _above(limit, _Measured("match", 1 - misses / compared, bounds, f"of {compared} compared{more}", _percent))


def _not_by_words_alone(finding: Finding, evidence: Evidence) -> Finding:
    """It is not met where every match is a comparator's word on a whole answer, or a rule's that ignores all of it."""
    said, ignored = evidence.judged["whole"], evidence.judged["ignored"]
    if finding.state != "met" or said + ignored < evidence.compared - evidence.verdicts["mismatch"]:
        return finding
    why = "a comparator's word on the whole answer" if said else "an answer that a rule ignores as a whole"
    text = f"{finding.text}; every match is {why}, so a person decides"
    return replace(finding, state="unmet", text=text)


def _coverage(limit: Limit, evidence: Evidence) -> Finding:
    """The least covered of the whole and of each kind of call that matters: a sample without its slow calls is none."""
    whole = evidence.covered
    if whole.share is None:
        return _missing("coverage", limit, "no process has told how many calls were eligible")
    weighty = {kind: found for kind, found in evidence.coverage.items() if found.eligible >= _WEIGHTY * whole.eligible}
    shares = {"all": whole.share, **{kind: found.share or 0.0 for kind, found in weighty.items()}}
    kind = min(shares, key=lambda name: shares[name])
    exact = Bounds(shares[kind], shares[kind])  # every eligible call is counted, so this is no estimate
    return _above(limit, _Measured("coverage", shares[kind], exact, f"of calls {kind}", _percent))


def _takes_over(evidence: Evidence) -> Finding | None:
    """An earlier build that answers while the judged one is silent: what it proved may not be what runs."""
    if evidence.build is None:
        return None
    last = evidence.builds[evidence.build]
    others = {build: seen for build, seen in evidence.builds.items() if seen - last > _SILENT}
    if not others:
        return None
    now = max(others, key=lambda build: others[build])
    text = f"{build_name(evidence.build)} was last seen {last:%H:%M}, and {build_name(now)} answers: which runs?"
    return Finding(metric="build", state="unmet", wanted=build_name(evidence.build), text=text)


def _replay(asked: ReplayWanted, facts: Facts) -> Finding:
    wanted, passed = f"passed within {asked}", facts.replayed
    if passed is None:
        return Finding(metric="replay", state="missing", wanted=wanted, text="no replay has passed")
    age = (facts.now - passed.at).total_seconds()
    text = f"a replay of build {passed.build} passed {_time(age)} ago"
    if asked.build and passed.build != asked.build:
        text = f"{text}, it proves nothing of build {asked.build}: replay that with --publish"
        return Finding(metric="replay", state="missing", wanted=wanted, text=text, seen=age)
    state: State = "met" if age <= asked.within else "missing"
    return Finding(metric="replay", state=state, wanted=wanted, text=text, seen=age)


# -- abort rules -------------------------------------------------------------------------------------------------


def _aborts(abort: Abort, facts: Facts) -> Iterator[Finding]:
    """Every rule, on all of the traffic and on the last minutes of it."""
    if abort.match and facts.evidence.compared:
        yield _match(abort.match, facts.evidence, abort.confidence)
    yield from _numbers(abort, facts.evidence.paths[facts.path], _legacy(facts), abort.confidence)
    yield from _lately(abort, facts, until=facts.now)


def _lately(rules: Gate | Abort, facts: Facts, *, until: datetime) -> Iterator[Finding]:
    """What the last minutes ``until`` then say."""
    sure, during = 1 - (1 - rules.confidence) / _LOOKS, f" in the last {_time(RECENT.total_seconds())}"
    recent = facts.evidence.recent(facts.path, until, within=RECENT)
    legacy = facts.evidence.recent("legacy", until, within=RECENT)
    found = _numbers(rules, recent, legacy if legacy.calls else _legacy(facts), sure)
    compared = facts.evidence.recent("shadow", until, within=RECENT)
    if rules.match and compared.compared:
        found = chain(found, [_match_of(rules.match, compared.compared, compared.mismatches, sure, during)])
    return found


# -- one number --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measured:
    """A number as it was seen, and between which it truly is."""

    metric: str
    seen: float
    bounds: Bounds
    among: str
    shown: Callable[[float], str]


def _numbers(rules: Gate | Abort, traffic: Traffic, legacy: Traffic, confidence: float) -> Iterator[Finding]:
    """What is found of the shares and quantiles that ``rules`` limit."""
    limits = {"errors": rules.errors, "unknown": rules.unknown, "p50": rules.p50, "p99": rules.p99}
    for metric, limit in limits.items():
        if limit:
            measure = _quantile if metric in _QUANTILES else _share
            sure = _half(confidence) if limit.legacy else confidence
            measured, known = measure(metric, traffic, sure), measure(metric, legacy, sure) if limit.legacy else None
            if measured is None:
                yield _missing(metric, limit, "no call went this path yet")
            elif limit.legacy and known is None:
                yield _missing(metric, limit, "nothing is known of legacy to measure it by")
            else:
                finding = _below(limit, measured, known.bounds if known else Bounds(0.0, 0.0))
                yield _of_streams(finding) if known and legacy.streamed and metric in _QUANTILES else finding


def _of_streams(finding: Finding) -> Finding:
    """Said, because nobody can tell it apart: a slow taker makes legacy look slow, and flatters the handler."""
    return replace(finding, text=f"{finding.text}; legacy's time holds what takers of its streams did between items")


def _share(metric: str, traffic: Traffic, confidence: float) -> _Measured | None:
    if not traffic.calls:
        return None
    count = traffic.errors if metric == "errors" else traffic.unknown
    bounds = sequential_bounds(count, traffic.calls - count, confidence=confidence)
    return _Measured(metric, count / traffic.calls, bounds, f"of {traffic.calls} calls", _percent)


def _quantile(metric: str, traffic: Traffic, confidence: float) -> _Measured | None:
    seen = traffic.latency.quantile(_QUANTILES[metric])
    if seen is None:
        return None
    bounds = traffic.latency.bounds(_QUANTILES[metric], confidence=confidence)
    return _Measured(metric, seen, bounds, f"of {traffic.latency.count} calls", _milliseconds)


def _below(limit: Limit, measured: _Measured, legacy: Bounds) -> Finding:
    """A number that must stay below one that is itself only known within bounds."""
    low, high = limit.of(legacy.low), limit.of(legacy.high)
    bounds, shown = measured.bounds, measured.shown
    state: State = "met" if bounds.high <= low else "violated" if bounds.low > high else "unmet"
    wanted = f"{limit.sign} {shown(low)}" if low == high else f"{limit.sign} {shown(low)} to {shown(high)} (legacy)"
    return _finding(measured, state, wanted, low)


def _above(limit: Limit, measured: _Measured) -> Finding:
    """A share that must stay above one that is given."""
    bar, bounds = limit.of(), measured.bounds
    state: State = "met" if bounds.low >= bar else "violated" if bounds.high < bar else "unmet"
    return _finding(measured, state, f"{limit.sign} {measured.shown(bar)}", bar)


def _finding(measured: _Measured, state: State, wanted: str, limit: float) -> Finding:
    bounds, shown = measured.bounds, measured.shown
    between = f", {shown(bounds.low)} to {shown(bounds.high)}" if bounds.low != bounds.high else ""
    return Finding(
        metric=measured.metric,
        state=state,
        wanted=wanted,
        text=f"{measured.metric} {shown(measured.seen)} {measured.among}{between}; limit {wanted}",
        seen=measured.seen,
        low=bounds.low,
        high=bounds.high,
        limit=limit,
    )


def _legacy(facts: Facts) -> Traffic:
    now = facts.evidence.paths["legacy"]
    return now if now.calls or facts.baseline is None else facts.baseline


def _missing(metric: str, limit: Limit, why: str) -> Finding:
    return Finding(metric=metric, state="missing", wanted=limit.sign, text=f"{metric}: {why}")


def _half(confidence: float) -> float:
    """For each of two bounds that must hold together."""
    return 1 - (1 - confidence) / 2


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms"


def _time(seconds: float) -> str:
    """As a playbook writes it, like ``2s`` or ``1d 6h``; never more than has passed."""
    if 0 < seconds < 1:
        return f"{int(1000 * seconds)}ms"
    parts, rest = list[str](), int(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts += [f"{count}{unit}"] if count else []
    return " ".join(parts) or "0s"
