"""What nobody delivers any more: exhausted commands go to dead letters, silent claims end as ``unknown``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .claims import GRACE, CallPlace, ClaimRecord, find_terminal, log_unknown, overdue
from .errors import BusError, MalformedEventError
from .hooks import report
from .ports import ConsumeOptions

if TYPE_CHECKING:
    from ._runtime import Runtime
    from .ports import Delivery

_GROUP: Final = "crossfade-reaper"
_OPTIONS: Final = ConsumeOptions(
    max_in_flight=50_000,  # every claim of a call that is still under way waits here
    ack_wait=60.0,
    max_deliver=1000,  # a long call's claim is looked at until it ends
)


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
            except BusError as error:  # nobody else would notice that claims are not followed any more
                report.count("reap-failed", reason=type(error).__name__)
            await asyncio.sleep(self._every)

    async def _follow(self) -> None:
        subject = self._runtime.subjects.call_filter("own")
        async with self._runtime.bus.consume(_GROUP, [subject], _OPTIONS) as deliveries:
            deliveries.want(64)
            while True:
                delivery = await deliveries.next()
                if delivery is not None:
                    await self._guarded_look(delivery)

    async def _guarded_look(self, delivery: Delivery) -> None:
        try:
            await self._look(delivery)
        except (BusError, MalformedEventError) as error:  # it comes again after a minute
            report.count("reap-failed", reason=type(error).__name__)

    async def _look(self, delivery: Delivery) -> None:
        bus, place = self._runtime.bus, CallPlace.of(delivery.stored.subject)
        try:
            record = ClaimRecord.read(delivery.stored.event)
        except MalformedEventError as error:
            await delivery.reject(error.reason, detail=str(error))
            return
        if await find_terminal(bus, place) is not None:
            await delivery.ack()
        elif overdue(bus, record):
            await log_unknown(bus, place, record, reason="owner-silent", writer=self._runtime.instance)
            await delivery.ack()
        else:
            wait = (record.expires + GRACE - bus.now()).total_seconds()
            await delivery.retry(max(0.5, wait + 0.1), reason="under-way")
