"""Wakes whoever waits on one event loop when another thread, or this one, changed the broker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Signal:
    """The waiters of one loop: note ``changes``, look at the broker, then ``wait`` for more than those."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changes = 0
        self._loop = loop
        self._waiters: dict[asyncio.Future[None], None] = {}  # a dict, because it keeps the order of arrival
        self._announced = False

    def notify(self) -> None:
        """Wake all waiters; any thread, with the broker's lock held. Raises as ``call`` does."""
        self.changes += 1
        if not self._announced:
            self._announced = True
            self.call(self._wake)

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the loop; any thread. Raises ``RuntimeError`` when the loop is closed."""
        self._loop.call_soon_threadsafe(function)

    async def wait(self, seen: int, until: float | None = None) -> None:
        """Return once there were more than ``seen`` changes, or at ``until`` (monotonic seconds)."""
        if self.changes != seen:
            return
        waiter = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            seconds = None if until is None else max(0.0, until - time.monotonic())
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            del self._waiters[waiter]

    def _wake(self) -> None:
        self._announced = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
