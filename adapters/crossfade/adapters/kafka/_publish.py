"""Publishing: a record that is durable, judged by the fold, or one that is emitted without waiting.

A publish returns when the brokers acknowledged the record and our own fold has come to it: only then it is known
whether the same event was there before. The producer repeats a lost answer's batch by its number, within the timeout.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crossfade.shim.bindings import to_kafka
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusRefusedError,
    BusUnavailableError,
    EventTooLargeError,
    WrongPositionError,
)
from crossfade.shim.ports import Ack

from ._fold import AT, LAST, SUBJECT, UNIQUE, call_of
from ._logs import offset_of, position
from ._wire import record_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Emitter, Position

    from ._answers import Answers
    from ._cluster import Cluster
    from ._limits import Limits
    from ._logs import EventLog, Logs
    from ._produce import Placed, Producer
    from ._wire import Headers

MARGIN = 4096  # bytes kept free of a record for headers that we add (dead letters)
_INVOKE = ".invoke"


class Publishing:
    """See ``Publisher`` and ``Ledger``."""

    def __init__(self, cluster: Cluster, producer: Producer, logs: Logs, limits: Limits, answers: Answers) -> None:
        self.max_bytes = 1024 * 1024 - MARGIN
        self._cluster = cluster
        self._producer = producer
        self._logs = logs
        self._limits = limits
        self._answers = answers

    def encode(self, subject: str, event: Event) -> tuple[Headers, bytes]:
        """Headers and value; ``EventTooLargeError`` by their total."""
        headers = [*to_kafka(event), (SUBJECT, subject.encode()), *self._answers.header(subject)]
        value = event.data or b""
        self.check_size(value, headers, self.max_bytes)
        return headers, value

    @staticmethod
    def check_size(value: bytes, headers: Headers, limit: int) -> int:
        """The record's bytes; ``EventTooLargeError``."""
        size = record_size(None, value, headers)
        if size > limit:
            raise EventTooLargeError(size=size, limit=limit)
        return size

    def admit(self, log: EventLog, subject: str, size: int) -> None:
        """``BusFullError`` when there is no room."""
        self._limits.admit(log.topic, size, command=subject.endswith(_INVOKE))

    async def publish(self, subject: str, event: Event, *, timeout: float) -> Ack:
        """See ``Publisher.publish``."""
        headers, value = self.encode(subject, event)
        ack = await self.store(subject, value, headers, timeout=timeout)
        if not ack.duplicate:
            self._answers.stored(event, headers)
        return ack

    async def store(self, subject: str, value: bytes, headers: Headers, *, timeout: float) -> Ack:
        """Store a record once per ``ce_id``; says where, and whether it was there before."""
        log = self._logs.of_subject(subject)
        self.admit(log, subject, record_size(None, value, headers))
        placed = await self._placed(log, subject, value, headers, timeout)
        hidden = log.verdict(placed.offset)
        first = hidden.original if hidden is not None else None
        return Ack(position=position(log.topic, placed.offset if first is None else first), duplicate=first is not None)

    async def _placed(self, log: EventLog, subject: str, value: bytes, headers: Headers, timeout: float) -> Placed:
        """Produce, and fold up to what was produced."""
        deadline = asyncio.get_running_loop().time() + timeout
        self._cluster.check_open()
        if self._cluster.connected:
            log.begin()  # beside the producing: a first publish need not wait for it twice
        placed = await self._producer.produce(log.topic, key_of(subject), value, headers, timeout=timeout)
        try:
            await log.reached(placed.offset + 1, timeout=deadline - asyncio.get_running_loop().time())
        except BusUnavailableError as error:  # something was sent
            raise BusAmbiguousError(f"{subject}: stored, but not read back to know whether it counts") from error
        return placed

    def emit(self, subject: str, event: Event) -> None:
        """See ``Publisher.emit``."""
        headers, value = self.encode(subject, event)
        log = self._logs.of_subject(subject)
        self.admit(log, subject, record_size(None, value, headers))
        self._producer.send(log.topic, key_of(subject), value, headers).add_done_callback(self._emitted)

    def _emitted(self, done: asyncio.Future[Placed]) -> None:
        if not done.cancelled() and isinstance(done.exception(), BusError):
            self._cluster.hooks.count("dropped", reason="emitted")

    def emitter(self, alike: Event) -> Emitter:
        """See ``Publisher.emitter``."""

        def emit(subject: str, event_id: str, extensions: Mapping[str, str], data: bytes) -> None:
            given = {**alike.extensions, **extensions}
            self.emit(subject, replace(alike, id=event_id, time=datetime.now(UTC), extensions=given, data=data))

        return emit

    async def append(
        self, subject: str, event: Event, *, last: str, at: Position | None, unique: bool, timeout: float
    ) -> Position:
        """See ``Ledger.append``."""
        headers, value = self.encode(subject, event)
        log = self._logs.of_subject(subject)
        if not log.indexed or call_of(last) is None:
            raise BusRefusedError(f"a condition names one call on Kafka, found {last!r}")
        self._cluster.check_open()
        wanted = None if at is None else offset_of(log.topic, at)
        if await self._is_lost(log, last, wanted, timeout):
            raise _wrong(last)
        headers += [(LAST, last.encode()), (AT, b"" if wanted is None else str(wanted).encode())]
        headers += [(UNIQUE, b"1")] if unique else []
        self.admit(log, subject, record_size(None, value, headers))
        placed = await self._placed(log, subject, value, headers, timeout)
        hidden = log.verdict(placed.offset)
        if hidden is None:
            self._answers.stored(event, headers)
            return position(log.topic, placed.offset)
        if hidden.original is None:
            raise _wrong(last)
        return position(log.topic, hidden.original)

    @staticmethod
    async def _is_lost(log: EventLog, last: str, wanted: int | None, timeout: float) -> bool:
        """Whether the condition can no longer hold, by what is folded: saves a record that would not count."""
        await log.reached(0 if wanted is None else wanted + 1, timeout=timeout)
        found = log.last_of_call(last)
        if found is None and (wanted is None or wanted < log.start_offset):
            await log.reach_back()
            found = log.last_of_call(last)
        return found != wanted


def _wrong(last: str) -> WrongPositionError:
    return WrongPositionError(f"something else lies last under {last}: read it, then decide")


def key_of(subject: str) -> bytes:
    """The partition key: the call, or all but the kind of another subject."""
    return (call_of(subject) or subject.rpartition(".")[0]).encode()
