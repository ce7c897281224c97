"""Evidence: what is known of a seam since its policy was last changed, in a few kilobytes however many calls it was.

Rules
- It counts what happened under one revision of the policy; a change of the policy begins anew.
- Live traffic only. A replay's verdicts are another evidence's.
- And of one build of the handlers, where they name theirs: what an earlier build proved says nothing of the next. A
  build that was never seen begins the proof anew, and what earlier builds still answer is left out from then on, but
  for coverage, which says how much of the traffic is compared at all. An earlier one that goes on alone for a quarter
  of an hour is what runs now, and begins anew as well; each time that happens the wait doubles, so that two builds
  which stay side by side do not take turns for ever.
- Everything adds up: totals since then, and apart from them the last sixty minutes, minute by minute.
- Keys are hashes. Of payloads it holds only a few samples of what differed, redacted before it left its process.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from crossfade.shim.comparison import Samples
from crossfade.shim.outcomes import is_given_up

from .coverage import JUDGED, Covered, together
from .sketch import Sketch
from .tenants import Tenants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Stored

PathName: TypeAlias = Literal["legacy", "bus", "shadow"]
"""Who ran it: the legacy code for a caller, a handler for a caller, a handler for a comparison alone."""

PATHS: Final[tuple[PathName, ...]] = ("legacy", "bus", "shadow")
MOST_KEYS: Final = 1000
"""Distinct keys that are told apart; beyond them evidence says "at least"."""
MINUTES: Final = 60
ALONE: Final = timedelta(minutes=15)
"""So long an earlier build answers alone before it is taken for the one that runs."""
MOST_BUILDS: Final = 20

_SAMPLES: Final = {"newest": 3, "signatures": 20}
"""With ten differences each of a few hundred bytes, a checkpoint stays far below what a bus takes in one piece."""
_DIFFERENCES: Final = 10
_SERVER_ERROR: Final = 500  # RFC 9110, 15.6
_NO_FAILURES: Final = frozenset({"cancelled", "stale-policy"})
"""Why a worker does not run what nobody wants any more: its caller gave it up, or the seam has moved."""


@dataclass(slots=True)
class Traffic:
    """Calls that went one path: how they ended and how long they took.

    ``errors``: the code raised, or answered with a status of 500 and above, or the bus did not answer: ``unknown`` and
    ``not_executed`` calls are among them, also those that no worker took. ``latency`` is what the caller waited
    for at ``legacy``, the handler's time and its wait in the queue at ``bus``, the handler's time at ``shadow``. A call
    whose caller gave it up is no error. ``compared`` and ``mismatches`` are of comparisons, at ``shadow``;
    ``streamed`` calls yielded items, and what whoever took them did meanwhile is in their time.
    """

    calls: int = 0
    errors: int = 0
    unknown: int = 0
    not_executed: int = 0
    latency: Sketch = field(default_factory=Sketch)
    compared: int = 0
    mismatches: int = 0
    streamed: int = 0

    @property
    def answered(self) -> int:
        """Calls that ended in a value or an error of the code."""
        return self.calls - self.unknown - self.not_executed

    def merge(self, other: Traffic) -> None:
        """Add what ``other`` holds."""
        self.calls += other.calls
        self.errors += other.errors
        self.unknown += other.unknown
        self.not_executed += other.not_executed
        self.latency.merge(other.latency)
        self.compared += other.compared
        self.mismatches += other.mismatches
        self.streamed += other.streamed

    def to_json(self) -> dict[str, Any]:
        """Its counts, ``latency`` by bucket."""
        return {
            "calls": self.calls,
            "errors": self.errors,
            "unknown": self.unknown,
            "not_executed": self.not_executed,
            "latency": self.latency.to_json(),
            "compared": self.compared,
            "mismatches": self.mismatches,
            "streamed": self.streamed,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Traffic:
        """Read what ``to_json`` wrote."""
        latency = Sketch.from_json(stored["latency"])
        ended = (stored["calls"], stored["errors"], stored["unknown"], stored["not_executed"])
        return cls(*ended, latency, *(stored.get(name, 0) for name in ("compared", "mismatches", "streamed")))


@dataclass(kw_only=True, slots=True)
class Evidence:
    """What is known of ``seam`` since ``revision`` of its policy came into force, at ``since`` of the broker's time.

    ``reasons`` counts what was skipped or inconclusive, like ``skipped:stale``. ``handlers``: what ran in the
    handlers' place; ``self`` (the body itself) proves transport only. ``newest``: when the newest of it was stored.
    ``keys``: of whose calls something is known of the new side; ``callers``: of all others, as those seen at observe.
    ``judged``: matches that rest on what a comparator of texts said, somewhere (``part``) or of the ``whole`` answer;
    ``ignored``: those of answers that differ, where a rule ignores the whole of them.
    ``unanswered``: calls over the bus of which only their callers know, by outcome and reason, as processes told it.
    ``builds``: when each build of the handlers was last seen; ``build`` is the one that all this is of, since ``anew``
    where it was not the first. ``outdated``: calls of other builds, left out. ``tenants``: what failed of whose calls.
    """

    seam: str
    revision: int
    since: datetime
    newest: datetime | None = None
    verdicts: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    paths: dict[PathName, Traffic] = field(default_factory=lambda: {path: Traffic() for path in PATHS})
    minutes: dict[int, dict[PathName, Traffic]] = field(default_factory=dict[int, dict[PathName, Traffic]])
    keys: set[str] = field(default_factory=set[str])
    callers: set[str] = field(default_factory=set[str])
    handlers: set[str] = field(default_factory=set[str])
    coverage: dict[str, Covered] = field(default_factory=dict[str, Covered])
    samples: Samples = field(default_factory=lambda: Samples(**_SAMPLES), compare=False)
    judged: Counter[str] = field(default_factory=Counter[str])
    unanswered: Counter[str] = field(default_factory=Counter[str])
    build: str | None = None
    builds: dict[str, datetime] = field(default_factory=dict[str, datetime])
    anew: datetime | None = None
    turns: int = 0
    outdated: int = 0
    tenants: Tenants = field(default_factory=Tenants)

    # -- what is asked of it -----------------------------------------------------------------------------------

    @property
    def compared(self) -> int:
        """Calls of which a comparison said something: match, mismatch, or a difference that a rule ignores."""
        return sum(self.verdicts[kind] for kind in JUDGED)

    @property
    def begun(self) -> datetime:
        """Since when it is gathered: the move, or the first word of a build that came later."""
        return max(self.anew or self.since, self.since)

    @property
    def covered(self) -> Covered:
        """All kinds of calls together; see ``crossfade.migrations.coverage``."""
        return together(self.coverage)

    def until(self, path: PathName) -> datetime | None:
        """The minute in which a call last went this path, of the last hour that had any."""
        newest = max((minute for minute, paths in self.minutes.items() if path in paths), default=None)
        return None if newest is None else datetime.fromtimestamp(newest * 60, UTC)

    def recent(self, path: PathName, now: datetime, *, within: timedelta) -> Traffic:
        """The traffic of the last ``within``, to the minute; an hour is kept."""
        first, found = _minute(now - within), Traffic()
        for minute, paths in self.minutes.items():
            if minute >= first and path in paths:
                found.merge(paths[path])
        return found

    def mismatches(self) -> list[dict[str, Any]]:
        """Each kind of mismatch, the one met last first: its signature, how many, and its newest samples."""
        counts = self.samples.counts(self.seam)
        return [
            {"signature": signature, "count": count, "samples": self.samples.newest(self.seam, signature)}
            for signature, count in reversed(counts.items())
        ]

    # -- adding to it ------------------------------------------------------------------------------------------

    def add(self, stored: Stored) -> bool:
        """Count one event, whatever it is; ``False`` when it is of another time, of a replay, or says nothing here.

        Events of one seam: ``seam.compared``, observations, and results. Raises ``ValueError`` for a broken payload.
        """
        event = stored.event
        revision = event.get("policyrev")
        if revision != str(self.revision) if revision else stored.time < self.since:
            return False
        proofs = self._proofs
        if not self._count(event, stored.time):
            return False
        self.newest = max(stored.time, self.newest or stored.time)
        key = event.get("userid") or event.get("sessionid") or event.get("correlationid")
        keys = self.keys if self._proofs > proofs else self.callers
        if key and len(keys) < MOST_KEYS:
            keys.add(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest())
        return True

    def _is_of_this_build(self, event: Event, time: datetime) -> bool:
        """Whether what a handler said counts; begins anew where its build is a later one, or the only one left."""
        build, now = event.get("build") or "", self.build
        fresh = build not in self.builds
        alone = now is not None and time - self.builds[now] > ALONE * 2**self.turns
        if now is None:
            self.build = build
        elif build != now and (fresh or alone):
            self.turns += not fresh
            self._begin_anew(build, time)
        self.builds[build] = max(time, self.builds.get(build, time))
        if len(self.builds) > MOST_BUILDS:
            del self.builds[min(self.builds, key=lambda name: (name == self.build, self.builds[name]))]
        self.outdated += build != self.build
        return build == self.build

    def _begin_anew(self, build: str, time: datetime) -> None:
        """Forget what another build proved; legacy's traffic and whose calls were seen are of no build."""
        self.build, self.anew, self.outdated = build, time, 0
        self.verdicts, self.reasons, self.judged = Counter[str](), Counter[str](), Counter[str]()
        self.keys, self.handlers, self.tenants = set[str](), set[str](), Tenants()
        self.samples = Samples(**_SAMPLES)
        self.paths = {path: self.paths[path] if path == "legacy" else Traffic() for path in PATHS}
        self.minutes = {
            minute: {"legacy": paths["legacy"]} for minute, paths in self.minutes.items() if "legacy" in paths
        }

    @property
    def _proofs(self) -> int:
        """How many calls say something of the new side: whose keys count."""
        bus = self.paths["bus"]
        return self.compared + bus.calls - bus.not_executed

    def _count(self, event: Event, time: datetime) -> bool:
        payload = _payload(event)
        if event.type == "seam.compared":
            if not _is_live(payload):
                return False
            self._count_covered(payload)
            if not self._is_of_this_build(event, time):
                return False
            self._count_verdict(payload, time)
            self._sample(event, payload, time)
            if payload["verdict"] in JUDGED:
                self._count_tenant(event, failed=payload["verdict"] == "mismatch")
            return True
        if event.type.endswith(".observed"):
            return self._count_call("legacy", payload, time, seconds=_seconds(payload, "duration_ms"))
        timings = cast("dict[str, Any]", payload.get("timings") or {})
        seconds = _seconds(timings, "handler_ms")
        if seconds is not None:
            seconds += _seconds(timings, "queue_ms") or 0.0
        path: PathName = "legacy" if event.get("path") == "legacy" else "bus"
        # Who finds that a call's owner is gone says so for nobody's build.
        if path == "legacy" or (event.get("path") == "bus" and not self._is_of_this_build(event, time)):
            return False
        self._count_tenant(event, failed=_failed(payload))
        return self._count_call(path, payload, time, seconds=seconds)

    def _count_tenant(self, event: Event, *, failed: bool) -> None:
        if tenant := event.get("tenantid"):
            self.tenants.add(tenant, failed=failed)

    def _count_covered(self, payload: Mapping[str, Any]) -> None:
        """Whatever build it is of: coverage says how much of the traffic is compared at all."""
        covered = self.coverage.setdefault(payload.get("kind") or "unknown", Covered())
        if payload["verdict"] in JUDGED:
            covered.compared += 1
        else:
            covered.unjudged += 1

    def _count_verdict(self, payload: Mapping[str, Any], time: datetime) -> None:
        kind, reason = payload["verdict"], payload.get("reason", "")
        self.verdicts[kind] += 1
        if paths := payload.get("judged"):
            self.judged["whole" if "$" in paths.split(", ") else "part"] += 1
        elif kind == "ignored" and "$" in payload.get("rule", "").split(", "):
            self.judged["ignored"] += 1
        if kind in JUDGED:
            self.handlers.add(payload.get("handler", ""))
        else:
            self.reasons[f"{kind}:{reason}"] += 1
        seconds, judged = _seconds(payload, "bus_ms"), kind in JUDGED
        if judged or seconds is not None:
            ran = int(seconds is not None)
            one = Traffic(calls=ran, compared=int(judged), mismatches=int(kind == "mismatch"))
            self._spread("shadow", one, time, seconds)

    def _sample(self, event: Event, payload: Mapping[str, Any], time: datetime) -> None:
        """Keep what a mismatch looked like: its differences are redacted and short already."""
        if payload["verdict"] == "mismatch":
            sample = {
                "callid": event.get("callid") or "",
                "correlationid": event.get("correlationid") or "",
                "time": time.isoformat(),
                "handler": payload.get("handler", ""),
                "differences": payload.get("differences", [])[:_DIFFERENCES],
            }
            self.samples.add(self.seam, payload.get("signature", ""), sample)

    def _count_call(self, path: PathName, payload: Mapping[str, Any], time: datetime, *, seconds: float | None) -> bool:
        outcome = payload["outcome"]
        one = Traffic(1, int(_failed(payload)), int(outcome == "unknown"), int(outcome == "not-executed"))
        one.streamed = int("stream" in payload)
        if path == "bus" and payload.get("handler"):
            self.handlers.add(payload["handler"])
        self._spread(path, one, time, seconds)
        return True

    def _spread(self, path: PathName, one: Traffic, time: datetime, seconds: float | None) -> None:
        """Add one call to the totals and to its minute."""
        if seconds is not None:
            one.latency.add(seconds)
        self.paths[path].merge(one)
        minute = _minute(time)
        self.minutes.setdefault(minute, {}).setdefault(path, Traffic()).merge(one)
        if len(self.minutes) > MINUTES:
            del self.minutes[min(self.minutes)]

    def cover(self, counted: Iterable[tuple[str, int, int]]) -> None:
        """Set how many calls of each kind were eligible and observed, as processes report it: totals, not news."""
        for covered in self.coverage.values():
            covered.eligible = covered.observed = 0
        for kind, eligible, observed in counted:
            covered = self.coverage.setdefault(kind, Covered())
            covered.eligible += eligible
            covered.observed += observed

    def miss(self, told: Mapping[str, int], time: datetime) -> bool:
        """Count as failures of the bus what callers were not answered since they were last asked, as of ``time``.

        ``told``: totals, by ``outcome:reason``. A call whose answer comes after that counts twice: as the failure that
        it was to its caller, and as what it ended in. ``True`` when there was news.
        """
        news = {why: count - self.unanswered[why] for why, count in told.items() if count > self.unanswered[why]}
        for why, count in news.items():
            self.unanswered[why] += count
            unknown = why.startswith("unknown:")
            self._spread("bus", Traffic(count, count, count * unknown, count * (not unknown)), time, None)
        return bool(news)

    # -- keeping it --------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "seam": self.seam,
            "revision": self.revision,
            "since": self.since.isoformat(),
            "newest": self.newest.isoformat() if self.newest else None,
            "verdicts": dict(sorted(self.verdicts.items())),
            "reasons": dict(sorted(self.reasons.items())),
            "paths": {path: traffic.to_json() for path, traffic in self.paths.items()},
            "minutes": {
                str(minute): {path: traffic.to_json() for path, traffic in paths.items()}
                for minute, paths in sorted(self.minutes.items())
            },
            "keys": sorted(self.keys),
            "callers": sorted(self.callers),
            "handlers": sorted(self.handlers),
            "samples": self.samples.to_json(),
            "coverage": {
                kind: [covered.eligible, covered.observed, covered.compared, covered.unjudged]
                for kind, covered in sorted(self.coverage.items())
            },
            "judged": dict(sorted(self.judged.items())),
            "unanswered": dict(sorted(self.unanswered.items())),
            "build": self.build,
            "builds": {build: seen.isoformat() for build, seen in sorted(self.builds.items())},
            "anew": self.anew.isoformat() if self.anew else None,
            "turns": self.turns,
            "outdated": self.outdated,
            "tenants": self.tenants.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Evidence:
        """Read what ``to_json`` wrote. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        return cls(
            seam=stored["seam"],
            revision=stored["revision"],
            since=datetime.fromisoformat(stored["since"]),
            newest=datetime.fromisoformat(stored["newest"]) if stored["newest"] else None,
            verdicts=Counter(stored["verdicts"]),
            reasons=Counter(stored["reasons"]),
            paths=_paths(stored["paths"]),
            minutes={int(minute): _paths(paths) for minute, paths in stored["minutes"].items()},
            keys=set(stored["keys"]),
            callers=set(stored.get("callers", ())),
            handlers=set(stored["handlers"]),
            samples=Samples.from_json(stored.get("samples", {}), **_SAMPLES),
            coverage={kind: Covered(**_covered(counts)) for kind, counts in stored["coverage"].items()},
            judged=Counter(stored.get("judged", {})),
            unanswered=Counter(stored.get("unanswered", {})),
            build=stored.get("build"),
            builds={build: datetime.fromisoformat(seen) for build, seen in stored.get("builds", {}).items()},
            anew=datetime.fromisoformat(stored["anew"]) if stored.get("anew") else None,
            turns=stored.get("turns", 0),
            outdated=stored.get("outdated", 0),
            tenants=Tenants.from_json(stored.get("tenants", {})),
        )

    def digest(self) -> str:
        """A short text that is equal for equal evidence: a decision names what it rested on. 16 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True).encode()
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def _paths(stored: Mapping[str, Any]) -> dict[PathName, Traffic]:
    return {cast("PathName", path): Traffic.from_json(traffic) for path, traffic in stored.items()}


