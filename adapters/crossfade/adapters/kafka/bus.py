"""The Kafka bus: connections to the brokers, and a part for each of the port's powers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crossfade.adapters._clock import BrokerClock
from crossfade.shim.errors import BusError, BusUnavailableError
from crossfade.shim.ports import BusInfo, ConsumeOptions
from crossfade.shim.subjects import Subjects

from ._answers import Answers
from ._cluster import Cluster
from ._consume import Consuming, membership
from ._deadletters import DeadLettering, Graves
from ._endpoint import parse_url
from ._groups import Groups
from ._journal import Journal
from ._limits import Limits
from ._logs import Logs, moment
from ._objects import KafkaObjects
from ._produce import Producer
from ._publish import MARGIN, Publishing
from ._read import Reading
from ._replies import KafkaReplies
from ._state import Buckets, KafkaState
from ._topics import CLOCK, COMMANDS, GROUPS, OBJECTS, REPLIES, STATE, prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from crossfade.shim.events import Event
    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import (
        Ack,
        Bus,
        BusFactory,
        BusSettings,
        DeadLetter,
        Deliveries,
        Emitter,
        Extent,
        ObjectRef,
        Position,
        State,
        Stored,
    )

    from ._endpoint import Endpoint, Options
    from ._topics import Prepared

_DEFAULTS: Final = ConsumeOptions()
_MAKING: Final = 30.0  # seconds for the topics: once in an installation's life, on a cluster that may be busy


class KafkaBus:
    """A bus on Apache Kafka (2.8 or newer). See ``crossfade.shim.ports.Bus`` for the methods."""

    def __init__(self, endpoint: Endpoint, options: Options, settings: BusSettings, hooks: Hooks) -> None:
        self._options = options
        self._prefix = settings.prefix
        self._subjects = Subjects(settings.prefix)
        self._timeout = settings.connect_timeout
        self._cluster = Cluster(endpoint, settings, hooks)
        self._prepared: Prepared | None = None
        self._reconnected: list[Callable[[], Awaitable[None]]] = []
        self._cluster.on_reconnect(self._after_reconnect)
        self._build()

    def _build(self) -> None:
        """The parts; each knows the brokers and what it is about, none knows the bus."""
        cluster, prefix = self._cluster, self._prefix
        self._producer = producer = Producer(cluster)
        self._clock = BrokerClock(self._ask_time, cluster.hooks, passing=(BusError,))
        self._logs = Logs(producer, prefix, self._clock)
        self._limits = Limits(cluster, prefix)
        self._answers = answers = Answers()
        self._publishing = Publishing(cluster, producer, self._logs, self._limits, answers)
        self._reading = Reading(cluster, self._clock)
        self._graves = Graves(cluster, self._publishing, self._subjects)
        self._groups = Groups()
        self._group_journal = Journal(cluster, producer, f"{prefix}.{GROUPS}", self._groups)
        self._buckets = Buckets()
        self._state_journal = Journal(cluster, producer, f"{prefix}.{STATE}", self._buckets)
        self._objects = KafkaObjects(cluster, producer, f"{prefix}.{OBJECTS}")
        self._replies = KafkaReplies(producer, self._subjects, self._publishing, answers, f"{prefix}.{REPLIES}")
        self._logs.of_topic(f"{prefix}.{COMMANDS}").hear = self._replies.receive
        self._dead = DeadLettering(
            cluster,
            graves=self._graves,
            reading=self._reading,
            logs=self._logs,
            journal=self._group_journal,
            groups=self._groups,
            clock=self._clock,
            family=f"{prefix}dlq",
        )

    # -- Bus ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """See ``Bus.connected``."""
        return self._prepared is not None and self._cluster.connected

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """See ``Bus.on_reconnect``."""
        self._reconnected.append(callback)

    async def _after_reconnect(self) -> None:
        for callback in self._reconnected:
            self._cluster.spawn(_call(callback))
        await self._clock.refresh()

    async def open(self) -> None:
        """See ``Bus.open``."""
        if self._prepared is not None:
            return
        self._build()
        await self._cluster.open()
        try:
            async with asyncio.timeout(max(self._timeout, _MAKING)):
                prepared = await prepare(self._cluster, self._prefix, self._options)
                self._publishing.max_bytes = prepared.max_bytes - MARGIN
                await self._limits.refresh()
                await self._clock.measure()
        except TimeoutError as error:
            await self._cluster.close()
            raise BusUnavailableError(f"the brokers did not make our topics within {_MAKING:g} s: try again") from error
        except (BusError, asyncio.CancelledError):
            await self._cluster.close()
            raise
        self._cluster.spawn(self._limits.run())
        self._cluster.spawn(self._clock.run())
        self._prepared = prepared

    async def _ask_time(self) -> datetime:
        """The time at which a broker stored a record of ours: Kafka has no other way to ask."""
        placed = await self._producer.produce(f"{self._prefix}.{CLOCK}", None, b"", [], timeout=2.0)
        return moment(placed.time)

    async def close(self) -> None:
        """See ``Bus.close``."""
        if self._prepared is not None:
            await self._producer.flush()
        self._prepared = None
        await self._cluster.close()

    async def info(self) -> BusInfo:
        """See ``Bus.info``; a broker syncs before it acknowledges where ``flush.messages`` is 1."""
        prepared = self._prepared
        if prepared is None:
            raise BusUnavailableError("the bus is closed")
        return BusInfo(
            scheme="kafka",
            server=self._cluster.servers,
            version=self._cluster.version,
            max_event_bytes=self._publishing.max_bytes,
            synced=prepared.synced,
            replicas=prepared.replicas,
            warnings=prepared.warnings,
        )

    def now(self) -> datetime:
        """See ``Bus.now``."""
        return self._clock.now()

    @property
    def clock_error(self) -> timedelta:
        """See ``Bus.clock_error``."""
        return self._clock.error

    @property
    def clock_offset(self) -> timedelta:
        """See ``Bus.clock_offset``."""
        return self._clock.offset

    async def check_clock(self) -> None:
        """See ``Bus.check_clock``."""
        await self._clock.refresh()

    def state(self, bucket: str) -> State:
        """See ``Bus.state``."""
        return KafkaState(self._cluster, self._state_journal, self._buckets, self._clock, bucket)

    # -- Publisher, Ledger, Consumer, Reader -------------------------------------------------------------------

    async def publish(self, subject: str, event: Event, *, timeout: float = 5.0) -> Ack:
        """See ``Publisher.publish``."""
        return await self._publishing.publish(subject, event, timeout=timeout)

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
        return await self._publishing.append(subject, event, last=last, at=at, unique=unique, timeout=timeout)

    def emit(self, subject: str, event: Event) -> None:
        """See ``Publisher.emit``."""
        self._publishing.emit(subject, event)

    def emitter(self, alike: Event) -> Emitter:
        """See ``Publisher.emitter``."""
        return self._publishing.emitter(alike)

    def consume(
        self, group: str, filters: Sequence[str], options: ConsumeOptions = _DEFAULTS
    ) -> AbstractAsyncContextManager[Deliveries]:
        """See ``Consumer.consume``; all filters lie in one topic."""
        consuming = Consuming(
            cluster=self._cluster,
            journal=self._group_journal,
            groups=self._groups,
            graves=self._graves,
            answers=self._answers,
            reading=self._reading,
            clock=self._clock,
        )
        return membership(consuming, self._logs.of_filters(filters), group, filters, options)

    def read(
        self,
        filter: str,  # noqa: A002 - the port's word
        *,
        after: Position | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Stored]:
        """See ``Reader.read``."""
        log = self._logs.of_filters([filter])
        return self._reading.read(log, filter, after=after, since=since, until=until, follow=follow)

    async def last(self, filter: str) -> Stored | None:  # noqa: A002 - the port's word
        """See ``Reader.last``."""
        return await self._reading.last(self._logs.of_filters([filter]), filter)

    async def extent(self, filter: str, *, after: Position | None = None) -> Extent:  # noqa: A002 - the port's word
        """See ``Reader.extent``."""
        return await self._reading.extent(self._logs.of_filters([filter]), after)

    # -- Objects, Replies, DeadLetters -------------------------------------------------------------------------

    async def put_object(self, data: bytes) -> ObjectRef:
        """See ``Objects.put_object``."""
        return await self._objects.put_object(data)

    async def get_object(self, ref: ObjectRef) -> bytes:
        """See ``Objects.get_object``."""
        return await self._objects.get_object(ref)

    async def listen(self, instance: str, receive: Callable[[Event], None]) -> str:
        """See ``Replies.listen``."""
        return await self._replies.listen(instance, receive)

    def reply(self, address: str, event: Event) -> None:
        """See ``Replies.reply``."""
        self._replies.reply(address, event)

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """See ``DeadLetters.dead_letters``."""
        return self._dead.dead_letters()

    async def reap(self) -> int:
        """See ``DeadLetters.reap``."""
        return await self._dead.reap()


async def _call(callback: Callable[[], Awaitable[None]]) -> None:
    await callback()


def open_bus(url: str, settings: BusSettings, hooks: Hooks) -> KafkaBus:
    """The bus of a ``kafka://`` URL, not yet connected; raises ``ConfigurationError``."""
    endpoint, options = parse_url(url)
    return KafkaBus(endpoint, options, settings, hooks)


if TYPE_CHECKING:
    _bus: type[Bus] = KafkaBus
    _factory: BusFactory = open_bus
