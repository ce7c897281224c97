"""A member of a durable group, and what it was handed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusRefusedError,
    BusUnavailableError,
    MalformedEventError,
)

from ._places import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from crossfade.shim.ports import ConsumeOptions, Deliveries, Delivery, Stored

    from ._bus import MemoryBus
    from ._faults import Operation
    from ._group import Group
    from ._stream import Message


class MemoryDelivery:
    """One hand-out; fenced: when ``ack_wait`` is over, nothing it says counts any more."""

    def __init__(
        self, bus: MemoryBus, group: tuple[str, Group], stored: Stored, message: Message, attempt: int
    ) -> None:
        self._bus = bus
        self._name, self._group = group
        self._stored = stored
        self._message = message
        self._attempt = attempt
        self._ended = False

    @property
    def stored(self) -> Stored:
        """See ``Delivery.stored``."""
        return self._stored

    @property
    def attempt(self) -> int:
        """See ``Delivery.attempt``."""
        return self._attempt

    @property
    def held(self) -> bool:
        """Whether it is neither ended nor overrun."""
        return not self._ended and self._group.holds(self._message.sequence, self._attempt, time.monotonic())

    def give_back(self) -> None:
        """Let another member have it at once, unless it has ended; the broker's lock is held."""
        if self._group.holds(self._message.sequence, self._attempt, time.monotonic()):
            self._group.give_back(self._message.sequence, due=time.monotonic())

    async def ack(self) -> None:
        """See ``Delivery.ack``."""
        await self._end("ack", lambda: self._group.end(self._message.sequence))

    async def retry(self, delay: float, *, reason: str) -> None:
        """See ``Delivery.retry``; the last attempt goes to dead letters at once."""
        if self._attempt >= self._group.options.max_deliver:
            await self.reject("max-deliver", detail=reason)
            return
        await self._end(
            "retry", lambda: self._group.give_back(self._message.sequence, due=time.monotonic() + max(0.0, delay))
        )
        self._bus.hooks.count("retried", reason=reason)

    async def reject(self, reason: str, *, detail: str = "") -> None:
        """See ``Delivery.reject``; when it cannot be stored, the delivery is still its member's."""

        def bury_and_end() -> None:
            self._bus.bury(
                self._group.stream,
                self._message,
                group=self._name,
                reason=reason,
                detail=detail,
                attempts=self._attempt,
            )
            self._group.end(self._message.sequence)
            self._ended = True

        await self._bus.perform("reject", self._fenced("reject", bury_and_end))

    async def extend(self) -> None:
        """See ``Delivery.extend``."""
        await self._bus.perform(
            "extend", self._fenced("extend", lambda: self._group.extend(self._message.sequence, time.monotonic()))
        )

    async def _end(self, operation: Operation, action: Callable[[], None]) -> None:
        """Say the last word; whether it is heard or not, the member's hand is free then."""
        try:
            await self._bus.perform(operation, self._fenced(operation, action))
        except BusUnavailableError as error:
            raise BusAmbiguousError(f"{operation}: no confirmation: expect a redelivery ({error})") from error
        finally:
            self._ended = True

    def _fenced(self, operation: Operation, action: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            if self._ended:
                raise BusRefusedError(f"{operation}: this delivery has already ended")
            if not self.held:
                self._bus.hooks.count("late", reason=operation)
                raise BusAmbiguousError(
                    f"{operation}: more than ack_wait has passed, the event may be in other hands: expect a redelivery"
                )
            action()

        return act


class MemoryDeliveries:
    """A member of a group; enter it to join."""

    def __init__(self, bus: MemoryBus, name: str, filters: Sequence[str], options: ConsumeOptions) -> None:
        self._bus = bus
        self._name = name
        self._filters = filters
        self._options = options
        self._held: list[MemoryDelivery] = []
        self._want = 1
        self._group: Group

    async def __aenter__(self) -> Self:
        bus = self._bus
        _ = bus.signal
        with bus.broker.lock:
            bus.broker.check_running()
            stream = bus.broker.stream(bus.subjects.prefix, self._filters[0])
            self._group = bus.broker.join(stream, self._name, self._filters, self._options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._bus.broker.lock:
            for delivery in self._held:
                delivery.give_back()
            self._held.clear()
            self._bus.broker.wake_all()

    async def next(self, *, timeout: float | None = None) -> Delivery | None:
        """See ``Deliveries.next``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        await asyncio.sleep(self._bus.broker.faults.delay("next"))
        while True:
            seen = self._bus.signal.changes
            delivery = self._take()
            now = time.monotonic()
            if delivery is not None or (deadline is not None and now >= deadline):
                return delivery
            moments = [moment for moment in (deadline, self._group.wakes_at(now)) if moment is not None]
            await self._bus.signal.wait(seen, min(moments, default=None))

    def want(self, n: int) -> None:
        """See ``Deliveries.want``."""
        self._want = n
        self._bus.wake()

    def _take(self) -> MemoryDelivery | None:
        broker = self._bus.broker
        with broker.lock:
            fault = broker.faults.take("next")
            if fault is not None:
                raise fault.error
            self._held = [delivery for delivery in self._held if delivery.held]
            while broker.running and len(self._held) < self._want:
                taken = self._group.take(time.monotonic())
                self._count_lost()
                if taken is None:
                    break
                delivery = self._readable(*taken)
                if delivery is not None:
                    self._held.append(delivery)
                    return delivery
        return None

    def _readable(self, message: Message, attempt: int) -> MemoryDelivery | None:
        try:
            handed_out = stored(self._group.stream, message)
        except MalformedEventError as error:
            self._bus.bury(
                self._group.stream,
                message,
                group=self._name,
                reason=error.reason,
                detail=str(error),
                attempts=attempt,
            )
            self._group.end(message.sequence)
            return None
        return MemoryDelivery(self._bus, (self._name, self._group), handed_out, message, attempt)

    def _count_lost(self) -> None:
        lost, self._group.lost = self._group.lost, 0
        if lost:
            self._bus.hooks.count("dropped", reason="discarded", n=lost)


_: type[Delivery] = MemoryDelivery
_deliveries: type[Deliveries] = MemoryDeliveries
