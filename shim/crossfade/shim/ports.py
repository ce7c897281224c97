"""What a bus must do. One contract suite (``tests/contract``) holds every adapter to these words.

A subject is the address of an event (see ``subjects``); a filter is a subject with ``*`` and a last ``>``.
Every method says how NATS JetStream and how Kafka fulfil it, so that the port cannot drift into one broker's
shape. All methods run on one event loop; adapters translate their client's exceptions into ``BusError``s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NewType, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from .events import Event
    from .hooks import Hooks

Position = NewType("Position", str)
"""Where an event is stored, opaque: a stream sequence on NATS, topic/partition/offset on Kafka."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BusSettings:
    """What every adapter is opened with.

    ``prefix`` separates installations on one broker. ``connect_timeout`` bounds the first connect, in
    seconds. ``client_name`` is shown by the broker's monitoring.
    """

    prefix: str = "cf"
    connect_timeout: float = 5.0
    client_name: str = "crossfade"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """A publish is durable at ``position``; ``duplicate``: an event of this id was already there."""

    position: Position
    duplicate: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An event as it lies on the bus; ``time`` is the broker's own clock."""

    subject: str
    event: Event
    position: Position
    time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How far a stream reaches. ``last``: where its newest event lies, under whatever subject.

    ``epoch`` (``[A-Za-z0-9_]+``) changes when the stream is made anew: positions of another epoch mean nothing here.
    ``whole``: everything stored after the position asked about is still there.
    """

    epoch: str
    last: Position
    whole: bool


class Delivery(Protocol):
    """One hand-out of a stored event to one consumer. Exactly one of ack, retry, reject ends it."""

    @property
    def stored(self) -> Stored:
        """The event."""
        ...

    @property
    def attempt(self) -> int:
        """1 for the first delivery. NATS: num_delivered. Kafka: counted in the groups' journal."""
        ...

    async def ack(self) -> None:
        """Finish; returns when the broker confirmed it. NATS: double ack. Kafka: an operation of the groups' journal.

        Raises ``BusAmbiguousError`` when no confirmation came: expect a redelivery.
        """
        ...

    async def retry(self, delay: float, *, reason: str) -> None:
        """Deliver again after ``delay`` seconds. NATS: nak with delay. Kafka: the journal says when it is due."""
        ...

    async def reject(self, reason: str, *, detail: str = "") -> None:
        """Move to dead letters, durably, then finish. NATS: publish, then TERM. Kafka: produce, then end it.

        ``reason`` is a short token for counters; ``detail`` a text for people, redacted by the caller.
        """
        ...

    async def extend(self) -> None:
        """Say that work goes on, so no redelivery comes for another ``ack_wait``. Kafka: the journal again."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumeOptions:
    """How a durable consumer hands out.

    ``max_in_flight``: deliveries out at once over all members of the group; the broker's own backpressure.
    ``ack_wait``: seconds without ack or extend until redelivery; ``max_deliver``: deliveries until dead letters.
    ``start``: where a group that is new begins.
    """

    max_in_flight: int = 64
    ack_wait: float = 30.0
    max_deliver: int = 5
    start: Literal["first", "new"] = "first"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """An event that could not be processed, as it arrived. ``event`` is ``None`` when it could not be read."""

    position: Position
    time: datetime
    subject: str
    group: str
    reason: str
    detail: str
    attempts: int
    origin: Position
    event: Event | None
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A key's value in a state bucket; ``revision`` grows with every change of the bucket."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a watch reports: ``value`` is ``None`` when the key was deleted or has expired."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRef:
    """A claim check: ``uri`` is what travels as ``dataref``; ``sha256`` is hex; ``size`` is bytes."""

    uri: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BusInfo:
    """What the broker says of itself.

    ``synced``: a write is on disk before its acknowledgement; ``None``: the broker does not tell.
    """

    scheme: str
    server: str
    version: str
    max_event_bytes: int
    synced: bool | None
    replicas: int
    warnings: Sequence[str] = field(default_factory=tuple)


class Emitter(Protocol):
    """Emits events that are alike."""

    def __call__(self, subject: str, event_id: str, extensions: Mapping[str, str], data: bytes) -> None:
        """As ``Publisher.emit``, of an event that happened now; ``extensions`` are those that it has beside."""
        ...


class Publisher(Protocol):
    """Puts events on the bus."""

    async def publish(self, subject: str, event: Event, *, timeout: float = 5.0) -> Ack:
        """Store the event; returns when it is durable, or as a duplicate when one of this id is there.

        Idempotent by ``event.id``: repeat after ``BusAmbiguousError`` with the same event. Raises
        ``BusUnavailableError`` (nothing was sent), ``BusAmbiguousError``, ``BusFullError``,
        ``BusRefusedError``, and before sending ``EventTooLargeError``, and ``MalformedEventError`` for an attribute
        with control characters.

        NATS: publish with Nats-Msg-Id and Nats-Expected-Stream, repeated with the same id within ``timeout``
        while a leader is elected. Kafka: numbered batches, acks=all; a second record of one event
        id counts for nobody, by the same rule in every process.
        """
        ...

    def emit(self, subject: str, event: Event) -> None:
        """Hand the event to the client without waiting; it may be lost, and then the receiver sees a gap.

        Never blocks. Raises ``BusUnavailableError`` when not connected or the client's buffer is full, and
        ``EventTooLargeError``. NATS: core publish to the stream's subject. Kafka: produce without waiting.
        """
        ...

    def emitter(self, alike: Event) -> Emitter:
        """``emit`` for many events that have the attributes of ``alike``, but for id, time and data.

        NATS and Kafka: what they have in common is written once, which is two thirds of what emitting takes.
        """
        ...


class Ledger(Protocol):
    """Appends on a condition, so that of several writers one wins and every one can find out which."""

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
        """Store the event only if the last event under the filter ``last`` lies at ``at`` (``None``: there is none).

        Returns when it is durable. Raises ``WrongPositionError`` when something else lies there: that may be an
        earlier copy of this very event whose acknowledgement was lost, so read before you judge. Raises
        ``BusAmbiguousError`` when no clean answer came: repeat the same append, then read. ``unique``: an event of
        this id that is there already counts as stored. Without it there is no deduplication, because a loser
        whose event is taken for a duplicate would be told that it won.

        NATS: expected last sequence per subject filter. Kafka: the record carries its condition, and counts when that
        holds at its own place in the partition; who sent it reads up to there. The filter must name one call.
        """
        ...


class Consumer(Protocol):
    """Hands out stored events to the members of a durable group."""

    def consume(
        self, group: str, filters: Sequence[str], options: ConsumeOptions = ...
    ) -> AbstractAsyncContextManager[Deliveries]:
        """Join ``group``; leaving the context leaves it, and what was not ended is delivered elsewhere.

        At least once, in order of storage for first deliveries. An event that cannot be decoded goes to dead
        letters with its reason and is counted, never handed out. NATS: a durable pull consumer. Kafka:
        members propose to take events, and the order of the proposals on one partition decides.
        """
        ...


class Deliveries(Protocol):
    """What a member of a group pulls from; recovers by itself from broker restarts."""

    async def next(self, *, timeout: float | None = None) -> Delivery | None:
        """The next delivery, or ``None`` after ``timeout`` seconds without one. Cancellable without loss."""
        ...

    def want(self, n: int) -> None:
        """Allow up to ``n`` deliveries in the hands of this member (default 1); the rest stays on the broker.

        Those handed out and not ended yet count.
        """
        ...


class Reader(Protocol):
    """Reads what is stored without consuming it."""

    def read(
        self,
        filter: str,  # noqa: A002 - the field's word
        *,
        after: Position | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Stored]:
        """Every event under ``filter`` in order of storage, from the first, from ``after``, or from ``since``.

        Ends at what was stored when it began (or at ``until``), unless ``follow``. Times are the broker's.
        An event that cannot be decoded is counted (``skipped``, reason of the error) and passed over. NATS: a
        pull consumer without acks that is rebuilt at its own cursor. Kafka: fetches from
        an offset, past what does not count.
        """
        ...

    async def last(self, filter: str) -> Stored | None:  # noqa: A002 - the field's word
        """The last event under ``filter`` or ``None``; never stale. NATS: a leader read. Kafka: read to the end."""
        ...

    async def extent(self, filter: str, *, after: Position | None = None) -> Extent:  # noqa: A002 - the field's word
        """How far the stream of ``filter`` reaches, and whether it is whole after ``after`` (``None``: its beginning).

        What is no position of this stream is not ``whole``. NATS: stream information, its time of creation. Kafka:
        topic id, beginning and end offsets.
        """
        ...


class State(Protocol):
    """Keyed values with compare-and-set. Keys are ``[A-Za-z0-9_.-]+`` without leading or trailing dot."""

    async def get(self, key: str) -> Entry | None:
        """The value now, never stale. NATS: leader read. Kafka: a journal, read to the leader's end."""
        ...

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Set a key that is absent; returns the revision. Raises ``WrongRevisionError`` when it is there.

        ``ttl`` is seconds, 1 at least. NATS: expected-last-subject-sequence 0. Kafka: order of one partition.
        """
        ...

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Set a key that is still at ``revision``; returns the new one. Raises ``WrongRevisionError``."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Set a key whatever it was; returns the revision."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""
        ...

    async def entries(self) -> list[Entry]:
        """Every key's value."""
        ...

    def watch(self) -> AsyncIterator[Change]:
        """Every key's value now, then each change; recovers within 3 s of a broker restart, missing nothing.

        Intermediate values may be folded into the last. NATS: a subscription as a hint plus a leader read every 2 s.
        Kafka: tail of the journal.
        """
        ...


