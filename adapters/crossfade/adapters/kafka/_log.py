"""One topic as a process sees it: followed from a point in time, folded, its newest records at hand.

A follower reads at the leader and waits there for what comes. What this process stores itself it need not read back: a
producer's acknowledgement says where the records lie and since when, and where they follow what was folded they are
folded at once. "Never stale" is: ask the leader where the topic ends, and wait until the follower has come so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from crossfade.shim.errors import BusAmbiguousError, BusError, BusUnavailableError

from ._cluster import TIMEOUT
from ._errors import OUT_OF_RANGE, PASSING, refusal
from ._wire import Record, decode_batches, fetch_request, offset_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ._cluster import Cluster
    from ._produce import Producer

_WAIT: Final = 5.0  # seconds the broker holds a follower's question open
_MOST: Final = 4 * 1024 * 1024  # bytes in one answer; a larger record comes alone
_PAUSE: Final = 0.1  # seconds before a broker that said "not now" is asked again
_RECENT: Final = 4 * 1024 * 1024  # bytes of the newest records kept for readers
END: Final = -1
BEGINNING: Final = -2


class Machine(Protocol):
    """What is made of a topic's records, one after the other."""

    def apply(self, record: Record) -> None:
        """The next record in order."""
        ...


class Partition:
    """Questions about the one partition of a topic."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.cluster = cluster
        self.topic = topic

    async def offset(self, moment: int, *, timeout: float = TIMEOUT) -> int:
        """The first offset at or after ``moment`` (milliseconds, ``END`` or ``BEGINNING``), asked at the leader."""
        # Asked first: where there is nothing so late, what is stored between the two answers must not be passed over.
        end = await self.offset(END, timeout=timeout) if moment >= 0 else 0
        answer = await self._asked(lambda: offset_request(self.topic, moment), timeout=timeout)
        found = int(answer.topics[0][1][0][3])
        return end if found < 0 else found

    async def _asked(self, request: Callable[[], object], *, timeout: float) -> Any:
        """Ask the leader until it answers: a question may be repeated, over a lost connection, too."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            self.cluster.check_open()
            try:
                node = self.cluster.leader(self.topic)
                answer = await self.cluster.ask(node, request(), timeout=max(0.01, deadline - loop.time()))
            except BusAmbiguousError:
                if loop.time() >= deadline or not await self.cluster.wait_connected(deadline - loop.time()):
                    raise
                continue
            code = answer.topics[0][1][0][1]
            if code == 0:
                return answer
            if code not in PASSING or loop.time() + _PAUSE > deadline:
                raise refusal(code, self.topic)
            await asyncio.sleep(_PAUSE)
            await self.cluster.refresh()

    async def fetch(
        self, start: int, *, wait: float = 0.0, lane: str = "main", most: int = _MOST
    ) -> tuple[list[Record], int, int, int]:
        """Records from ``start`` on, where to go on, the topic's end and its beginning.

        Raises ``LookupError`` when ``start`` lies outside, and ``BusError``.
        """
        node = self.cluster.leader(self.topic)
        request = fetch_request(self.topic, start, wait=wait, most=most)
        answer = await self.cluster.ask(node, request, lane=lane, timeout=wait + TIMEOUT)
        (_, ((_, code, end, _, beginning, *_, data),)) = answer.topics[0]
        if code == OUT_OF_RANGE:
            raise LookupError(self.topic)
        if code in PASSING:
            await self.cluster.refresh()
        if code:
            raise refusal(code, self.topic)
        records: list[Record] = []
        after = start
        for found in decode_batches(data or b"", start):
            if isinstance(found, Record):
                records.append(found)
            else:
                after = max(after, found)
        return records, after, int(end), int(beginning)

    async def scan(self, start: int, end: int) -> AsyncIterator[list[Record]]:
        """What lies from ``start`` up to ``end``; what was deleted meanwhile is passed over."""
        while start < end:
            try:
                records, after, _, _ = await self.fetch(start)
            except BusAmbiguousError:
                if not await self.cluster.wait_connected(TIMEOUT):
                    raise
                continue
            except LookupError:
                beginning = await self.offset(BEGINNING)
                if beginning <= start:
                    return
                start = beginning
                continue
            if after == start:
                return
            start = after
            yield [record for record in records if record.offset < end]


