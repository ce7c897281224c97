"""The calls of one run as the bus has them: what it asked for, who answered, and when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.hooks import report
from crossfade.shim.subjects import seam_from_token

if TYPE_CHECKING:
    from datetime import datetime

    from crossfade.shim.ports import Bus, Stored
    from crossfade.shim.subjects import Subjects

MOST: Final = 500
"""Calls that are shown; a run of more is one for the command line."""


@dataclass(kw_only=True, slots=True)
class RunCall:
    """One call. Times are the broker's; ``outcome`` is empty while nobody has answered."""

    callid: str
    seam: str
    began: datetime
    ended: datetime | None = None
    outcome: str = ""
    path: str = "bus"
    handler: str = ""
    queue: float | None = None
    ran: float | None = None

    @property
    def lasted(self) -> float | None:
        """Seconds from asking to the answer."""
        return None if self.ended is None else (self.ended - self.began) / timedelta(seconds=1)


async def calls_of(bus: Bus, subjects: Subjects, run: str) -> list[RunCall]:
    """The calls that a run made over the bus, in the order they were asked for. Raises ``BusError``."""
    found: dict[str, RunCall] = {}
    async for stored in bus.read(subjects.run(run)):
        parts = subjects.parse_call(stored.subject)
        if parts.callid not in found and len(found) == MOST:
            break
        call = found.setdefault(
            parts.callid, RunCall(callid=parts.callid, seam=seam_from_token(parts.seam), began=stored.time)
        )
        if parts.kind == "result":
            _end(call, stored)
    return sorted(found.values(), key=lambda call: call.began)


def _end(call: RunCall, stored: Stored) -> None:
    try:
        payload = cast("dict[str, Any]", json.loads(stored.event.data or b"{}"))
        timings = cast("dict[str, Any]", payload.get("timings") or {})
        call.outcome = str(payload.get("outcome", ""))
        call.handler = str(payload.get("handler", ""))
        call.queue = _seconds(timings.get("queue_ms"))
        call.ran = _seconds(timings.get("handler_ms"))
    except (ValueError, TypeError, AttributeError) as error:
        report.count("skipped", seam=call.seam, reason=f"run-{type(error).__name__}")
        call.outcome = "unreadable"
    call.ended = stored.time
    call.path = stored.event.get("path") or "bus"


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else None
