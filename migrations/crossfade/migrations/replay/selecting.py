"""Which recorded calls to replay, and getting them, and those that were made inside them, off the bus."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.claimcheck import load_data
from crossfade.shim.comparison import Outcome
from crossfade.shim.errors import ConfigurationError, CrossfadeError, MalformedEventError
from crossfade.shim.events import TYPES
from crossfade.shim.hooks import report
from crossfade.shim.judging import NO_ITEMS, read_observation
from crossfade.shim.outcomes import read_answer

from .recording import NO_OUTCOME, UNFINISHED, RecordedCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Bus, Stored
    from crossfade.shim.redaction import Redactor
    from crossfade.shim.seam import SeamDomain
    from crossfade.shim.subjects import Subjects

    from .recording import Recording

_COMMANDS_KEPT: Final = timedelta(hours=24)
"""How long the broker keeps calls by their id; before that there is the log, where the broker keeps one."""

_SLACK: Final = timedelta(seconds=60)
"""How far the clock of a process may be off the broker's, by which events are found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which calls: of these seams, made from ``since`` on and before ``until``, of one run, or the one call."""

    seams: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    run: str | None = None
    callid: str | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """What SQL is to ask of a call, and the values in it."""
        asked: list[tuple[str, Any]] = [
            ("begun >= ?", self.since and self.since.timestamp()),
            ("begun < ?", self.until and self.until.timestamp()),
            ("run = ?", self.run),
            ("callid = ?", self.callid),
        ]
        wanted = [(text, value) for text, value in asked if value is not None]
        marks = ", ".join("?" * len(self.seams))
        words = [f"seam IN ({marks})", *(text for text, _ in wanted)]
        return " AND ".join(words), [*self.seams, *(value for _, value in wanted)]


class Gathering:
    """Reads what the bus holds of some seams into a recording. Nothing is published, nothing acknowledged."""

    def __init__(self, bus: Bus, subjects: Subjects, redactor: Redactor) -> None:
        self._bus = bus
        self._subjects = subjects
        self._redactor = redactor

    async def gather(self, seams: Mapping[str, SeamDomain], selection: Selection, into: Recording) -> None:
        """Add every call of ``seams``, name -> domain, that may matter to ``selection``.

        What cannot be read is counted (``skipped``, reason ``recorded-...``) and passed over. Raises ``BusError``.
        """
        for seam, domain in seams.items():
            async for stored in self._stored(seam, domain, selection):
                try:
                    await self._add(stored.event, into)
                except (CrossfadeError, ValueError, KeyError, TypeError, AttributeError) as error:
                    report.count("skipped", seam=seam, reason=f"recorded-{type(error).__name__}")
        into.index()

    async def _stored(self, seam: str, domain: SeamDomain, selection: Selection) -> AsyncGenerator[Stored]:
        """Observations, and commands before results, from the log where the calls themselves are gone."""
        since = selection.since and selection.since - _SLACK
        calls = [self._subjects.commands(domain, seam), self._subjects.results(domain, seam)]
        if since is None or self._bus.now() - since > _COMMANDS_KEPT:
            calls = [
                self._subjects.logged(domain, seam, "invoke"),
                self._subjects.logged(domain, seam, "result"),
                *calls,
            ]
        for filter_ in (self._subjects.observations(seam), *calls):
            try:
                async for stored in self._bus.read(filter_, since=since):
                    yield stored
            except ConfigurationError:  # a broker without a log
                report.count("skipped", seam=seam, reason="no-log")

    async def _add(self, event: Event, into: Recording) -> None:
        kind = TYPES.get(event.type)
        if event.get("dataref"):
            event = replace(event, data=await load_data(self._bus, event))
        if kind == "observation":
            into.add(_observed(event))
        elif kind == "command":
            into.add(_commanded(event))
        elif kind == "answer":
            self._end(event, into)

    def _end(self, event: Event, into: Recording) -> None:
        """A result holds what a caller was given; what is compared is redacted, as today's outcome will be."""
        callid, fingerprint = event.get("callid") or "", self._redactor.fingerprint
        answer = read_answer(event.data)
        payload: dict[str, Any] = json.loads(event.data or b"{}")
        if answer.kind in ("unknown", "not-executed"):
            into.end(callid, None, redaction=fingerprint, unfit=answer.kind)
            return
        if event.type.endswith(".cancelled") or "items" in payload:
            into.end(callid, None, redaction=fingerprint, unfit=NO_ITEMS if "items" in payload else "cancelled")
            return
        timings: dict[str, float] = payload.get("timings") or {}
        seconds = (timings.get("handler_ms", 0.0) + timings.get("queue_ms", 0.0)) / 1000
        if answer.error is not None:
            outcome = Outcome(kind="error", error=answer.error, duration=seconds)
        else:
            value = self._redactor.value({"value": payload["value"]})["value"]
            outcome = Outcome(kind="value", value=value, duration=seconds)
        into.end(callid, outcome, redaction=fingerprint)


def _observed(event: Event) -> RecordedCall:
    payload: dict[str, Any] = json.loads(event.data or b"{}")
    outcome, redaction, unfit = None, "", ""
    arguments = payload.get("arguments")
    if arguments is None:
        unfit = "sampled-out"
    else:
        try:
            recorded = read_observation(event)
            outcome, redaction = recorded.outcome, recorded.redaction
            if outcome.kind == "unknown":  # a stream whose items were not kept
                unfit, outcome = outcome.reason, None
        except MalformedEventError:
            unfit = NO_OUTCOME
    seconds = float(payload.get("duration_ms", 0.0)) / 1000
    began = datetime.fromisoformat(payload["started"]).timestamp() if "started" in payload else event.time.timestamp()
    return _recorded(
        event,
        begun=began,
        seconds=seconds,
        arguments=arguments or {},
        outcome=outcome,
        redaction=redaction,
        unfit=unfit,
        kind=str(payload.get("kind", "")),
    )


def _commanded(event: Event) -> RecordedCall:
    payload: dict[str, Any] = json.loads(event.data or b"{}")
    sealed = payload.get("sealed")
    return _recorded(
        event,
        begun=event.time.timestamp(),
        seconds=0.0,
        arguments=payload["arguments"],
        outcome=None,
        redaction="",
        unfit="redacted" if sealed else UNFINISHED,
        kind="",
    )


def _recorded(event: Event, *, arguments: Any, **known: Any) -> RecordedCall:
    data = json.dumps(cast("dict[str, Any]", arguments), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return RecordedCall(
        callid=event.get("callid") or event.id,
        seam=event.get("seam") or event.subject or "",
        run=event.get("correlationid") or "",
        cause=event.get("causationid") or "",
        arguments=data,
        attributes=dict(event.extensions),
        **known,
    )
