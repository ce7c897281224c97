"""What happened to a seam: its latest mismatches by kind, and its latest moves; each look reads on from the last."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.claimcheck import load_data
from crossfade.shim.comparison.samples import Samples
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crossfade.shim.ports import Bus, Position, Stored
    from crossfade.shim.subjects import Subjects

REACH: Final = timedelta(hours=1)
"""How far back the first look for mismatches goes: a busy seam leaves more verdicts than anybody waits for."""

_MOVES: Final = 50
_TEXTS: Final = ("callid", "rule", "detail", "handler", "kind", "signature")
_CHANGED: Final = "seam.stage.changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Mismatches that differ in the same places: how many, and the newest of them, newest first."""

    signature: str
    count: int
    samples: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """One change of a seam's policy."""

    was: str
    now: str
    actor: str
    reason: str
    revision: int
    at: datetime


@dataclass(slots=True)
class _Followed:
    """How far the verdicts of one seam have been read, and by whom right now."""

    position: Position | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class History:
    """Reads verdicts and moves. ``redact`` sees every value before it is kept."""

    def __init__(self, bus: Bus, subjects: Subjects, redact: Callable[[Any], Any]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._redact = redact
        self._samples = Samples()
        self._seams: dict[str, _Followed] = defaultdict(_Followed)
        self._moves: dict[str, deque[Moved]] = defaultdict(lambda: deque(maxlen=_MOVES))
        self._moves_read = _Followed()

    async def mismatches(self, seam: str) -> list[Kind]:
        """By kind, the one met last first, of the last hour and since. Raises ``BusError``."""
        followed = self._seams[seam]
        async with followed.reading:
            async for stored in self._news(self._subjects.verdicts(seam), followed, reach=REACH):
                await self._take_verdict(seam, stored)
        counts = self._samples.counts(seam)
        return [
            Kind(signature=signature, count=count, samples=[dict(one) for one in self._newest(seam, signature)])
            for signature, count in reversed(counts.items())
        ]

    async def moves(self, seam: str) -> list[Moved]:
        """The latest, newest first. Raises ``BusError``."""
        async with self._moves_read.reading:
            async for stored in self._news(self._subjects.fact(_CHANGED), self._moves_read):
                self._take_move(stored)
        return list(reversed(self._moves[seam]))

    def _newest(self, seam: str, signature: str) -> list[Any]:
        return list(reversed(self._samples.newest(seam, signature)))

    async def _news(self, family: str, followed: _Followed, *, reach: timedelta | None = None) -> AsyncIterator[Stored]:
        newest = await self._bus.last(family)
        if newest is None or newest.position == followed.position:
            return
        since = self._bus.now() - reach if reach and followed.position is None else None
        async for stored in self._bus.read(family, after=followed.position, since=since):
            yield stored
            followed.position = stored.position

    async def _take_verdict(self, seam: str, stored: Stored) -> None:
        try:
            payload = await self._payload(stored)
            if payload.get("verdict") != "mismatch" or payload.get("replay"):
                return
            self._samples.add(seam, str(payload.get("signature", "")), self._sample(payload, stored))
        except (CrossfadeError, ValueError, KeyError, TypeError, AttributeError) as error:
            report.count("skipped", seam=seam, reason=f"mismatch-{type(error).__name__}")

    def _sample(self, payload: dict[str, Any], stored: Stored) -> dict[str, Any]:
        texts = {name: str(payload.get(name) or "") for name in _TEXTS}
        found: dict[str, Any] = self._redact(texts)
        return found | {
            "differences": [
                # Their texts were made from redacted values; the path says nothing that a key's name would not.
                {name: str(each.get(name, "")) for name in ("path", "kind", "legacy", "bus")}
                for each in cast("list[dict[str, Any]]", payload.get("differences") or [])
            ],
            "more": int(payload.get("more") or 0),
            "legacy": _seconds(payload.get("legacy_ms")),
            "bus": _seconds(payload.get("bus_ms")),
            "run": stored.event.get("correlationid") or "",
            "at": stored.time.isoformat(),
        }

    def _take_move(self, stored: Stored) -> None:
        try:
            payload = json.loads(stored.event.data or b"{}")
            moved = Moved(
                was=str(payload["from"]),
                now=str(payload["to"]),
                actor=str(payload.get("actor", "")),
                reason=str(payload.get("reason", "")),
                revision=int(payload["revision"]),
                at=stored.time,
            )
            self._moves[str(payload["seam"])].append(moved)
        except (ValueError, KeyError, TypeError) as error:
            report.count("skipped", reason=f"move-{type(error).__name__}")

    async def _payload(self, stored: Stored) -> dict[str, Any]:
        event = stored.event
        data = await load_data(self._bus, event) if event.get("dataref") else event.data
        return cast("dict[str, Any]", json.loads(data or b"{}"))


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000