def _covered(counts: list[int]) -> dict[str, int]:
    return dict(zip(("eligible", "observed", "compared", "unjudged"), counts, strict=True))


def _is_live(payload: Mapping[str, Any]) -> bool:
    """Whether a comparison is of what happened just now: no replay, no side against itself."""
    return payload.get("source") == "shadow" and not payload.get("replay")


def _minute(time: datetime) -> int:
    return int(time.timestamp()) // 60


def _payload(event: Event) -> dict[str, Any]:
    found = json.loads(event.data or b"{}")
    if not isinstance(found, dict):
        raise ValueError(f"{event.type} {event.id}: its payload is no object")  # noqa: TRY004 - a broken payload
    return cast("dict[str, Any]", found)


def _seconds(payload: Mapping[str, Any], name: str) -> float | None:
    milliseconds = payload.get(name)
    return None if milliseconds is None else float(milliseconds) / 1000


def _failed(payload: Mapping[str, Any]) -> bool:
    outcome = payload["outcome"]
    if outcome == "error":
        return not is_given_up(payload.get("error"))
    if outcome == "value":
        return _status(payload) >= _SERVER_ERROR
    return payload.get("reason") not in _NO_FAILURES


def _status(payload: Mapping[str, Any]) -> int:
    """The status of an HTTP answer; 0 for any other value."""
    value = payload.get("value")
    status = cast("dict[str, Any]", value).get("status", 0) if isinstance(value, dict) else 0
    return status if isinstance(status, int) else 0
