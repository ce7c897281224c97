"""What nobody delivers any more: exhausted commands go to dead letters, silent claims end as ``unknown``."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .claims import GRACE, CallPlace, ClaimRecord, find_terminal, log_unknown, overdue
from .errors import BusError, MalformedEventError
from .hooks import report
from .ports import ConsumeOptions
from .projection import tell_unknown

if TYPE_CHECKING:
    from ._runtime import Runtime
    from .ports import Delivery

_GROUP: Final = "crossfade-reaper"
_OPTIONS: Final = ConsumeOptions(
    max_in_flight=50_000,  # claims that are waited for; looking early and ever later keeps finished calls out of it
    ack_wait=5.0,  # a look takes moments; what a killed reaper held is looked at again soon
    max_deliver=1000,  # a long call's claim is looked at until it ends
)
_HELD: Final = 1000  # claims that wait here for their first look
_LOOKERS: Final = 8  # claims looked at at once: each look is two answers of the broker
_FIRST: Final = timedelta(seconds=2)  # a claim's age at its first look: most calls have ended by then
_PAUSE: Final = 0.25  # seconds in which claims gather: some buses hand out many for what one costs
_BEHIND: Final = timedelta(seconds=5)


class Reaper:
    """Any worker does it for all of them."""

    def __init__(self, runtime: Runtime, every: float) -> None:
        self._runtime = runtime
        self._every = every

    async def dead(self) -> None:
        """Now and then, move what killed workers left exhausted to dead letters."""
        while True:
            await asyncio.sleep(self._every)
            try:
                reaped = await self._runtime.bus.reap()
            except BusError as error:
                report.count("reap-failed", reason=type(error).__name__)
            else:
                if reaped:
                    report.count("reaped", n=reaped)

    async def claims(self) -> None:
        """Follow every claim until its call has a terminal; write ``unknown`` for those whose owner stays silent."""
        while True:
            try:
                await self._follow()
            except* BusError as errors:  # nobody else would notice that claims are not followed any more
                report.count("reap-failed", reason=type(errors.exceptions[0]).__name__)
            await asyncio.sleep(self._every)

    async def _follow(self) -> None:
        subject = self._runtime.subjects.call_filter("own")
        async with self._runtime.bus.consume(_GROUP, [subject], _OPTIONS) as deliveries:
            deliveries.want(_HELD)
            lookers = asyncio.Semaphore(_LOOKERS)
            async with asyncio.TaskGroup() as looks:
                while True:
                    delivery = await deliveries.next()
                    while delivery is not None:
                        looks.create_task(self._guarded_look(delivery, lookers))
                        delivery = await deliveries.next(timeout=0)
                    await asyncio.sleep(_PAUSE)

    async def _guarded_look(self, delivery: Delivery, lookers: asyncio.Semaphore) -> None:
        try:
            await self._look(delivery, lookers)
        except (BusError, MalformedEventError) as error:  # it comes again
            report.count("reap-failed", reason=type(error).__name__)

    async def _look(self, delivery: Delivery, lookers: asyncio.Semaphore) -> None:
        try:
            record = ClaimRecord.read(delivery.stored.event)
        except MalformedEventError as error:
            await delivery.reject(error.reason, detail=str(error))
            return
        bus = self._runtime.bus
        if not overdue(bus, record):
            await asyncio.sleep(max(0.0, (_FIRST - (bus.now() - delivery.stored.time)).total_seconds()))
        async with lookers:
            await self._judge(delivery, record)

    async def _judge(self, delivery: Delivery, record: ClaimRecord) -> None:
        bus, place = self._runtime.bus, CallPlace.of(delivery.stored.subject)
        if await find_terminal(bus, place) is not None:
            await delivery.ack()
        elif overdue(bus, record):
            if bus.now() - (record.expires + GRACE) > _BEHIND:
                report.count("reaped-late", seam=record.seam)  # no worker was there, or more claims than places
            if await log_unknown(bus, place, record, reason="owner-silent", writer=self._runtime.instance):
                await self._tell(place, record)
            await delivery.ack()
        else:
            # Each look comes after twice the time of the one before.
            wait = (record.expires + GRACE - bus.now()).total_seconds() + 0.1
            await delivery.retry(max(0.5, min(wait, 2.0 ** (delivery.attempt + 1))), reason="under-way")

    async def _tell(self, place: CallPlace, record: ClaimRecord) -> None:
        command = await self._runtime.bus.last(place.invoke)
        if command is not None:
            domain = command.event.type.partition(".")[0]
            tell_unknown(self._runtime, command.event, seam=record.seam, domain=domain)
