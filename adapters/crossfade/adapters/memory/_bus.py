"""A client of a memory broker: the port, operation by operation."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from crossfade.shim.bindings import from_nats, to_nats
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusFullError,
    BusRefusedError,
    BusUnavailableError,
    ConfigurationError,
    EventTooLargeError,
    MalformedEventError,
    ObjectMissingError,
    WrongPositionError,
)
from crossfade.shim.events import derived_id, new_id
from crossfade.shim.ports import Ack, Bus, BusFactory, BusInfo, ConsumeOptions, ObjectRef
from crossfade.shim.subjects import Subjects, check_group

from ._broker import MemoryBroker, broker
from ._deliveries import MemoryDeliveries
from ._places import dead_letter, extent, position, sequence_of, stored
from ._signal import Signal
from ._state import MemoryState
from ._stream import Rejection, wire_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from crossfade.shim.events import Event
    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import BusSettings, DeadLetter, Deliveries, Emitter, Extent, Position, Stored

    from ._faults import Operation
    from ._stream import Message, Stream

T = TypeVar("T")

_log = logging.getLogger("crossfade")
# Only these wake waiters; a waiter that looks must not wake itself.
_CHANGES: Final[frozenset[Operation]] = frozenset(
    {"publish", "append", "emit", "ack", "retry", "reject", "reap", "create", "update", "put", "delete"}
)
_DETAIL: Final = 1024  # bytes of a dead letter's detail
_DEFAULT_OPTIONS: Final = ConsumeOptions()


class MemoryBus:
    """One client; all its methods run on the loop that called ``open``. Several may share a broker."""

    def __init__(self, settings: BusSettings, hooks: Hooks, *, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self.hooks = hooks
        self.subjects = Subjects(settings.prefix)
        self._signal: Signal | None = None
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: list[tuple[str, Callable[[Event], None]]] = []

    # -- connecting --

    @property
    def connected(self) -> bool:
        """See ``Bus.connected``."""
        return self._signal is not None and self.broker.running

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """See ``Bus.on_reconnect``."""
        self._callbacks.append(callback)

    async def open(self) -> None:
        """See ``Bus.open``."""
        signal = Signal(asyncio.get_running_loop())
        fault = self.broker.faults.take("open")
        if fault is not None:
            raise fault.error
        with self.broker.lock:
            self.broker.check_running()
            if self._signal is None:
                self._signal = signal
                self.broker.clients.append(self)

    async def close(self) -> None:
        """See ``Bus.close``."""
        with self.broker.lock:
            signal, self._signal = self._signal, None
            if signal is None:
                return
            self.broker.clients.remove(self)
            for address, receiver in self._listening:
                self.broker.listeners[address].remove(receiver)
            signal.notify()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def info(self) -> BusInfo:
        """See ``Bus.info``."""
        return BusInfo(
            scheme="memory",
            server=self.broker.name or "private",
            version="1",
            max_event_bytes=self.broker.max_event_bytes,
            synced=False,
            replicas=1,
            warnings=("nothing survives the end of this process",),
        )

    def now(self) -> datetime:
        """See ``Bus.now``; here broker and client share one clock."""
        return datetime.now(UTC)

    @property
    def clock_error(self) -> timedelta:
        """See ``Bus.clock_error``."""
        return timedelta(0)

    @property
    def clock_offset(self) -> timedelta:
        """See ``Bus.clock_offset``."""
        return timedelta(0)

    async def check_clock(self) -> None:
        """See ``Bus.check_clock``; there is nothing to measure."""

    # -- publishing --

    async def publish(self, subject: str, event: Event, *, timeout: float = 5.0) -> Ack:
        """See ``Publisher.publish``."""
        headers = self._headers(event)
        try:
            async with asyncio.timeout(timeout):
                return await self.perform("publish", lambda: self._append(subject, headers, event))
        except TimeoutError as error:
            raise BusAmbiguousError(f"no answer to the publish of {event.id} within {timeout} s") from error

    async def append(
        self,
        subject: str,
        event: Event,
        *,
        last: str,
        at: Position | None,
        unique: bool = False,
        timeout: float = 5.0,
    ) -> Position:
        """See ``Ledger.append``."""
        headers = self._headers(event)

        def store() -> Position:
            stream = self.broker.stream(self.subjects.prefix, subject)
            found = stream.last(last)
            if (position(stream, found.sequence) if found else None) != at:
                raise WrongPositionError(f"something else lies last under {last}: read it, then decide")
            # Without an id of its own the message is never taken for a duplicate.
            message_id = event.id if unique else new_id()
            sequence, _ = stream.append(
                subject, headers, event.data or b"", message_id=message_id, now=datetime.now(UTC)
            )
            return position(stream, sequence)

        try:
            async with asyncio.timeout(timeout):
                return await self.perform("append", store)
        except TimeoutError as error:
            raise BusAmbiguousError(f"no answer to the append of {event.id} within {timeout} s") from error

    def emit(self, subject: str, event: Event) -> None:
        """See ``Publisher.emit``."""
        headers = self._headers(event)
        try:
            self.perform_now("emit", lambda: self._append(subject, headers, event))
        except BusFullError:
            self.hooks.count("dropped", reason="full")

    def emitter(self, alike: Event) -> Emitter:
        """See ``Publisher.emitter``."""

        def emit(subject: str, event_id: str, extensions: Mapping[str, str], data: bytes) -> None:
            given = {**alike.extensions, **extensions}
            self.emit(subject, replace(alike, id=event_id, time=datetime.now(UTC), extensions=given, data=data))

        return emit

    def _headers(self, event: Event) -> dict[str, str]:
        headers = to_nats(event)
        size = wire_size(headers, event.data or b"")
        if size > self.broker.max_event_bytes:
            raise EventTooLargeError(size=size, limit=self.broker.max_event_bytes)
        return headers

    def _append(self, subject: str, headers: dict[str, str], event: Event) -> Ack:
        stream = self.broker.stream(self.subjects.prefix, subject)
        sequence, duplicate = stream.append(
            subject, headers, event.data or b"", message_id=event.id, now=datetime.now(UTC)
        )
        return Ack(position=position(stream, sequence), duplicate=duplicate)

    # -- consuming --

    def consume(
        self, group: str, filters: Sequence[str], options: ConsumeOptions = _DEFAULT_OPTIONS
    ) -> AbstractAsyncContextManager[Deliveries]:
        """See ``Consumer.consume``; leaving hands what was not ended to other members at once."""
        check_group(group)
        self._one_stream(filters)
        return MemoryDeliveries(self, group, tuple(filters), options)

    # -- reading --

    async def read(
        self,
        filter: str,  # noqa: A002 - the port's word
        *,
        after: Position | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Stored]:
        """See ``Reader.read``."""
        stream = self._one_stream((filter,))
        cursor = 0 if after is None else sequence_of(stream, after)
        end = stream.last_sequence
        while True:
            seen = self.signal.changes
            message = await self._next_stored(stream, filter, cursor, wait=follow)
            if message is None and follow:
                await self.signal.wait(seen)
                continue
            if message is None or (message.sequence > end and not follow):
                return
            cursor = message.sequence
            if until is not None and message.time > until:
                return
            if since is not None and message.time < since:
                continue
            found = self._readable(stream, message)
            if found is not None:
                yield found

    async def last(self, filter: str) -> Stored | None:  # noqa: A002 - the port's word
        """See ``Reader.last``; one that cannot be decoded is raised, since an older one would be a lie."""
        stream = self._one_stream((filter,))
        message = await self.perform("last", lambda: stream.last(filter))
        return stored(stream, message) if message else None

    async def extent(self, filter: str, *, after: Position | None = None) -> Extent:  # noqa: A002 - the port's word
        """See ``Reader.extent``."""
        stream = self._one_stream((filter,))
        return await self.perform("extent", lambda: extent(stream, after))

    def _one_stream(self, filters: Sequence[str]) -> Stream:
        """The one stream all ``filters`` lie in; ``ConfigurationError`` when they do not."""
        try:
            (stream,) = {self.broker.stream(self.subjects.prefix, pattern) for pattern in filters}
        except (ValueError, BusRefusedError) as error:
            raise ConfigurationError(f"filters {list(filters)} do not lie in one stream", where="filters") from error
        return stream

    async def _next_stored(self, stream: Stream, pattern: str, cursor: int, *, wait: bool) -> Message | None:
        def look() -> Message | None:
            return next(stream.after(cursor, (pattern,)), None)

        return await (self.perform_when_running("read", look) if wait else self.perform("read", look))

    def _readable(self, stream: Stream, message: Message) -> Stored | None:
        try:
            return stored(stream, message)
        except MalformedEventError as error:
            self.hooks.count("skipped", reason=error.reason)
            return None

    # -- state and objects --

    def state(self, bucket: str) -> MemoryState:
        """See ``Bus.state``."""
        return MemoryState(self, f"{self.subjects.prefix}/{bucket}")

    async def put_object(self, data: bytes) -> ObjectRef:
        """See ``Objects.put_object``."""
        sha256 = hashlib.sha256(data).hexdigest()
        uri = f"memory-obj://{self.subjects.prefix}/{sha256}"
        await self.perform("put_object", lambda: self.broker.objects.update({uri: data}))
        return ObjectRef(uri=uri, sha256=sha256, size=len(data))

    async def get_object(self, ref: ObjectRef) -> bytes:
        """See ``Objects.get_object``."""
        data = await self.perform("get_object", lambda: self.broker.objects.get(ref.uri))
        if data is None:
            raise ObjectMissingError(f"{ref.uri} is gone")
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ObjectMissingError(f"{ref.uri} is not what was stored: its sha256 differs")
        return data

    # -- replies --

    async def listen(self, instance: str, receive: Callable[[Event], None]) -> str:
        """See ``Replies.listen``."""
        address = self.subjects.reply(instance)

        def guarded(event: Event) -> None:
            try:
                receive(event)
            except Exception as error:
                self.hooks.count("failed", reason=type(error).__name__)
                _log.exception("the receiver of %s failed", address)

        def receiver(event: Event) -> None:
            self._post(lambda signal: signal.call(lambda: guarded(event)))

        await self.perform("listen", lambda: self.broker.listeners[address].append(receiver))
        self._listening.append((address, receiver))
        return address

    def reply(self, address: str, event: Event) -> None:
        """See ``Replies.reply``."""
        self._headers(event)
        delay = self.broker.faults.delay("reply")

        def send() -> None:
            if self.broker.faults.loses_reply():
                return
            for receiver in list(self.broker.listeners[address]):
                receiver(event)

        def send_late() -> None:
            asyncio.get_running_loop().call_later(delay, send)

        self.perform_now("reply", send_late if delay else send)

    # -- dead letters --

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """See ``DeadLetters.dead_letters``."""
        everything = f"{self.subjects.prefix}dlq.>"
        stream = self.broker.stream(self.subjects.prefix, everything)
        messages = await self.perform("dead_letters", lambda: list(stream.after(0, (everything,))))
        for message in messages:
            if message.rejection is not None:
                yield dead_letter(stream, message, message.rejection)

    async def reap(self) -> int:
        """See ``DeadLetters.reap``."""
        return await self.perform("reap", self._reap)

    def _reap(self) -> int:
        n = 0
        for name, group in self.broker.groups(self.subjects.prefix):
            for message, attempts in group.give_up(time.monotonic()):
                self.bury(group.stream, message, group=name, reason="max-deliver", attempts=attempts)
                n += 1
        return n

    def bury(
        self, stream: Stream, message: Message, *, group: str, reason: str, attempts: int, detail: str = ""
    ) -> None:
        """Copy a message to the dead letters, once per group; the broker's lock is held."""
        try:
            tenant = from_nats(message.headers, message.data).get("tenantid")
        except MalformedEventError:
            tenant = None  # its reason is the dead letter's, see MemoryDeliveries
        subject = self.subjects.dead_letter(group, tenant=tenant)
        origin = position(stream, message.sequence)
        rejection = Rejection(
            subject=message.subject,
            group=group,
            reason=reason,
            detail=_shortened(detail),
            attempts=attempts,
            origin=origin,
        )
        self.broker.stream(self.subjects.prefix, subject).append(
            subject,
            message.headers,
            message.data,
            message_id=derived_id(group, origin),
            now=datetime.now(UTC),
            rejection=rejection,
        )
        self.hooks.count("dead-lettered", reason=reason)
        self.broker.wake_all()

    # -- one operation against the broker --

    @property
    def signal(self) -> Signal:
        """Wakes this bus's waiters. Raises ``BusUnavailableError`` when not open."""
        if self._signal is None:
            raise BusUnavailableError("the bus is not open: call open() first, nothing was sent")
        return self._signal

    def wake(self) -> None:
        """See ``Client.wake``."""
        self._post(Signal.notify)

    def reconnected(self) -> None:
        """See ``Client.reconnected``."""
        self._post(lambda signal: signal.call(self._run_callbacks))

    def _post(self, message: Callable[[Signal], None]) -> None:
        try:
            message(self.signal)
        except RuntimeError:  # the loop was closed before the bus; others must not suffer from it
            self.hooks.count("dropped", reason="loop-closed")
            self.broker.clients.remove(self)
            self._signal = None

    async def perform(self, operation: Operation, action: Callable[[], T]) -> T:
        """Do ``action`` with the broker's lock held, and whatever failure was planned for it.

        Yields to the loop before and after, as every real broker does: callers that read, decide and write
        without a compare-and-set must be able to fail here, too.
        """
        await asyncio.sleep(0)
        result, delay = self._attempt(operation, action)
        await asyncio.sleep(delay)
        return result()

    def perform_now(self, operation: Operation, action: Callable[[], T]) -> T:
        """``perform`` for operations that do not wait."""
        result, _ = self._attempt(operation, action)
        return result()

    def _attempt(self, operation: Operation, action: Callable[[], T]) -> tuple[Callable[[], T], float]:
        with self.broker.lock:
            _ = self.signal
            fault = self.broker.faults.take(operation)
            if fault is not None and not fault.after:
                raise fault.error
            self.broker.check_running()
            result = action()
            if operation in _CHANGES:
                self.broker.wake_all()
            delay = self.broker.faults.delay(operation)

        def answer() -> T:
            if fault is not None:
                raise fault.error
            return result

        return answer, delay

    async def perform_when_running(self, operation: Operation, action: Callable[[], T]) -> T:
        """``perform`` for those that sit out a stopped broker."""
        seen = self.signal.changes
        while not self.broker.running:
            await self.signal.wait(seen)
            seen = self.signal.changes
        return await self.perform(operation, action)

    def _run_callbacks(self) -> None:
        for callback in self._callbacks:
            task = asyncio.get_running_loop().create_task(self._guarded(callback))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guarded(self, callback: Callable[[], Awaitable[None]]) -> None:
        try:
            await callback()
        except Exception as error:
            self.hooks.count("failed", reason=type(error).__name__)
            _log.exception("an on_reconnect callback failed")


def _shortened(detail: str) -> str:
    """As much of a detail as every bus keeps."""
    return detail.encode("utf-8", "replace")[:_DETAIL].decode("utf-8", "ignore")


def open_bus(url: str, settings: BusSettings, hooks: Hooks) -> MemoryBus:
    """A bus for ``memory://NAME`` or ``memory://``; see ``BusFactory``."""
    parts = urlsplit(url)
    if parts.scheme != "memory" or parts.path or parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r} is no memory bus: write memory://NAME or memory://", where="bus")
    return MemoryBus(settings, hooks, broker=broker(parts.netloc) if parts.netloc else None)


_: BusFactory = open_bus
_conforms: type[Bus] = MemoryBus
