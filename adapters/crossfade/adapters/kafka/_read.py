"""Reading what is stored without consuming it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError, ConfigurationError, MalformedEventError
from crossfade.shim.ports import Extent
from crossfade.shim.subjects import matches

from ._fold import SUBJECT, WINDOW, Fold, call_of
from ._log import BEGINNING, END
from ._logs import milliseconds, offset_of, position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from crossfade.adapters._clock import BrokerClock
    from crossfade.shim.ports import Position, Stored

    from ._cluster import Cluster
    from ._logs import EventLog
    from ._wire import Record

_UNDER_WAY: Final = 0.25  # seconds an event just stored may need to reach us
_BACK: Final = 512  # records that the first look backwards takes


class Reading:
    """Reads ranges and last events."""

    def __init__(self, cluster: Cluster, clock: BrokerClock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def read(
        self,
        log: EventLog,
        pattern: str,
        *,
        after: Position | None,
        since: datetime | None,
        until: datetime | None,
        follow: bool,
    ) -> AsyncIterator[Stored]:
        """See ``Reader.read``."""
        async for record in self._range(log, after=after, since=since, until=until, follow=follow):
            if until is not None and record.time > milliseconds(until):
                return
            if not matches(pattern, record.header(SUBJECT) or ""):
                continue
            try:
                stored = log.stored(record)
            except MalformedEventError as error:
                self._cluster.hooks.count("skipped", reason=error.reason)
                continue
            yield stored

    async def _range(
        self, log: EventLog, *, after: Position | None, since: datetime | None, until: datetime | None, follow: bool
    ) -> AsyncIterator[Record]:
        self._cluster.check_open()
        end = await log.synced()
        start = await log.partition.offset(BEGINNING)
        if after is not None:
            start = max(start, offset_of(log.topic, after) + 1)
        elif since is not None:
            start = max(start, await log.partition.offset(-(-_micro(since) // 1000)))
        async for record in self.records(log, start, end=None if follow else end, until=self._deadline(until)):
            yield record

    def _deadline(self, until: datetime | None) -> float | None:
        """The loop's time when nothing stored at ``until`` or before can still arrive."""
        if until is None:
            return None
        left = (until - self._clock.now() + self._clock.error).total_seconds()
        return asyncio.get_running_loop().time() + left + _UNDER_WAY

    async def records(
        self, log: EventLog, start: int, *, end: int | None, until: float | None = None
    ) -> AsyncIterator[Record]:
        """Records that count from ``start`` on, up to ``end``, or for ever (or ``until``, the loop's time)."""
        if start < log.start_offset:
            await log.reach_back()
        if start < log.start_offset:
            async for record in self.history(
                log, start, log.start_offset if end is None else min(end, log.start_offset)
            ):
                yield record
            start = log.start_offset
        woken = asyncio.Event()
        log.listeners.add(woken.set)
        try:
            while end is None or start < end:
                woken.clear()
                self._cluster.check_open()
                found, next_start = await self._some(log, start)
                for record in log.visible(found):
                    if end is None or record.offset < end:
                        yield record
                if next_start == start and not await _wait(woken, until):
                    return
                start = next_start
        finally:
            log.listeners.discard(woken.set)

    async def _some(self, log: EventLog, start: int) -> tuple[list[Record], int]:
        try:
            return await log.records(start)
        except BusError:
            # The brokers are away: who follows waits, and is woken when they are back.
            self._cluster.check_open()
            self._cluster.hooks.count("retried", reason="reader")
            await asyncio.sleep(0.05)
            await self._cluster.wait_connected(1.0)
            return [], start

    async def history(self, log: EventLog, start: int, end: int) -> AsyncIterator[Record]:
        """What lies before the point from which the log is folded: folded here, from a window of ids before."""
        first: Record | None = None
        async for records in log.partition.scan(start, start + 1):
            first = records[0] if records else None
        begin = start if first is None else await log.partition.offset(first.time - WINDOW)
        fold = Fold(begin, calls=log.indexed)
        async for records in log.partition.scan(begin, end):
            for record in records:
                if fold.add(record) is None and record.offset >= start:
                    yield record

    async def last(self, log: EventLog, pattern: str) -> Stored | None:
        """See ``Reader.last``; one that cannot be decoded is raised, since an older one would be a lie."""
        self._cluster.check_open()
        end = await log.synced()
        if log.indexed and call_of(pattern) is not None:
            if (offset := log.last_of_call(pattern)) is None:
                await log.reach_back()
                offset = log.last_of_call(pattern)
            record = None if offset is None else await log.record(offset)
        else:
            record = await self._backwards(log, end, lambda found: matches(pattern, found.header(SUBJECT) or ""))
        return None if record is None else log.stored(record)

    async def _backwards(self, log: EventLog, end: int, is_wanted: Callable[[Record], bool]) -> Record | None:
        """The newest record that counts and is wanted, looked for in ever larger steps from the end."""
        beginning = await log.partition.offset(BEGINNING)
        size = _BACK
        while end > beginning:
            start = max(beginning, end - size)
            if start < log.start_offset:
                await log.reach_back()
            found: Record | None = None
            async for record in self.records(log, max(start, log.start_offset), end=end):
                found = record if is_wanted(record) else found
            if found is None and start < log.start_offset:
                async for record in self.history(log, start, min(end, log.start_offset)):
                    found = record if is_wanted(record) else found
            if found is not None:
                return found
            end, size = start, size * 4
        return None

    async def extent(self, log: EventLog, after: Position | None) -> Extent:
        """See ``Reader.extent``."""
        self._cluster.check_open()
        await self._cluster.refresh()
        beginning, end = await log.partition.offset(BEGINNING), await log.partition.offset(END)
        try:
            start = -1 if after is None else offset_of(log.topic, after)
        except ConfigurationError:
            start = -2
        return Extent(
            epoch=self._cluster.topics[log.topic].id,
            last=position(log.topic, end - 1),
            whole=beginning - 1 <= start < end,
        )


def _micro(moment: datetime) -> int:
    return milliseconds(moment) * 1000 + moment.microsecond % 1000


async def _wait(event: asyncio.Event, until: float | None) -> bool:
    try:
        async with asyncio.timeout_at(until):
            await event.wait()
    except TimeoutError:
        return False
    return True