class Objects(Protocol):
    """Holds data too large for an event."""

    async def put_object(self, data: bytes) -> ObjectRef:
        """Store ``data``; durable on return, kept as long as the commands' stream keeps commands.

        NATS: object store. Kafka: pieces on a topic of their own.
        """
        ...

    async def get_object(self, ref: ObjectRef) -> bytes:
        """The data. Raises ``ObjectMissingError`` when it is gone or its sha256 differs."""
        ...


class Replies(Protocol):
    """The fast path to the caller that waits. A hint: the log is the truth."""

    async def listen(self, instance: str, receive: Callable[[Event], None]) -> str:
        """Call ``receive`` for every reply to this process; returns the address to put in commands.

        NATS: a core subscription outside every stream. Kafka: a reply topic read from its end.
        """
        ...

    def reply(self, address: str, event: Event) -> None:
        """Send without waiting or storing. Raises ``BusUnavailableError`` when not connected."""
        ...


class DeadLetters(Protocol):
    """What could not be processed, kept until a person decides."""

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Every dead letter, oldest first."""
        ...

    async def reap(self) -> int:
        """Move events whose deliveries ran out without a word (their workers died) to dead letters.

        Returns how many. NATS: the MAX_DELIVERIES advisories, plus consumer state, since advisories are raised
        only when somebody pulls. Kafka: the groups' journal tells.
        """
        ...


class Bus(Publisher, Ledger, Consumer, Reader, Objects, Replies, DeadLetters, Protocol):
    """A connected bus."""

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached right now, as far as the client knows."""
        ...

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call ``callback`` after each reconnect, so that waiters can look up what they missed."""
        ...

    async def open(self) -> None:
        """Connect (bounded by ``connect_timeout``), create what is missing, check what is there.

        Raises ``BusUnavailableError``, ``BusRefusedError``, ``StreamMisconfiguredError``. May be called again
        after a failure. After success the adapter reconnects for ever by itself.
        """
        ...

    async def close(self) -> None:
        """Flush and disconnect; idempotent."""
        ...

    async def info(self) -> BusInfo:
        """What the broker says of itself."""
        ...

    def now(self) -> datetime:
        """The broker's time, as measured now and then and carried on by a clock that nobody steps."""
        ...

    @property
    def clock_error(self) -> timedelta:
        """How far ``now`` may be off: half the measured round trip, drift, and any step of this machine's clocks."""
        ...

    @property
    def clock_offset(self) -> timedelta:
        """How far this machine's wall clock is ahead of the broker's time. Nothing is decided by it."""
        ...

    async def check_clock(self) -> None:
        """Measure the broker's time again now; a failure leaves ``clock_error`` as it is, and is counted."""
        ...

    def state(self, bucket: str) -> State:
        """The state bucket of this name under the prefix."""
        ...


class BusFactory(Protocol):
    """What an entry point in the group ``crossfade.bus`` (scheme -> factory) is."""

    def __call__(self, url: str, settings: BusSettings, hooks: Hooks) -> Bus:
        """A bus that is not connected yet. Raises ``ConfigurationError`` for a URL it cannot use."""
        ...
