"""The one way in: what happened outside becomes a fact on the bus, durable before its sender is told so.

Rules
- A fact's id follows from what its sender calls it (``Arrival.parts``), so a retry is the same event.
- The bus drops an event of the same id for some minutes (NATS: 10). Senders retry for days: with ``remember`` the id
  is kept in the state bucket ``triggers`` for as long, written after the fact, so that a crash between the two leaves a
  retry that the bus itself knows.
- Only what is durable is accepted: an error of the bus reaches the adapter, which refuses in its protocol's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from crossfade.shim.claimcheck import CLAIM_CHECK, format_dataref
from crossfade.shim.errors import BusAmbiguousError, WrongRevisionError
from crossfade.shim.events import Event, derived_id
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

BUCKET: Final = "triggers"
"""The state bucket of what triggers have seen, and how far they got."""

_TRIES: Final = 3  # of a publish whose acknowledgement was lost: the same event, so a copy that landed is a duplicate


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """Something that happened outside.

    ``type`` is the fact's (``email.received``); ``parts`` are what its sender knows it by, the same at every retry;
    ``data`` is JSON; ``subject`` is what it is about, in the sender's words. ``tenant`` and ``user`` are whose it is.
    """

    type: str
    parts: tuple[str, ...]
    data: bytes
    subject: str | None = None
    time: datetime | None = None
    tenant: str | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """An arrival is durable under ``id``; ``duplicate``: it was there already."""

    id: str
    duplicate: bool


def source(trigger: str) -> str:
    """The ``source`` attribute of what the trigger of this name publishes."""
    return f"urn:crossfade:trigger:{trigger}"


def fact_id(trigger: str, arrival: Arrival) -> str:
    """The event id of an arrival: the same in every process and at every retry."""
    return derived_id(trigger, arrival.type, arrival.tenant or "", *arrival.parts)


class Intake:
    """Publishes what one trigger took in. Its coroutines run on the bus's loop."""

    def __init__(self, bus: Bus, subjects: Subjects, trigger: str) -> None:
        self.bus = bus
        self.trigger = trigger
        self._subjects = subjects

    async def take(self, arrival: Arrival, *, remember: float = 0.0) -> Taken:
        """Make the arrival durable. ``remember`` is how many seconds its id is known beyond the bus's own memory.

        Raises ``BusError``: then it may have been stored or not, and its sender must try again.
        """
        fact = fact_id(self.trigger, arrival)
        seen = self.bus.state(BUCKET)
        if remember and await seen.get(fact) is not None:
            report.count("trigger-duplicate", seam=self.trigger, reason="remembered")
            return Taken(id=fact, duplicate=True)
        duplicate = await self._publish(fact, arrival)
        if remember:
            try:
                await seen.create(fact, b"1", ttl=remember)
            except WrongRevisionError:  # the same arrival came in twice at once
                duplicate = True
        report.count("trigger-duplicate" if duplicate else "trigger-taken", seam=self.trigger, reason=arrival.type)
        return Taken(id=fact, duplicate=duplicate)

    async def keep(self, data: bytes) -> dict[str, str | int]:
        """Put a part of an arrival in the object store; what stands for it in the fact's data."""
        ref = await self.bus.put_object(data)
        return {"dataref": format_dataref(ref), "sha256": ref.sha256, "size": ref.size}

    async def _publish(self, fact: str, arrival: Arrival) -> bool:
        """Store the fact; whether it was there already."""
        named = {"correlationid": fact, "tenantid": arrival.tenant, "userid": arrival.user}
        extensions = {name: value for name, value in named.items() if value}
        data: bytes | None = arrival.data
        if len(arrival.data) > CLAIM_CHECK:
            extensions["dataref"] = format_dataref(await self.bus.put_object(arrival.data))
            data = None
        event = Event(
            type=arrival.type,
            source=source(self.trigger),
            id=fact,
            time=arrival.time or datetime.now(UTC),
            subject=arrival.subject,
            extensions=extensions,
            data=data,
        )
        subject = self._subjects.fact(arrival.type, tenant=arrival.tenant, user=arrival.user)
        for _ in range(_TRIES - 1):
            try:
                return (await self.bus.publish(subject, event)).duplicate
            except BusAmbiguousError:
                report.count("publish-ambiguous", seam=self.trigger)
        return (await self.bus.publish(subject, event)).duplicate