class Log:
    """A topic that is followed from its first use on, by ``machine``."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        machine: Machine,
        begin: Callable[[Partition], Awaitable[int]],
        *,
        rest: float = 0.0,
    ) -> None:
        cluster = producer.cluster
        self.partition = Partition(cluster, topic)
        self.topic = topic
        self.position = 0  # the next offset to be folded
        self.beginning = 0  # what lies before is deleted, as far as we know
        # Called whenever something was folded.
        self.listeners: set[Callable[[], None]] = set()
        self._cluster = cluster
        self._producer = producer
        self._machine = machine
        self._begin = begin
        self._recent: deque[Record] = deque()
        self._recent_size = 0
        self._recent_from = 0
        # Seconds without a question to the broker when its last answer brought nothing that is not ours.
        self._rest = rest
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._awaited = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._reaching: asyncio.Task[None] | None = None  # back

    def begin(self) -> asyncio.Task[None]:
        """Begin to follow, once, and again when that failed."""
        task = self._starting
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._starting = asyncio.create_task(self._start())
            self._cluster.adopt(task)
        return task

    async def start(self) -> None:
        """Begin to follow; returns when everything stored by now was folded."""
        task = self.begin()
        if not task.done():
            await asyncio.wait([task])  # it goes on when we are cancelled
            if task.cancelled():
                raise BusUnavailableError("the bus is closed")
            task.result()

    async def _start(self) -> None:
        self.beginning = await self.partition.offset(BEGINNING)
        self.position = self._recent_from = await self._begin(self.partition)
        end = await self.partition.offset(END)
        async for records in self.partition.scan(self.position, end):
            if self._lacks(records):
                await self.reach_back()
            self._fold(records)
        self.position = max(self.position, end)
        self._cluster.listeners.add(self._on_connection)
        self._producer.followers[self.topic] = self._stored
        self._cluster.spawn(self._follow())

    def _on_connection(self) -> None:
        try:
            self._cluster.check_open()
        except BusUnavailableError as error:
            self._cluster.listeners.discard(self._on_connection)
            for _, waiter in self._waiting:
                if not waiter.done():
                    waiter.set_exception(error)
            self._waiting.clear()
        for listener in list(self.listeners):
            listener()

    async def _follow(self) -> None:
        lane = f"follow {self.topic}"
        while True:
            try:
                records, after, _, self.beginning = await self.partition.fetch(self.position, wait=_WAIT, lane=lane)
                if self._lacks(records):
                    await self.reach_back()
            except LookupError:
                # Deleted below us, by retention or an operator, or the topic is another one.
                self._cluster.hooks.count("dropped", reason="out-of-range")
                await self._jump()
                continue
            except BusError:
                if not self._cluster.connected:
                    await self._cluster.wait_connected(60.0)
                else:
                    await asyncio.sleep(_PAUSE)
                continue
            known, self._awaited = self.position, asyncio.Event()
            self._fold(records)
            self.position = max(self.position, after)
            self._tell()
            if self.position == known and self._rest and not self._waiting:
                await wait(self._awaited, self._rest)

    async def _jump(self) -> None:
        try:
            self.position = await self.partition.offset(BEGINNING)
        except BusError:
            await asyncio.sleep(_PAUSE)

    def _stored(self, records: Sequence[Record]) -> None:
        """Records of ours lie there: every replica in sync has them, and so has what lies before them."""
        # Else others' lie between, or it takes the past to judge them: then they come by fetch.
        if records[0].offset == self.position and not self._lacks(records):
            self._fold(records)
            self._tell()

    def _lacks(self, records: Sequence[Record]) -> bool:  # noqa: ARG002 - for those who need a past
        """Whether to fold ``records`` takes what lies before the point from which it is folded."""
        return False

    async def reach_back(self) -> None:
        """Fold that, too."""

    def _fold(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.offset < self.position:  # was ours, and asked for before it was there
                continue
            self._machine.apply(record)
            self._recent.append(record)
            self._recent_size += record.size
            self.position = record.offset + 1
        while self._recent_size > _RECENT:
            gone = self._recent.popleft()
            self._recent_size -= gone.size
            self._recent_from = gone.offset + 1

    def _tell(self) -> None:
        ready = [waiter for offset, waiter in self._waiting if offset <= self.position]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > self.position]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)
        for listener in list(self.listeners):
            listener()

    # -- for readers -------------------------------------------------------------------------------------------

    async def reached(self, offset: int, *, timeout: float = TIMEOUT) -> None:
        """Wait until everything below ``offset`` was folded; ``BusAmbiguousError`` when that takes too long."""
        await self.start()
        if self.position >= offset:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (offset, waiter)
        self._waiting.append(waiting)
        self._awaited.set()
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await waiter
        except TimeoutError as error:
            reaching = self._reaching
            if reaching is not None and not reaching.done():  # that is nobody's fault, and has an end
                await asyncio.shield(reaching)
                await self.reached(offset)
                return
            raise BusAmbiguousError(f"{self.topic} could not be read up to {offset} within {timeout:g} s") from error
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def synced(self, *, timeout: float = TIMEOUT) -> int:
        """Fold everything stored by now; the topic's end."""
        await self.start()
        end = await self.partition.offset(END, timeout=timeout)
        await self.reached(end, timeout=timeout)
        return end

    async def records(self, start: int) -> tuple[list[Record], int]:
        """Some records from ``start`` on that were folded, at hand or fetched, and where to go on."""
        if start >= self.position:
            return [], start
        if start >= self._recent_from:
            return list(islice(self._recent, self._index(start), None)), self.position
        try:
            records, after, _, _ = await self.partition.fetch(start)
        except LookupError:
            return [], max(start, await self.partition.offset(BEGINNING))
        return [record for record in records if record.offset < self.position], min(after, self.position)

    def _index(self, offset: int) -> int:
        """Where the first record at or after ``offset`` is among the recent ones."""
        low, high = 0, len(self._recent)
        while low < high:
            middle = (low + high) // 2
            if self._recent[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return low

    async def record(self, offset: int) -> Record | None:
        """The record at ``offset``, ``None`` when it is gone."""
        found, _ = await self.records(offset)
        return found[0] if found and found[0].offset == offset else None


async def wait(event: asyncio.Event, timeout: float | None) -> None:
    """Until ``event`` is set or ``timeout`` seconds are over."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return
