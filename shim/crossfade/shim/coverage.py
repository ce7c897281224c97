"""Coverage: every eligible call counted by its kind, sampled or not, so that what was lost can be seen.

A call is counted where its observation is made or lost, on the background loop: its caller pays nothing. The counts
of a process are of the revision in force, grow as long as that lasts, and lie in the bucket ``coverage`` under the
process's name. A day after its end they are added to those of all that ended; of these the newest revision is kept.

With them lie the calls that went over the bus and were ``unanswered``: no result tells of those that no worker took.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from .errors import BusRefusedError, WrongRevisionError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .ports import Bus, Entry

BUCKET: Final = "coverage"
REPORT_EVERY: Final = 15.0  # seconds
REPORT_FIRST: Final = 1.0
"""Seconds after a policy's change: counts begin anew then, and a gate may wait for them. Each next wait is twice it."""

ENDED: Final = "_ended"
"""The name under which lies what processes counted that ended long ago: their comparisons count still."""

_FORGET: Final = timedelta(days=1)
_AGAIN: Final = timedelta(hours=6)  # without news it says the same again, or it would be taken for one that ended
_NAMES: Final = 200  # of those added last, which somebody may not have deleted yet
_SIZES: Final = (1024, 16 * 1024, 256 * 1024)  # bytes of arguments
_SIZE_NAMES: Final = ("<1K", "<16K", "<256K", "more")
_TIMES: Final = (0.01, 0.1, 1.0, 10.0)  # seconds
_TIME_NAMES: Final = ("<10ms", "<100ms", "<1s", "<10s", "more")


def kind_of_call(size: int | None, seconds: float, *, error: bool) -> str:
    """Which bucket a call belongs to: size of its arguments, time, outcome, like ``<1K <10ms value``.

    ``size`` is bytes of JSON; ``None`` (not serialised, because sampled out or impossible) is a size of its own.
    """
    sized = "unknown" if size is None else _SIZE_NAMES[bisect_right(_SIZES, size)]
    return f"{sized} {_TIME_NAMES[bisect_right(_TIMES, seconds)]} {'error' if error else 'value'}"


