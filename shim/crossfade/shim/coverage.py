"""Coverage: every eligible call counted by its kind, sampled or not, so that what was lost can be seen.

A call is counted where its observation is made or lost, on the background loop: its caller pays nothing. The counts
of a process are of the revision in force, grow as long as that lasts, and lie in the bucket ``coverage`` under the
process's name; they stay there for a day after its end.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .ports import Bus, Entry

BUCKET: Final = "coverage"
REPORT_EVERY: Final = 15.0  # seconds
REPORT_FIRST: Final = 1.0
"""Seconds after a policy's change: counts begin anew then, and a gate may wait for them. Each next wait is twice it."""

_FORGET: Final = timedelta(days=1)
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

    def begin(self, seam: str, revision: int) -> None:
        """Count anew: the seam's policy changed. A call that ends now and began before is counted here."""
        with self._lock:
            if self._revisions.get(seam, 0) != revision:
                self._revisions[seam] = revision
                self._counts.pop(seam, None)

    def add(self, seam: str, kind: str, *, observed: bool, n: int = 1) -> None:
        """``n`` eligible calls; ``observed``: all of them, arguments and outcome, was handed to the bus."""
        with self._lock:
            found = self._counts.setdefault(seam, {}).setdefault(kind, [0, 0])
            found[0] += n
            found[1] += n * observed

    def to_json(self) -> dict[str, Any]:
        """By seam: ``revision``, and ``calls``: kind -> ``[eligible, observed]``."""
        with self._lock:
            return {
                seam: {
                    "revision": self._revisions.get(seam, 0),
                    "calls": {kind: list(found) for kind, found in counts.items()},
                }
                for seam, counts in self._counts.items()
            }


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What one process counted of one seam under one revision; ``calls``: kind -> ``(eligible, observed)``."""

    instance: str
    seam: str
    revision: int
    calls: Mapping[str, tuple[int, int]]


class Coverages:
    """Reads and writes the counts of processes over a connected bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)
        self._told: dict[str, Any] = {}

    async def report(self, instance: str, tally: Tally) -> None:
        """Tell the bus what ``instance`` counted, unless nothing changed. Raises ``BusError``."""
        seams = tally.to_json()
        if seams != self._told:
            value = {"seen": self._bus.now().isoformat(), "seams": seams}
            await self._state.put(instance, json.dumps(value).encode())
            self._told = seams

    async def counted(self, seam: str) -> list[Counted]:
        """What every process counted of ``seam``; those that ended more than a day ago are cleared away."""
        found: list[Counted] = []
        for entry in await self._state.entries():
            stored = json.loads(entry.value)
            if self._bus.now() - datetime.fromisoformat(stored["seen"]) > _FORGET:
                await self._state.delete(entry.key)
            elif seam in stored["seams"]:
                found.append(_read(entry, seam, stored["seams"][seam]))
        return found


def _read(entry: Entry, seam: str, stored: Mapping[str, Any]) -> Counted:
    calls = {kind: (int(counts[0]), int(counts[1])) for kind, counts in stored["calls"].items()}
    return Counted(instance=entry.key, seam=seam, revision=int(stored["revision"]), calls=calls)
