"""The NATS JetStream bus: one connection, and a part for each of the port's powers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crossfade.adapters._clock import BrokerClock
from crossfade.shim.errors import BusAmbiguousError, BusError
from crossfade.shim.ports import BusInfo, ConsumeOptions
from crossfade.shim.subjects import Subjects

from ._connection import Connection
from ._consume import Group, membership, one_stream
from ._deadletters import DeadLettering, Graves
from ._endpoint import Endpoint, Options, parse_url
from ._errors import ApiError, NoRespondersError, client_failure
from ._ledger import NatsLedger
from ._objects import NatsObjects
from ._publish import CommandGate, Publishing
from ._read import Reading
from ._replies import NatsReplies
from ._state import NatsState
from ._streams import advisory_stream, prepare, stream_names
from ._wire import timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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


_DEFAULTS: Final = ConsumeOptions()
_ELECTION: Final = 0.25  # seconds between tries while the broker is not ready yet


class NatsBus:
    """A bus on a NATS server (2.12 or newer) with JetStream.

    ``locate`` is awaited before each connection attempt and says where the server is now. ``scheme`` is what
    ``info`` reports. See ``crossfade.shim.ports.Bus`` for the methods.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Endpoint]],
        settings: BusSettings,
        hooks: Hooks,
        *,
        scheme: str = "nats",
        options: Options | None = None,
    ) -> None:
        self._options = options or Options()
        self._scheme = scheme
        self._prefix = settings.prefix
        self._timeout = settings.connect_timeout
        self._subjects = Subjects(settings.prefix)
        self._connection = Connection(locate, settings, hooks)
        self._build()
        self._warnings: tuple[str, ...] = ()
        self._opened = False
        self._reconnected: list[Callable[[], Awaitable[None]]] = []
        self._connection.on_reconnect(self._after_reconnect)

    def _build(self) -> None:
        """The parts; each knows the connection and what it is about, none knows the bus."""
        connection, prefix, replicas = self._connection, self._prefix, self._options.replicas
        self._streams = stream_names(prefix)
        self._command = self._streams[prefix]
        self._clock = BrokerClock(self._ask_time, connection.hooks, passing=(BusError, ApiError, NoRespondersError))
        self._gate = CommandGate(connection, self._command)
        self._publishing = Publishing(connection, self._streams, self._gate)
        self._ledger = NatsLedger(connection, self._publishing)
        self._reading = Reading(connection, self._clock)
        self._graves = Graves(connection, self._publishing, self._subjects)
        dead = self._streams[f"{prefix}dlq"]
        self._dead = DeadLettering(
            connection,
            self._graves,
            self._reading,
            stream=dead,
            advisories=advisory_stream(prefix),
            consumed=tuple(name for name in self._streams.values() if name != dead),
        )
        self._objects = NatsObjects(connection, prefix, replicas)
        self._replies = NatsReplies(connection, self._subjects)

    # -- Bus ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """See ``Bus.connected``."""
        return self._connection.connected

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """See ``Bus.on_reconnect``."""
        self._reconnected.append(callback)

    async def _after_reconnect(self) -> None:
        for callback in self._reconnected:
            self._connection.spawn(_call(callback))
        await self._clock.refresh()

    async def open(self) -> None:
        """See ``Bus.open``."""
        if self._opened:
            return
        deadline = asyncio.get_running_loop().time() + self._timeout
        await self._connection.open()
        try:
            await self._prepare(deadline)
        except (ApiError, NoRespondersError, BusError) as error:
            await self._connection.close()
            if isinstance(error, NoRespondersError):
                error = ApiError({"code": 503, "err_code": 10039, "description": "JetStream does not answer"})
            raise client_failure(error, "opening the bus") from error
        except asyncio.CancelledError:
            await self._connection.close()
            raise
        self._connection.spawn(self._gate.run())
        self._connection.spawn(self._clock.run())
        self._opened = True

    async def _prepare(self, deadline: float) -> None:
        """Make and check streams; a cluster that is still electing is waited for until ``deadline`` (loop)."""
        while True:
            try:
                self._warnings = tuple(await prepare(self._connection, self._prefix, self._options.replicas))
                await self._gate.refresh()
                await self._clock.measure()
            except (ApiError, NoRespondersError, BusAmbiguousError) as error:
                # A cluster without a leader says so in one of three ways, silence among them.
                passing = not isinstance(error, ApiError) or error.passing
                if not passing or asyncio.get_running_loop().time() + _ELECTION > deadline:
                    raise
                await asyncio.sleep(_ELECTION)
            else:
                return

    async def _ask_time(self) -> datetime:
        """The time of the leader of the commands' stream, which its STREAM.INFO answers tell."""
        return timestamp((await self._connection.api(f"STREAM.INFO.{self._command}"))["ts"])

    async def close(self) -> None:
        """See ``Bus.close``."""
        self._opened = False
        await self._connection.close()

    async def info(self) -> BusInfo:
        """See ``Bus.info``; NATS does not tell a client how it syncs, so that is the operator's statement."""
        server, version = self._connection.server_info()
        try:
            command = await self._connection.api(f"STREAM.INFO.{self._command}")
        except (ApiError, NoRespondersError) as error:
            raise client_failure(error, "info") from error
        return BusInfo(
            scheme=self._scheme,
            server=server,
            version=version,
            max_event_bytes=self._connection.max_message,
            synced=self._options.synced,
            replicas=command["config"]["num_replicas"],
            warnings=self._warnings,
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
        return NatsState(self._connection, f"{self._prefix}_{bucket}", self._options.replicas)

    async def prepare(self, buckets: Iterable[str]) -> None:
        """Make everything that others use and may not make: the streams are there by now, these are the rest.

        Raises ``BusError``.
        """
        for bucket in buckets:
            await self.state(bucket).entries()
        await self._objects.prepare()

    # -- Publisher, Consumer, Reader ---------------------------------------------------------------------------

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
        return await self._ledger.append(subject, event, last=last, at=at, unique=unique, timeout=timeout)

    def emit(self, subject: str, event: Event) -> None:
        """See ``Publisher.emit``."""
        self._publishing.emit(subject, event)

    def emitter(self, alike: Event) -> Emitter:
        """See ``Publisher.emitter``."""
        return self._publishing.emitter(alike)

    def consume(
        self, group: str, filters: Sequence[str], options: ConsumeOptions = _DEFAULTS
    ) -> AbstractAsyncContextManager[Deliveries]:
        """See ``Consumer.consume``; all filters lie in one stream."""
        stream = one_stream(self._streams, filters)
        member_of = Group(stream=stream, name=group, filters=filters, options=options)
        return membership(self._connection, self._graves, member_of)

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
        stream = one_stream(self._streams, [filter])
        return self._reading.read(stream, filter, after=after, since=since, until=until, follow=follow)

    async def last(self, filter: str) -> Stored | None:  # noqa: A002 - the port's word
        """See ``Reader.last``."""
        return await self._reading.last(one_stream(self._streams, [filter]), filter)

    async def extent(self, filter: str, *, after: Position | None = None) -> Extent:  # noqa: A002 - the port's word
        """See ``Reader.extent``."""
        return await self._reading.extent(one_stream(self._streams, [filter]), after)

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


def open_bus(url: str, settings: BusSettings, hooks: Hooks) -> NatsBus:
    """The bus of a ``nats://`` or ``tls://`` URL, not yet connected; raises ``ConfigurationError``."""
    endpoint, options = parse_url(url)

    async def locate() -> Endpoint:
        return endpoint

    return NatsBus(locate, settings, hooks, scheme=url.partition(":")[0], options=options)


if TYPE_CHECKING:
    _bus: type[Bus] = NatsBus
    _factory: BusFactory = open_bus