class Tally:
    """What this process has counted: per seam and kind of call, how many were eligible and how many fully observed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revisions: dict[str, int] = {}
        self._counts: dict[str, dict[str, list[int]]] = {}
        self._unanswered: dict[str, dict[str, int]] = {}

    def begin(self, seam: str, revision: int) -> None:
        """Count anew: the seam's policy changed. A call that ends now and began before is counted here."""
        with self._lock:
            if self._revisions.get(seam, 0) != revision:
                self._revisions[seam] = revision
                self._counts.pop(seam, None)
                self._unanswered.pop(seam, None)

    def add(self, seam: str, kind: str, *, observed: bool, n: int = 1) -> None:
        """``n`` eligible calls; ``observed``: all of them, arguments and outcome, was handed to the bus."""
        with self._lock:
            found = self._counts.setdefault(seam, {}).setdefault(kind, [0, 0])
            found[0] += n
            found[1] += n * observed

    def miss(self, seam: str, why: str, *, revision: int) -> None:
        """The bus left a call of ``revision`` without an answer; ``why``: its outcome and reason."""
        with self._lock:
            if self._revisions.get(seam, 0) == revision:
                found = self._unanswered.setdefault(seam, {})
                found[why] = found.get(why, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """By seam: ``revision``, ``calls``: kind -> ``[eligible, observed]``, and ``unanswered``: why -> how many."""
        with self._lock:
            return {
                seam: {
                    "revision": self._revisions.get(seam, 0),
                    "calls": {kind: list(found) for kind, found in self._counts.get(seam, {}).items()},
                    "unanswered": dict(self._unanswered.get(seam, {})),
                }
                for seam in {**self._counts, **self._unanswered}
            }


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What one process counted of one seam under one revision; ``calls``: kind -> ``(eligible, observed)``.

    ``unanswered``: calls that went over the bus and of which only their caller knows, by ``outcome:reason``.
    """

    instance: str
    seam: str
    revision: int
    calls: Mapping[str, tuple[int, int]]
    unanswered: Mapping[str, int] = field(default_factory=dict[str, int])


class Coverages:
    """Reads and writes the counts of processes over a connected bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)
        self._told: dict[str, Any] = {}
        self._at: datetime | None = None

    async def report(self, instance: str, tally: Tally) -> None:
        """Tell the bus what ``instance`` counted, now and then also where nothing changed. Raises ``BusError``."""
        seams, now = tally.to_json(), self._bus.now()
        if seams != self._told or (self._at is not None and now - self._at > _AGAIN):
            await self._state.put(instance, json.dumps({"seen": now.isoformat(), "seams": seams}).encode())
            self._told, self._at = seams, now

    async def counted(self, seam: str) -> list[Counted]:
        """What every process counted of ``seam``; of those that ended more than a day ago the sum, as ``ENDED``."""
        entries = {entry.key: entry for entry in await self._state.entries()}
        gone = [entry for name, entry in entries.items() if name != ENDED and self._is_over(entry)]
        if gone:
            await self._put_together(entries.get(ENDED), gone)
            entries = {entry.key: entry for entry in await self._state.entries()}
        summed = _names(entries.get(ENDED))
        read = {name: json.loads(entry.value)["seams"] for name, entry in entries.items() if name not in summed}
        return [_read(name, seam, seams[seam]) for name, seams in read.items() if seam in seams]

    def _is_over(self, entry: Entry) -> bool:
        return self._bus.now() - datetime.fromisoformat(json.loads(entry.value)["seen"]) > _FORGET

    async def _put_together(self, ended: Entry | None, gone: Sequence[Entry]) -> None:
        """Add what ``gone`` counted to the sum, then delete it: who dies in between has said whose it holds."""
        seams: dict[str, Any] = json.loads(ended.value)["seams"] if ended else {}
        known = _names(ended)
        fresh = [entry for entry in gone if entry.key not in known]
        for entry in fresh:
            for seam, stored in json.loads(entry.value)["seams"].items():
                seams[seam] = _together(seams.get(seam), stored)
        names = [*known, *(entry.key for entry in fresh)][-max(_NAMES, len(gone)) :]
        value = json.dumps({"seams": seams, "names": names}).encode()
        try:
            if ended is None:
                await self._state.create(ENDED, value)
            else:
                await self._state.update(ENDED, value, revision=ended.revision)
        except WrongRevisionError:
            return  # another is at it
        except BusRefusedError:
            report.count("skipped", reason="may-not-clear")  # who only looks leaves it to who may
            return
        for entry in gone:
            await self._state.delete(entry.key)


def _names(ended: Entry | None) -> list[str]:
    """Whose counts the sum holds, of those that may still be there."""
    return json.loads(ended.value)["names"] if ended else []


def _together(known: Mapping[str, Any] | None, stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The counts of one seam added up, of the newer revision alone."""
    if known is None or known["revision"] < stored["revision"]:
        return stored
    if known["revision"] > stored["revision"]:
        return known
    calls: dict[str, list[int]] = {kind: list(counts) for kind, counts in known["calls"].items()}
    for kind, (eligible, observed) in stored["calls"].items():
        before = calls.get(kind, [0, 0])
        calls[kind] = [before[0] + eligible, before[1] + observed]
    unanswered = Counter[str](known.get("unanswered", {})) + Counter[str](stored.get("unanswered", {}))
    return {"revision": known["revision"], "calls": calls, "unanswered": dict(unanswered)}


def _read(instance: str, seam: str, stored: Mapping[str, Any]) -> Counted:
    calls = {kind: (int(counts[0]), int(counts[1])) for kind, counts in stored["calls"].items()}
    return Counted(
        instance=instance,
        seam=seam,
        revision=int(stored["revision"]),
        calls=calls,
        unanswered=stored.get("unanswered", {}),  # a process of an older release tells none
    )
