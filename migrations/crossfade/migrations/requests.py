"""Requests for a rollback, as proxies publish them when the bus fails a route: the newest of each seam."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossfade.shim.hooks import report

from .gates import Finding

if TYPE_CHECKING:
    from datetime import datetime

    from crossfade.shim.ports import Bus, Position, Stored
    from crossfade.shim.subjects import Subjects


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """What one process asked: under ``revision`` of the policy the bus failed its ``failing``, last for ``reason``."""

    seam: str
    revision: int
    instance: str
    failing: str
    reason: str
    time: datetime

    @property
    def finding(self) -> Finding:
        """What a ruling says of it."""
        text = f"{self.instance} asks for a rollback: the bus fails its {self.failing} ({self.reason})"
        return Finding(metric="breaker", state="violated", wanted="closed", text=text)


class Requests:
    """Reads them, each once."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._filter = subjects.fact("seam.rollback.requested")
        self._position: Position | None = None
        self._newest: dict[str, Requested] = {}

    async def newest(self) -> dict[str, Requested]:
        """The newest of each seam. Raises ``BusError``. What cannot be read is counted (``skipped``)."""
        last = await self._bus.last(self._filter)
        if last is not None and last.position != self._position:
            async for stored in self._bus.read(self._filter, after=self._position):
                self._position = stored.position
                try:
                    found = _read(stored)
                except (ValueError, KeyError, TypeError) as error:
                    report.count("skipped", reason=f"request-{type(error).__name__}")
                else:
                    self._newest[found.seam] = found
        return self._newest


def _read(stored: Stored) -> Requested:
    payload: dict[str, Any] = json.loads(stored.event.data or b"{}")
    return Requested(
        seam=payload["seam"],
        revision=int(payload["revision"]),
        instance=str(payload["instance"]),
        failing=str(payload["failing"]),
        reason=str(payload["reason"]),
        time=stored.time,
    )
