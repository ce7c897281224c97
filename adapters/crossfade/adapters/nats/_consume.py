"""Consuming: durable groups, deliveries that know when they no longer own their event, and dead letters.

Rules
- A delivery past its ``ack_wait`` may belong to another worker by now: measured, a late ack removes the event under
  the other's hands and a late nak starts a third delivery. So ack, retry, reject and extend are refused then.
- The delay of a retry is ours (nak with delay); the consumer has no ``backoff``, which would change what delay means.
- Every end is confirmed by the broker (double ack).
- Reject: first the dead letter is durable, then the event is terminated.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusRefusedError,
    BusUnavailableError,
    ConfigurationError,
    MalformedEventError,
)
from crossfade.shim.subjects import check_group

from ._errors import CONSUMER_MISSING, ApiError, NoRespondersError, client_failure
from ._pull import Pull
from ._wire import Metadata, decode, metadata, position

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from crossfade.shim.ports import ConsumeOptions, Delivery, Stored

    from ._connection import Connection, Message
    from ._deadletters import Graves

_SECOND: Final = 1_000_000_000
_CONFIRM: Final = 5.0  # seconds to wait for the broker's confirmation of an ack
_PAUSE: Final = 0.25  # seconds before asking again where nobody answers
_WAITING: Final = 4096  # pull requests a consumer may hold, over all members
EXHAUSTED: Final = "max-deliver"  # the reason of a dead letter whose deliveries ran out
OURS: Final = "crossfade"  # begins the reason of a termination of ours, so reaping leaves it alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A durable consumer: its stream, its name, what it selects and how it hands out."""

    stream: str
    name: str
    filters: Sequence[str]
    options: ConsumeOptions

    def __post_init__(self) -> None:
        check_group(self.name)


class _Delivery:
    """See ``Delivery``."""

    def __init__(self, member: Member, message: Message, meta: Metadata, stored: Stored, lease_from: float) -> None:
        self._member = member
        self._message = message
        self._meta = meta
        self._stored = stored
        self._deadline = lease_from + member.options.ack_wait
        self._state: Literal["held", "ended", "lost"] = "held"

    @property
    def stored(self) -> Stored:
        """See ``Delivery.stored``."""
        return self._stored

    @property
    def attempt(self) -> int:
        """See ``Delivery.attempt``."""
        return self._meta.delivered

    @property
    def held(self) -> bool:
        """Whether it is still ours: not ended, and nobody else may have the event by now."""
        return self._state == "held" and self._member.time() < self._deadline

    async def ack(self) -> None:
        """See ``Delivery.ack``."""
        self._own("ack")
        try:
            await self._tell(b"+ACK")
        finally:
            self._end("ended")

    async def retry(self, delay: float, *, reason: str) -> None:
        """See ``Delivery.retry``; the last attempt goes to dead letters at once."""
        if self.attempt >= self._member.options.max_deliver:
            await self.reject(EXHAUSTED, detail=reason)
            return
        self._own("retry")
        self._member.connection.hooks.count("retried", reason=reason)
        try:
            nak = b"-NAK " + json.dumps({"delay": max(0, int(delay * _SECOND))}).encode()
            # Not repeated: once it took effect, a second one would start another delivery.
            await self._tell(nak, repeat=False)
        finally:
            self._end("ended")

    async def reject(self, reason: str, *, detail: str = "") -> None:
        """See ``Delivery.reject``; when dead letters cannot be stored, the delivery is still yours."""
        self._own("reject")
        await self._member.bury(self._message, self._meta, reason, detail)
        try:
            await self._tell(f"+TERM {OURS} {reason}".encode())
        finally:
            self._end("ended")

    async def extend(self) -> None:
        """See ``Delivery.extend``."""
        self._own("extend")
        sent = self._member.time()
        await self._tell(b"+WPI")
        self._deadline = sent + self._member.options.ack_wait

    def lose(self) -> None:
        """Give it up without a word: the event is delivered again after ``ack_wait``."""
        self._end("lost")

    def put_back(self) -> None:
        """Return one that was never handed out, so that another member gets it at once."""
        try:
            self._member.connection.send(self._message.reply, b"-NAK")
        except BusUnavailableError:
            self._member.connection.hooks.count("retried", reason="left-disconnected")  # after ack_wait, then
        self._end("lost")

    def _end(self, state: Literal["ended", "lost"]) -> None:
        if self._state == "held":
            self._state = state
            self._member.released(self)

    def _own(self, act: str) -> None:
        """Refuse a word about a delivery that is no longer ours."""
        if self.held:
            return
        if self._state == "ended":
            raise BusRefusedError(f"{act}: this delivery has already ended")
        self._end("lost")
        self._member.connection.hooks.count("late", reason=act)
        raise BusAmbiguousError(
            f"{act}: ack_wait has passed or its member has left, the event may be in other hands: expect a redelivery"
        )

    async def _tell(self, word: bytes, *, repeat: bool = True) -> None:
        """Say ``word`` and have it confirmed, over a reconnect too; ``repeat`` it when the answer was lost."""
        connection = self._member.connection
        until = min(self._deadline, self._member.time() + _CONFIRM)
        while True:
            try:
                await connection.request(self._message.reply, word, timeout=max(0.0, until - self._member.time()))
            except NoRespondersError as error:
                # The consumer is gone, or its stream has no leader just now.
                if self._member.time() + _PAUSE > until:
                    raise BusAmbiguousError("the consumer does not answer: expect a redelivery") from error
                await asyncio.sleep(_PAUSE)
            except (BusUnavailableError, BusAmbiguousError) as error:
                connection.check_open()
                left = until - self._member.time()
                lost = isinstance(error, BusAmbiguousError) and not repeat
                if lost or left <= 0 or not await connection.wait_connected(left):
                    raise BusAmbiguousError(f"no confirmation: expect a redelivery ({error})") from error
            else:
                return


