"""A journal: what every process agrees on, because all apply the same operations in the order of one partition.

An operation is a record: what is asked for as JSON in a header, a value beside it. Whether it takes effect is decided
by the state at its place in the order, so the answer is the same everywhere; who asked waits until its own fold has
come to it. Snapshots of the state lie between the operations, and what lies before the last but one is deleted, so who
opens a journal reads a bounded part of it. Without the permission to delete it only grows.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from crossfade.shim.errors import BusAmbiguousError, BusError, BusUnavailableError
from crossfade.shim.events import new_id

from ._cluster import TIMEOUT
from ._log import BEGINNING, Log, Partition
from ._wire import delete_records_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._cluster import Cluster
    from ._produce import Producer
    from ._wire import Record

OPERATION: Final = "cf_op"
_SNAPSHOT: Final = "cf_snapshot"
_EVERY: Final = 2000  # operations between snapshots
# Seconds that others' operations may be seen late while only we act, since each of ours would answer a fetch.
_REST: Final = 0.01

Operation = dict[str, Any]


class State(Protocol):
    """What a journal makes of its operations; deterministic, and without a clock of its own."""

    def apply(self, operation: Operation, value: bytes, *, offset: int, time: int) -> Any:
        """The next operation; what its sender is told. ``time`` is the broker's, in milliseconds."""
        ...

    def dump(self) -> Iterable[tuple[Operation, bytes]]:
        """The whole state in parts."""
        ...

    def load(self, parts: Iterable[tuple[Operation, bytes]]) -> None:
        """Be what was dumped."""
        ...


class Journal:
    """One journal as a process sees it."""

    def __init__(self, cluster: Cluster, producer: Producer, topic: str, state: State) -> None:
        self.log = Log(producer, topic, self, self._begin, rest=_REST)
        self.state = state
        self._cluster = cluster
        self._producer = producer
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._since = 0  # operations since the last snapshot
        self._as_of = 0  # where that was taken
        self._snapshotting = False

    async def _begin(self, partition: Partition) -> int:
        """Load the last whole snapshot; the first offset behind it."""
        beginning = await partition.offset(BEGINNING)
        end = await partition.offset(-1)
        parts: dict[tuple[str, int, int], dict[int, tuple[Operation, bytes]]] = {}
        async for records in partition.scan(beginning, end):
            for record in records:
                head = record.header(_SNAPSHOT)
                if head is not None:
                    name, as_of, count, number = json.loads(head)
                    parts.setdefault((name, as_of, count), {})[number] = _operation(record), record.value
        whole = [(as_of, found) for (_, as_of, count), found in parts.items() if len(found) == count]
        if not whole:
            return beginning
        as_of, found = max(whole, key=lambda each: each[0])
        self.state.load([found[number] for number in sorted(found)])
        self._as_of = as_of
        return as_of

    def apply(self, record: Record) -> None:
        """See ``Machine.apply``."""
        head = record.header(_SNAPSHOT)
        if head is not None:
            _, as_of, count, number = json.loads(head)
            if number == count - 1 and as_of > self._as_of:
                self._as_of, self._since = as_of, 0
            return
        operation = _operation(record)
        result = self.state.apply(operation, record.value, offset=record.offset, time=record.time)
        self._since += 1
        waiter = self._waiting.get(operation.get("id", ""))
        if waiter is None:
            return
        if not waiter.done():
            waiter.set_result(result)
        if self._since % _EVERY == 0 and not self._snapshotting:
            self._snapshotting = True
            self._cluster.spawn(self._snapshot(record.offset + 1, list(self.state.dump()), self._as_of))

    async def propose(self, operation: Operation, value: bytes = b"", *, timeout: float = TIMEOUT) -> Any:
        """Append an operation; what became of it. Raises ``BusError``: nothing sent, refused, or nobody knows."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        self._cluster.check_open()
        if self._cluster.connected:  # else say at once that nothing was sent
            await self.log.start()
        name = new_id()
        waiter: asyncio.Future[Any] = loop.create_future()
        self._waiting[name] = waiter
        try:
            headers = [(OPERATION, json.dumps({**operation, "id": name}, separators=(",", ":")).encode())]
            placed = await self._producer.produce(self.log.topic, None, value, headers, timeout=timeout)
            try:
                await self.log.reached(placed.offset + 1, timeout=deadline - loop.time())
            except BusUnavailableError as error:  # something was sent
                raise BusAmbiguousError(f"{self.log.topic}: stored, but not read back in time") from error
            if not waiter.done():
                raise BusAmbiguousError(f"{self.log.topic} was made anew while it was written to")
            return waiter.result()
        finally:
            del self._waiting[name]

    async def synced(self) -> None:
        """Apply everything that is stored by now."""
        self._cluster.check_open()
        await self.log.synced()

    async def _snapshot(self, as_of: int, parts: list[tuple[Operation, bytes]], before: int) -> None:
        """Store the state as it was before ``as_of``, then delete what lies before the snapshot before this one."""
        name, parts = new_id(), parts or [({}, b"")]
        try:
            for number, (part, value) in enumerate(parts):
                headers = [
                    (_SNAPSHOT, json.dumps([name, as_of, len(parts), number]).encode()),
                    (OPERATION, json.dumps(part, separators=(",", ":")).encode()),
                ]
                await self._producer.produce(self.log.topic, None, value, headers, timeout=TIMEOUT)
            if before:
                request = delete_records_request(self.log.topic, before)
                answer = await self._cluster.ask(self._cluster.leader(self.log.topic), request)
                if answer.topics[0][1][0][2]:
                    self._cluster.hooks.count("retried", reason="journal-not-trimmed")
        except BusError:
            self._cluster.hooks.count("retried", reason="snapshot")
        finally:
            self._snapshotting = False


def _operation(record: Record) -> Operation:
    """What is asked for; nothing, when a stranger wrote it."""
    try:
        found: Any = json.loads(record.header(OPERATION) or "{}")
    except ValueError:
        return {}
    return cast("Operation", found) if isinstance(found, dict) else {}
