"""One reader of the bus for all browsers of this process, and who waits for what it reads.

The bus hands every UI event to this process once, in order and with its place (the port's ``read``: one consumer,
rebuilt at its own cursor). A core subscription would be cheaper still, and could not say where an event lies, so
nobody could resume from it. What was read lies in the ring; followers are woken and look there.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import BusError, MalformedEventError
from crossfade.shim.hooks import report

from .ring import Owner, Ring
from .visible import visible

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from crossfade.shim.ports import Bus, Position, Stored
    from crossfade.shim.subjects import Subjects

PRELOAD: Final = timedelta(seconds=60)
"""How far back a new process reads first: browsers of the one before it come back all at once."""

CATCH_UPS: Final = 8
"""Reads of the bus for browsers that come back, at once."""

_PAUSE: Final = 0.5  # seconds before the bus is asked again

_CLOCKS: Final = timedelta(seconds=60)  # by which the clocks of a broker's leaders may differ

_log = logging.getLogger("crossfade")


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who is woken when an event of theirs arrives. ``closed``: why they must leave."""

    owner: Owner
    token: str = ""
    closed: str = ""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Look again."""
        self._woken.set()

    def close(self, reason: str) -> None:
        """Leave; the first reason counts."""
        self.closed = self.closed or reason
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Until woken; ``False`` after ``seconds`` without."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Hub:
    """Reads ``{p}ui.>``. Run ``run`` as a task; everything else may be asked once ``ready`` is set."""

    def __init__(self, bus: Bus, subjects: Subjects, redact: Callable[[Any], Any], *, ring: Ring | None = None) -> None:
        self.bus = bus
        self.subjects = subjects
        self.redact = redact
        self.ring = ring or Ring()
        self.ready = asyncio.Event()
        self.generation = 0
        self.epoch = ""
        self.total = 0
        self.head: Position | None = None
        self._head_time: datetime | None = None
        self.catching_up = asyncio.Semaphore(CATCH_UPS)
        self._everything = f"{subjects.prefix}ui.>"
        self._waiting: dict[Owner, set[Waiter]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Read until cancelled, through every failure of the bus."""
        self.bus.on_reconnect(self._again)
        try:
            while True:
                self._reading = asyncio.create_task(self._read_guarded())
                await asyncio.wait({self._reading})
        finally:
            if self._reading is not None:
                self._reading.cancel()

    async def _again(self) -> None:
        """After a reconnect the stream may be another one: look before reading on."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read_guarded(self) -> None:
        try:
            await self._read()
        except BusError as error:
            report.count("stream-interrupted", reason=type(error).__name__)
            await asyncio.sleep(_PAUSE)
        except Exception as error:  # one bad moment must not end everybody's stream for good
            report.count("stream-interrupted", reason=type(error).__name__)
            _log.exception("the reader of the UI stream failed and begins again")
            await asyncio.sleep(_PAUSE)

    async def _read(self) -> None:
        extent = await self.bus.extent(self._everything, after=self.head)
        if self.head is not None and (extent.epoch != self.epoch or not extent.whole):
            self._start_over("restored" if extent.epoch != self.epoch else "gone")
        self.epoch = extent.epoch
        if self.head is None:
            self.head = extent.last
            await self._take_all(self.bus.read(self._everything, since=self.bus.now() - PRELOAD))
        self.ready.set()
        self._wake_all()
        await self._take_all(self.bus.read(self._everything, after=self.head, follow=True))

    async def _take_all(self, events: Any) -> None:
        async with aclosing(cast("AsyncGenerator[Stored]", events)) as found:
            async for stored in found:
                self._take(stored)

    def _start_over(self, reason: str) -> None:
        """What lies between is lost: everybody is told, nobody resumes across it."""
        report.count("stream-reset", reason=reason)
        self.ready.clear()
        self.ring.clear()
        self.head = None
        self.generation += 1

    def _wake_all(self) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.wake()

    def _take(self, stored: Stored) -> None:
        self.head, self._head_time = stored.position, stored.time
        data = self.shown(stored)
        if data is None:
            return
        owner = owner_of(stored.subject)
        self.ring.add(
            owner, stored.position, kind=stored.event.type, callid=stored.event.get("callid") or "", data=data
        )
        for waiter in self._waiting.get(owner, ()):
            waiter.wake()

    def shown(self, stored: Stored) -> bytes | None:
        """What browsers see of it; ``None``, counted, for what they do not."""
        try:
            data = visible(stored.event, self.redact)
        except MalformedEventError as error:
            report.count("not-shown", reason=error.reason)
            return None
        if data is None:
            report.count("not-shown", reason="type")
        return data

    def may_come(self, stored: Stored, number: int | None, at: int) -> bool:
        """Whether the ring has ``stored`` behind ``at``, or will: it is not there yet, and not known to be older."""
        if number is not None:
            return number > at
        return self._head_time is None or stored.time > self._head_time - _CLOCKS

    # -- who waits -----------------------------------------------------------------------------------------------

    def join(self, waiter: Waiter) -> None:
        """Wake it from now on."""
        self._waiting.setdefault(waiter.owner, set()).add(waiter)
        self.total += 1

    def leave(self, waiter: Waiter) -> None:
        """Wake it no more."""
        waiters = self._waiting[waiter.owner]
        waiters.remove(waiter)
        self.total -= 1
        if not waiters:
            del self._waiting[waiter.owner]

    def count(self, owner: Owner) -> int:
        """How many of one user wait."""
        return len(self._waiting.get(owner, ()))

    def close(self, reason: str, *, token: str | None = None) -> None:
        """Send away everybody, or who came with this token."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                if token in (None, waiter.token):
                    waiter.close(reason)


def owner_of(subject: str) -> Owner:
    """Tenant and user of ``{p}ui.{tenant}.{user}.{run}.{type}``, as tokens."""
    _, tenant, user, _ = subject.split(".", 3)
    return tenant, user
