"""Asking for a rollback: what a process does whose bus path for a seam fails, beside answering its callers otherwise.

Who decides may be away, and the bus is what fails: so the request is an event of the seam's news, kept with them, and
is sent when the bus is back.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from .errors import BusError
from .events import Event
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .ports import Publisher
    from .subjects import Subjects

_AGAIN: Final = 2.0  # seconds between attempts

Failing = Literal["calls", "ledger"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RollbackRequest:
    """Why: ``failing`` is what the bus does not do, ``reason`` its last failure, ``counts`` all since it last did."""

    seam: str
    revision: int
    failing: Failing
    reason: str
    counts: Mapping[str, int]


class RollbackRequests:
    """Publishes the requests of one process as ``seam.rollback.requested``."""

    def __init__(self, bus: Publisher, subjects: Subjects, *, instance: str) -> None:
        self._bus = bus
        self._subjects = subjects
        self._instance = instance
        self._waiting: set[str] = set()

    async def ask(self, request: RollbackRequest) -> None:
        """Publish it, again and again while the bus is down; one of a seam waits at a time, more are counted."""
        if request.seam in self._waiting:
            report.count("dropped", seam=request.seam, reason="rollback-request")
            return
        event = self._event(request)
        self._waiting.add(request.seam)
        try:
            while not await self._published(event, request.seam):  # noqa: ASYNC110 - until the broker has it
                await asyncio.sleep(_AGAIN)
        except asyncio.CancelledError:
            report.count("dropped", seam=request.seam, reason="rollback-request")
            raise
        finally:
            self._waiting.discard(request.seam)

    async def _published(self, event: Event, seam: str) -> bool:
        try:
            await self._bus.publish(self._subjects.fact(event.type), event)  # the same event: a copy is a duplicate
        except BusError as error:
            report.count("rollback-request-failed", seam=seam, reason=type(error).__name__)
            return False
        report.count("rollback-requested", seam=seam)
        return True

    def _event(self, request: RollbackRequest) -> Event:
        payload = {**asdict(request), "instance": self._instance}
        return Event(
            type="seam.rollback.requested",
            source=f"urn:crossfade:{self._instance}",
            subject=request.seam,
            extensions={"seam": request.seam, "policyrev": str(request.revision)},
            data=json.dumps(payload).encode(),
        )
