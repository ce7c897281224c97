"""Reading what is stored without consuming it: a pull consumer without acks, rebuilt at its reader's own cursor."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.bindings import from_nats
from crossfade.shim.errors import BusError, MalformedEventError
from crossfade.shim.ports import Extent, Stored

from ._errors import NO_MESSAGE, ApiError, NoRespondersError, client_failure
from ._pull import Pull
from ._wire import Raw, decode, metadata, position, raw, rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from crossfade.adapters._clock import BrokerClock
    from crossfade.shim.ports import Position

    from ._connection import Connection, Message
    from ._wire import Metadata

_SECOND: Final = 1_000_000_000
_BATCH: Final = 256  # messages on their way at once
_UNDER_WAY: Final = 0.25  # seconds an event just stored may need to reach us
_LEFT_ALONE: Final = 60 * _SECOND  # the server removes a reader's consumer after this long without a pull


class _Cursor:
    """One reader's place in a stream, and the messages between the broker and it."""

    def __init__(self, connection: Connection, stream: str, filters: Sequence[str], start: dict[str, Any]) -> None:
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._start = start
        self._buffer: deque[tuple[Message, Metadata]] = deque()
        self._expected = 1  # the consumer's next sequence: a gap means one was lost on the way to us
        self._consumer = ""
        self._wake = asyncio.Event()
        self.last = 0  # stream sequence of the last message received
        self.pending = 0  # how many the broker still has for us
        self.pull = Pull(connection, stream, self)
        self.pull.width = _BATCH

    async def ensure(self) -> str:
        """A new consumer each time: one without acks cannot repeat what was lost on the way."""
        await self.remove()
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.last + 1} if self.last else self._start
        self._expected = 1
        self._consumer = f"read-{secrets.token_hex(8)}"
        config = {
            "name": self._consumer,
            "ack_policy": "none",
            "filter_subjects": self._filters,
            "inactive_threshold": _LEFT_ALONE,
            "mem_storage": True,
            "num_replicas": 1,
            **start,
        }
        made = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{self._consumer}", {"stream_name": self._stream, "config": config}
        )
        self.pending = int(made["num_pending"])
        self._wake.set()
        return self._consumer

    async def remove(self) -> None:
        """Delete the consumer; one that stays is removed by the server when nobody pulls."""
        name, self._consumer = self._consumer, ""
        if not name:
            return
        try:
            await self._connection.api(f"CONSUMER.DELETE.{self._stream}.{name}", timeout=1.0)
        except (BusError, ApiError, NoRespondersError):
            self._connection.hooks.count("retried", reason="reader-left-behind")

    def free(self) -> int:
        """How many more we keep for our reader."""
        return _BATCH - len(self._buffer)

    def receive(self, message: Message) -> None:
        """Keep a message for ``next``."""
        meta = metadata(message.reply)
        if meta.consumer != self._consumer:
            return  # of a consumer before this one; the cursor has it asked for again
        if meta.consumer_seq != self._expected:
            self.pull.renew()
            return
        self._expected += 1
        self.last = meta.stream_seq
        self.pending = meta.pending
        self._buffer.append((message, meta))
        self._wake.set()

    def tick(self) -> None:
        """Nothing grows old here."""

    async def start(self) -> None:
        """Begin to read."""
        await self.pull.start()
        self._connection.listeners.add(self._wake.set)

    async def stop(self) -> None:
        """End, and leave nothing on the broker."""
        self._connection.listeners.discard(self._wake.set)
        await self.pull.stop()
        await self.remove()

    def idle(self) -> None:
        """All there is has been sent."""
        self.pending = 0
        self._wake.set()

    async def next(self, *, follow: bool, deadline: float | None = None) -> tuple[Message, Metadata] | None:
        """The next message; ``None`` when there is no more, or with ``follow`` when ``deadline`` (loop) passed.

        What is stored comes whatever the time: a deadline is for what might still be stored.
        """
        while not self._buffer:
            self._connection.check_open()
            if not follow and self.pending == 0:
                return None
            self._wake.clear()
            try:
                async with asyncio.timeout_at(None if self.pending else deadline):
                    await self._wake.wait()
            except TimeoutError:
                return None
        item = self._buffer.popleft()
        self.pull.poke()
        return item


