"""What a user's page may know of a call: that it started, how far it is, how it ended.

These events lie under ``{p}ui.{tenant}.{user}.{run}.{type}``, where a browser's stream reads. None of them holds an
argument, a prompt or a result: progress is what the handler itself says, redacted; an end is its outcome and a token.
Sent fail-open: a call never fails, or waits, because nobody could be told of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from .correlate import extensions, from_event
from .domains import progress_type
from .errors import BusError, CallCancelledError
from .events import Event, derived_id, new_id
from .hooks import report
from .outcomes import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._runtime import Runtime
    from .calls import Progress
    from .correlate import Correlation

Ending = Literal["value", "error", "cancelled", "not-executed", "unknown"]
"""How a call ended, for people: ``cancelled`` is one that was given up, whether it had started or not."""

STARTED: Final = "call.started"
ENDED: Final = "call.ended"

_CANCELLED: Final = type_name(CallCancelledError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """One call's events for the UI. Its methods may be called from any thread; they return at once."""

    runtime: Runtime
    seam: str
    domain: str
    callid: str
    correlation: Correlation

    def started(self, attempt: int = 1) -> None:
        """It runs."""
        self._tell(self._event(STARTED, {"attempt": attempt}, derived_id(self.callid, STARTED, str(attempt))))

    def said(self, progress: Progress) -> None:
        """A step of it."""
        payload = {"fraction": progress.fraction, "message": progress.message, "data": progress.data}
        self._tell(self._event(progress_type(self.domain), self.runtime.redactor.value(payload)))

    def ended(self, outcome: Ending, reason: str = "") -> None:
        """It is over, and its result can be had."""
        event = self._event(ENDED, {"outcome": outcome, "reason": reason}, derived_id(self.callid, ENDED, outcome))
        self._on_loop(lambda: self._emit_or_publish(event))

    def _event(self, kind: str, payload: Mapping[str, Any], identity: str | None = None) -> Event:
        return Event(
            type=kind,
            id=identity or new_id(),
            source=f"urn:crossfade:{self.runtime.instance}",
            subject=self.seam,
            extensions={**extensions(self.correlation), "callid": self.callid, "seam": self.seam},
            data=json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )

    def _tell(self, event: Event) -> None:
        self._on_loop(lambda: self._emit(event))

    def _on_loop(self, act: Callable[[], object]) -> None:
        try:
            self.runtime.thread.loop.call_soon_threadsafe(act)
        except RuntimeError:  # the connection was closed meanwhile
            report.count("dropped", seam=self.seam, reason="closed")

    def _emit(self, event: Event) -> None:
        try:
            self.runtime.bus.emit(self._subject(event), event)
        except BusError as error:
            report.count("dropped", seam=self.seam, reason=type(error).__name__)

    def _emit_or_publish(self, event: Event) -> None:
        """At once, so that a process that ends now has said it; patiently where that fails: a page waits for it."""
        try:
            self.runtime.bus.emit(self._subject(event), event)
        except BusError:
            self.runtime.spawn(self._publish(event))

    async def _publish(self, event: Event) -> None:
        try:
            await self.runtime.bus.publish(self._subject(event), event)
        except BusError as error:
            report.count("dropped", seam=self.seam, reason=type(error).__name__)

    def _subject(self, event: Event) -> str:
        correlation = self.correlation
        return self.runtime.subjects.ui(
            event.type, run=correlation.run, tenant=correlation.tenant, user=correlation.user
        )


def projection_of(runtime: Runtime, command: Event, *, seam: str, domain: str) -> Projection | None:
    """What to tell the UI of this command's call through, when somebody follows it."""
    if not command.get("task"):
        return None
    return Projection(
        runtime=runtime,
        seam=seam,
        domain=domain,
        callid=command.get("callid") or "",
        correlation=from_event(command),
    )


def tell_unknown(runtime: Runtime, command: Event, *, seam: str, domain: str) -> None:
    """Say to who follows this command's call that nobody knows how it ended: its owner is not there to say anything."""
    if (projection := projection_of(runtime, command, seam=seam, domain=domain)) is not None:
        projection.ended("unknown")


def ending(payload: bytes) -> tuple[Ending, str]:
    """Outcome and reason of a result's payload, for ``Projection.ended``; neither value nor message."""
    try:
        fields: Any = json.loads(payload)
        outcome, reason = fields["outcome"], str(fields.get("reason", ""))
        if outcome == "error":
            reason = str(fields["error"]["type"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "unknown", "unreadable"
    if (outcome, reason) in (("error", _CANCELLED), ("not-executed", "cancelled")):
        return "cancelled", ""
    return (outcome, reason) if outcome in ("value", "error", "not-executed") else ("unknown", "")
