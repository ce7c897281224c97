"""Calls put on a bus by hand, at whatever point of their lives a test needs them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crossfade.shim.claims import CallPlace, ClaimRecord, Nonces, Won, log_result, log_unknown, take
from crossfade.shim.events import Event, new_id
from crossfade.shim.outcomes import refusal_payload, value_payload
from crossfade.shim.ports import ConsumeOptions

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus, DeadLetter, Position
    from crossfade.shim.subjects import Subjects

OWNER = "host_1_worker"
LONG_AGO = -60.0  # seconds; longer than deadline and grace
DECLARED = {"domain": "tool", "place": "shop.py:1", "blockers": []}


class Ledgers:
    """One seam's calls on an open bus."""

    def __init__(self, bus: Bus, subjects: Subjects, *, seam: str = "shop.charge", domain: Any = "tool") -> None:
        self.bus = bus
        self.subjects = subjects
        self.seam = seam
        self.domain = domain

    async def declare(self, effects: str, **policy: Any) -> None:
        """A process declares the seam."""
        value = {**DECLARED, "policy": {"stage": "bus", "effects": effects, **policy}}
        await self.bus.state("seams").put(self.seam, json.dumps(value).encode())

    async def report(self, instance: str) -> None:
        """A process says that it lives."""
        value = {"role": "worker", "seen": self.bus.now().isoformat(), "seams": {self.seam: 0}}
        await self.bus.state("instances").put(instance, json.dumps(value).encode())

    def place(self, callid: str) -> CallPlace:
        subject = self.subjects.call("invoke", domain=self.domain, seam=self.seam, run=f"run-{callid}", callid=callid)
        return CallPlace.of(subject)

    async def send(self, *, left: float = 30.0, guarded: bool = True, data: bytes | None = None, **more: str) -> str:
        """A command with ``left`` seconds to go; returns its call id."""
        callid = new_id()
        attributes = {
            "callid": callid,
            "seam": self.seam,
            "correlationid": f"run-{callid}",
            "expirytime": (self.bus.now() + timedelta(seconds=left)).isoformat(),
            **({"guarded": "1"} if guarded else {}),
            **more,
        }
        event = Event(
            type="agent.task.started" if self.domain == "agent" else "tool.invoke",
            source="urn:crossfade:host_9_caller",
            id=callid,
            subject=self.seam,
            extensions=attributes,
            data=data or b'{"arguments":{"who":"ann","password":"hunter2"}}',
        )
        await self.bus.append(self.place(callid).invoke, event, last=self.place(callid).everything, at=None)
        return callid

    async def claim(self, callid: str, *, left: float = 30.0, owner: str = OWNER) -> Position:
        """A worker claims the call."""
        last = await self.bus.last(self.place(callid).everything)
        record = self.record(callid, left, owner)
        won = await take(self.bus, self.place(callid), record, at=last.position if last else None, nonces=Nonces())
        assert isinstance(won, Won)
        return won.position

    async def unknown(self, callid: str) -> None:
        """Its owner stays silent, and a reaper says so."""
        stored = await self.bus.last(self.place(callid).own)
        assert stored is not None
        record = ClaimRecord.read(stored.event)
        assert await log_unknown(self.bus, self.place(callid), record, reason="owner-silent", writer="host_2_reaper")

    async def silent(self) -> str:
        """A call that was claimed long ago, and no more."""
        callid = await self.send(left=LONG_AGO)
        await self.claim(callid, left=LONG_AGO)
        return callid

    async def lost(self) -> str:
        """A call that ended unknown."""
        callid = await self.silent()
        await self.unknown(callid)
        return callid

    async def end(self, callid: str, claim: Position, *, payload: bytes | None = None) -> None:
        """The owner logs its result, a value unless said otherwise."""
        data = payload or value_payload(b'{"value":"paid"}', handler="self", handler_ms=12.5)
        event = Event(
            type="tool.result",
            source=f"urn:crossfade:{OWNER}",
            subject=self.seam,
            extensions={"callid": callid, "seam": self.seam, "path": "bus"},
            data=data,
        )
        await log_result(self.bus, self.place(callid), event, claim=claim)

    async def refuse(self, callid: str, reason: str = "arguments") -> None:
        """The owner could not run it."""
        await self.end(callid, await self.claim(callid), payload=refusal_payload("not-executed", reason=reason))

    async def die(self, reason: str = "max-deliver", *, group: str = "tool-shop-charge") -> DeadLetter:
        """The oldest command that the group has not given up yet goes to dead letters; returns the dead letter."""
        filters = [self.subjects.commands(self.domain, self.seam)]
        async with self.bus.consume(group, filters, ConsumeOptions()) as deliveries:
            delivery = await deliveries.next(timeout=5)
            assert delivery is not None
            await delivery.reject(reason, detail="it would not go, password=hunter2")
        return (await self.dead())[-1]

    async def dead(self) -> list[DeadLetter]:
        """Every dead letter."""
        return [letter async for letter in self.bus.dead_letters()]

    async def commands(self) -> list[Event]:
        """Every command of the seam, oldest first."""
        found = self.bus.read(self.subjects.commands(self.domain, self.seam))
        return [stored.event async for stored in found]

    def record(self, callid: str, left: float, owner: str) -> ClaimRecord:
        return ClaimRecord(
            callid=callid,
            seam=self.seam,
            role="worker",
            instance=owner,
            attempt=1,
            policyrev=3,
            arguments="",
            expires=self.bus.now() + timedelta(seconds=left),
        )
