"""Producing: batches to one partition, one request under way for each topic, so that order and numbers are certain.

A batch is numbered by a producer id and a sequence, so one that is sent again over a new connection is stored once.
Whoever gives up on a batch takes a new producer id; what still arrives of it is recognised by its event's id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    EventTooLargeError,
)

from ._errors import NEW_PRODUCER, PASSING, TOO_LARGE, UNKNOWN, refusal
from ._wire import Record, encode_batch, produce_request, producer_id_request, record_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._cluster import Cluster
    from ._wire import Headers

_BATCH: Final = 512 * 1024  # bytes of records in one request
_BUFFER: Final = 8 * 1024 * 1024  # bytes that wait for the broker, in all topics together
_PAUSE: Final = 0.05  # seconds before a broker that said "not now" is asked again
_FLUSH: Final = 0.5  # seconds that closing waits for what was emitted
_PATIENCE: Final = 5.0  # seconds that what nobody waits for is tried


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a record lies, and since when by the broker's clock (milliseconds)."""

    offset: int
    time: int


@dataclass(slots=True)
class _Outgoing:
    key: bytes | None
    value: bytes
    headers: Headers
    size: int
    deadline: float
    done: asyncio.Future[Placed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Producer:
    """Puts records into topics."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.waiting = 0  # bytes
        # Topic -> who is told, before those who wait, of each batch of ours that the brokers acknowledged.
        self.followers: dict[str, Callable[[list[Record]], None]] = {}
        self._writers: dict[str, _Writer] = {}

    def send(
        self, topic: str, key: bytes | None, value: bytes, headers: Headers, *, timeout: float = _PATIENCE
    ) -> asyncio.Future[Placed]:
        """Hand a record over without waiting; the future tells what became of it, a ``BusError`` among that."""
        self.cluster.check_open()
        if not self.cluster.connected:
            raise BusUnavailableError(self.cluster.away)
        size = record_size(key, value, headers)
        if self.waiting + size > _BUFFER:
            raise BusUnavailableError("the client's buffer is full, nothing was sent")
        self.waiting += size
        loop = asyncio.get_running_loop()
        record = _Outgoing(key, value, headers, size, loop.time() + timeout)
        record.done.add_done_callback(_looked_at)
        writer = self._writers.get(topic)
        if writer is None:
            writer = self._writers[topic] = _Writer(self, topic)
        writer.put(record)
        return record.done

    async def produce(self, topic: str, key: bytes | None, value: bytes, headers: Headers, *, timeout: float) -> Placed:
        """Store a record; raises ``BusUnavailableError``, ``BusAmbiguousError``, ``BusRefusedError``."""
        return await asyncio.shield(self.send(topic, key, value, headers, timeout=timeout))

    async def flush(self) -> None:
        """Let what was handed over reach the brokers, for a short while."""
        running = [writer.task for writer in self._writers.values() if writer.task is not None]
        if running and self.cluster.connected:
            await asyncio.wait(running, timeout=_FLUSH)


def _looked_at(done: asyncio.Future[Placed]) -> None:
    """Nobody need wait for what was emitted."""
    if not done.cancelled():
        done.exception()


class _Writer:
    """One topic's queue."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._cluster = producer.cluster
        self._topic = topic
        self._queue: deque[_Outgoing] = deque()
        self.task: asyncio.Task[Any] | None = None
        self._identity: tuple[int, int] | None = None
        self._sequence = 0

    def put(self, record: _Outgoing) -> None:
        self._queue.append(record)
        if self.task is None or self.task.done():
            self.task = self._cluster.spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._send(self._take())
        finally:
            while self._queue:  # the bus was closed
                self._settle(self._queue.popleft(), BusUnavailableError("the bus is closed, nothing was sent"))

    def _take(self) -> list[_Outgoing]:
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and size + self._queue[0].size <= _BATCH:
            size += self._queue[0].size
            batch.append(self._queue.popleft())
        return batch

    def _settle(self, record: _Outgoing, result: Placed | BusError) -> None:
        self._producer.waiting -= record.size
        if record.done.done():
            return
        if isinstance(result, BaseException):
            record.done.set_exception(result)
        else:
            record.done.set_result(result)

    async def _send(self, batch: list[_Outgoing]) -> None:
        result: int | BusError = BusAmbiguousError("the bus was closed before an answer came")
        placed_at = 0
        try:
            result, placed_at = await self._store(batch)
            if isinstance(result, int):
                self._tell(batch, result, placed_at)
        finally:
            for number, record in enumerate(batch):
                self._settle(record, Placed(result + number, placed_at) if isinstance(result, int) else result)

    def _tell(self, batch: list[_Outgoing], base: int, time: int) -> None:
        follower = self._producer.followers.get(self._topic)
        if follower is not None and time >= 0:  # the topic's times are the brokers', so we know the whole record
            follower([Record(base + n, time, item.key, item.value, item.headers) for n, item in enumerate(batch)])

    async def _store(self, batch: list[_Outgoing]) -> tuple[int | BusError, int]:
        """Append until the answer is clean or nobody waits any more; base offset and time, or why not."""
        time = asyncio.get_running_loop().time
        deadline = max(record.deadline for record in batch)
        doubt: BusError | None = None
        while True:
            answer: tuple[int, int] | int | BusError
            try:
                answer = await self._once(batch, max(0.01, deadline - time()))
            except BusAmbiguousError as error:
                answer, doubt = error, error
            except BusError as error:
                answer = error
            if isinstance(answer, tuple):
                return answer
            code = answer if isinstance(answer, int) else 0
            if code and code not in PASSING and code not in NEW_PRODUCER:
                return self._refused(code, batch), 0
            if code in UNKNOWN:
                doubt = refusal(code, self._topic)
            failure = answer if isinstance(answer, BusError) else refusal(code, self._topic)
            if time() + _PAUSE >= deadline:
                self._identity = None
                return doubt or failure, 0
            await asyncio.sleep(_PAUSE)
            await self._cluster.wait_connected(deadline - time())

    async def _once(self, batch: list[_Outgoing], timeout: float) -> tuple[int, int] | int:
        """Base offset and time of a batch stored, or the error's code."""
        if self._identity is None:
            answer = await self._cluster.ask(self._cluster.controller, producer_id_request(), timeout=timeout)
            if answer.error_code:
                return int(answer.error_code)
            self._identity, self._sequence = (answer.producer_id, answer.producer_epoch), 0
        data = encode_batch([(item.key, item.value, item.headers) for item in batch], *self._identity, self._sequence)
        answer = await self._cluster.ask(
            self._cluster.leader(self._topic),
            produce_request(self._topic, data, timeout),
            lane="produce",
            timeout=timeout,
        )
        (_, ((_, code, base, moment, *_),)) = answer.topics[0]
        if code == 0:
            self._sequence += len(batch)
            return int(base), int(moment)
        if code in NEW_PRODUCER:
            self._identity = None
        elif code in PASSING:
            await self._cluster.refresh()
        return int(code)

    def _refused(self, code: int, batch: list[_Outgoing]) -> BusError:
        self._identity = None
        if code in TOO_LARGE:
            size = max(record.size for record in batch)
            return EventTooLargeError(size=size, limit=size - 1)
        return refusal(code, self._topic)