class Reading:
    """Reads ranges and last events."""

    def __init__(self, connection: Connection, clock: BrokerClock) -> None:
        self._connection = connection
        self._clock = clock

    async def messages(
        self,
        stream: str,
        filters: Sequence[str],
        start: dict[str, Any] | None = None,
        *,
        follow: bool = False,
        until: datetime | None = None,
    ) -> AsyncIterator[tuple[Message, Metadata]]:
        """Messages of ``stream`` in order, up to what is stored now, or with ``follow`` until that time has passed."""
        try:
            end = (await self._connection.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]
            cursor = _Cursor(self._connection, stream, filters, start or {"deliver_policy": "all"})
            await cursor.start()
        except (ApiError, NoRespondersError) as error:
            raise client_failure(error, f"reading {stream}") from error
        try:
            deadline = self._deadline(until)
            while (item := await cursor.next(follow=follow, deadline=deadline)) is not None:
                if not follow and item[1].stream_seq > end:
                    return
                yield item
                if not follow and item[1].stream_seq >= end:
                    return
        finally:
            await cursor.stop()

    def _deadline(self, until: datetime | None) -> float | None:
        """The loop's time when nothing stored at ``until`` or before can still arrive."""
        if until is None:
            return None
        left = (until - self._clock.now() + self._clock.error).total_seconds()
        return asyncio.get_running_loop().time() + left + _UNDER_WAY

    async def read(
        self,
        stream: str,
        pattern: str,
        *,
        after: Position | None,
        since: datetime | None,
        until: datetime | None,
        follow: bool,
    ) -> AsyncIterator[Stored]:
        """See ``Reader.read``."""
        async for message, meta in self.messages(stream, [pattern], _start(after, since), follow=follow, until=until):
            if until is not None and meta.time > until:
                return
            if since is not None and meta.time < since:
                continue
            try:
                stored = decode(message, meta)
            except MalformedEventError as error:
                self._connection.hooks.count("skipped", reason=error.reason)
                continue
            yield stored

    async def last(self, stream: str, pattern: str) -> Stored | None:
        """See ``Reader.last``; one that cannot be decoded is raised, since an older one would be a lie."""
        found = await last_message(self._connection, stream, pattern)
        if found is None:
            return None
        return Stored(
            subject=found.subject,
            event=from_nats(found.headers, found.data),
            position=position(found.sequence),
            time=found.time,
        )

    async def extent(self, stream: str, after: Position | None) -> Extent:
        """See ``Reader.extent``."""
        try:
            info = await self._connection.api(f"STREAM.INFO.{stream}")
        except (ApiError, NoRespondersError) as error:
            raise client_failure(error, f"looking at {stream}") from error
        return _read_extent(info, after)


def _read_extent(info: Mapping[str, Any], after: Position | None) -> Extent:
    state = info["state"]
    last = int(state["last_seq"])
    start = 0 if after is None else int(after) if after.isdecimal() else -1
    return Extent(
        epoch="".join(filter(str.isalnum, info["created"])),
        last=position(last),
        whole=max(0, int(state["first_seq"]) - 1) <= start <= last,
    )


def _start(after: Position | None, since: datetime | None) -> dict[str, Any]:
    if after is not None:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": int(after) + 1}
    if since is not None:
        return {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(since)}
    return {"deliver_policy": "all"}


async def last_message(connection: Connection, stream: str, pattern: str) -> Raw | None:
    """The last message under ``pattern`` by a read at the stream's leader, never from a replica that lags."""
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": pattern})
    except ApiError as error:
        if error.code == NO_MESSAGE:
            return None
        raise client_failure(error, pattern) from error
    except NoRespondersError as error:
        raise client_failure(error, pattern) from error
    return raw(answer["message"])