class Member:
    """One member of a group; see ``Deliveries``."""

    def __init__(self, connection: Connection, graves: Graves, group: Group) -> None:
        self.connection = connection
        self.options = group.options
        self.time = asyncio.get_running_loop().time
        self._graves = graves
        self._group = group
        self._ready: deque[_Delivery] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._out: set[_Delivery] = set()  # held by us, handed out or not yet
        self._held = 0  # the same, with those on their way to dead letters
        self._want = 1
        self._floor = 0
        tick = min(1.0, max(0.02, group.options.ack_wait / 10))
        # A third of ack_wait passes between two signs of life, so no request of a stopped member meets its redelivery.
        self._pull = Pull(connection, group.stream, self, tick=tick, expires=group.options.ack_wait * 2 / 3)

    # -- Deliveries --------------------------------------------------------------------------------------------

    async def next(self, *, timeout: float | None = None) -> Delivery | None:
        """See ``Deliveries.next``."""
        deadline = None if timeout is None else self.time() + timeout
        while (delivery := self._take()) is None:
            self.connection.check_open()
            if deadline is not None and self.time() >= deadline:
                return None
            await self._arrival(deadline)
        return delivery

    def _take(self) -> _Delivery | None:
        """One that is still ours; taken in the step that returns it, so a cancelled ``next`` loses nothing."""
        while self._ready:
            delivery = self._ready.popleft()
            if delivery.held:
                return delivery
            self.connection.hooks.count("late", reason="buffered")
            delivery.lose()
        return None

    async def _arrival(self, deadline: float | None) -> None:
        """Wait for a delivery, the deadline, or the end of the bus; each delivery wakes one who waits."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = None if deadline is None else loop.call_at(deadline, _release, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # it was our turn: let another take it
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def want(self, n: int) -> None:
        """See ``Deliveries.want``."""
        self._want = n
        self._pull.width = max(1, n)
        self._pull.poke()

    # -- life cycle --------------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Make the consumer and begin to pull."""
        await self._pull.start()
        self.connection.listeners.add(self._wake_all)

    async def leave(self) -> None:
        """Stop pulling; what nobody took goes back at once."""
        self.connection.listeners.discard(self._wake_all)
        await self._pull.stop()
        while self._ready:
            self._ready.popleft().put_back()
        for delivery in list(self._out):
            delivery.lose()

    async def ensure(self) -> str:
        """Make the consumer, or bring it up to our options."""
        config = self._config()
        try:
            found: dict[str, Any] = await self.connection.api(f"CONSUMER.INFO.{self._group.stream}.{self._group.name}")
        except ApiError as error:
            if error.code != CONSUMER_MISSING:
                raise
            self._start_at(config)
        else:
            self._keep_start(config, found["config"])
        made = await self.connection.api(
            f"CONSUMER.CREATE.{self._group.stream}.{self._group.name}",
            {"stream_name": self._group.stream, "config": config},
        )
        self._floor = max(self._floor, int(made["ack_floor"]["stream_seq"]))
        return self._group.name

    def _config(self) -> dict[str, Any]:
        return {
            "name": self._group.name,
            "durable_name": self._group.name,
            "ack_policy": "explicit",
            "ack_wait": int(self.options.ack_wait * _SECOND),
            "max_deliver": self.options.max_deliver,
            "max_ack_pending": self.options.max_in_flight,
            "max_waiting": _WAITING,
            "filter_subjects": list(self._group.filters),
            "deliver_policy": "all" if self.options.start == "first" else "new",
            "replay_policy": "instant",
        }

    def _start_at(self, config: dict[str, Any]) -> None:
        """A consumer that was there when we joined and was deleted since goes on after what was acknowledged."""
        if self._floor:
            self.connection.hooks.count("retried", reason="consumer-recreated")
            config.update(deliver_policy="by_start_sequence", opt_start_seq=self._floor + 1)

    @staticmethod
    def _keep_start(config: dict[str, Any], found: Mapping[str, Any]) -> None:
        """Where a group began cannot be changed, and matters to new groups only; neither can its waiting list."""
        for name in ("deliver_policy", "opt_start_seq", "opt_start_time", "max_waiting"):
            config.pop(name, None)
            if name in found:
                config[name] = found[name]

    # -- receiving ---------------------------------------------------------------------------------------------

    def free(self) -> int:
        """Places left in our hands."""
        return self._want - self._held

    def released(self, delivery: _Delivery | None) -> None:
        """A delivery ended; its place may be asked for."""
        if delivery is not None:
            self._out.discard(delivery)
        self._held -= 1
        self._pull.poke()

    def tick(self) -> None:
        """Free the places of deliveries that lapsed: their members said no word in time."""
        for delivery in [delivery for delivery in self._out if not delivery.held]:
            if delivery not in self._ready:
                delivery.lose()

    def _wake(self) -> None:
        """Wake the first who waits."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            _release(waiter)

    def idle(self) -> None:
        """Nothing to do: who waits goes on waiting."""

    def receive(self, message: Message) -> None:
        """Keep a delivery for ``next``."""
        meta = metadata(message.reply)
        self._held += 1
        try:
            stored = decode(message, meta)
        except MalformedEventError as error:
            self.connection.spawn(self._reject_malformed(message, meta, error))
            return
        delivery = _Delivery(self, message, meta, stored, self._pull.not_before)
        self._out.add(delivery)
        self._ready.append(delivery)
        self._wake()

    async def _reject_malformed(self, message: Message, meta: Metadata, error: MalformedEventError) -> None:
        try:
            await self.bury(message, meta, error.reason, str(error))
            await self.connection.request(message.reply, f"+TERM {OURS} {error.reason}".encode(), timeout=_CONFIRM)
        except (BusError, NoRespondersError):
            # It comes again after ack_wait; a second dead letter of it is a duplicate.
            self.connection.hooks.count("retried", reason="dead-letter")
        finally:
            self.released(None)

    async def bury(self, message: Message, meta: Metadata, reason: str, detail: str) -> None:
        """Make the event's dead letter durable."""
        await self._graves.bury(
            group=self._group.name,
            reason=reason,
            detail=detail,
            attempts=meta.delivered,
            subject=message.subject,
            headers=message.headers or {},
            data=message.data,
            origin=position(meta.stream_seq),
            stream=self._group.stream,
        )


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


@asynccontextmanager
async def membership(connection: Connection, graves: Graves, group: Group) -> AsyncGenerator[Member]:
    """Be a member of ``group`` for the time of the context."""
    member = Member(connection, graves, group)
    try:
        await member.join()
    except (ApiError, NoRespondersError) as error:
        raise client_failure(error, f"consumer group {group.name}") from error
    try:
        yield member
    finally:
        await member.leave()


def one_stream(streams: Mapping[str, str], filters: Sequence[str]) -> str:
    """The one stream all ``filters`` lie in; ``ConfigurationError`` when they do not."""
    found = {streams.get(pattern.partition(".")[0]) for pattern in filters}
    if len(found) != 1 or None in found:
        raise ConfigurationError(
            f"filters {list(filters)} must all begin with one of {', '.join(streams)}, the same for all",
            where="filters",
        )
    return str(found.pop())
