"""How many bodies of a seam run at once, and how one that waits for a nested call makes room for others.

A handler that waits for a call over the bus lends its slot while it waits, or a full worker would wait for itself
(A calls B, and B calls A), and takes it back before it goes on. So no more bodies than the limit *run*; more may wait,
up to ``LENDERS`` of a seam: whoever comes after those keeps its slot while it waits. A coroutine that has several
nested calls under way at once counts as waiting until the last of them has ended; one that gives such a wait up (a
timeout of its own) takes its slot back at once, and the next one that wants it waits.

Everything here belongs to one loop, the one that serves the bus; ``lent`` and ``alent`` are for other threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from .calls import serving
from .hooks import report

if TYPE_CHECKING:
    import queue
    from collections.abc import AsyncGenerator, Callable, Generator

LENDERS: Final = 64
"""Handlers of one seam in one worker that may wait with their slot lent; a plain function holds a thread meanwhile."""


class Slots:
    """The slots of one seam in one worker; ``widen`` is told how many deliveries may be in hand, from 0."""

    def __init__(self, seam: str, limit: int) -> None:
        self.seam = seam
        self.limit = limit
        self.widen: Callable[[int], None] = _nobody
        self.stuck = 0
        self._free = limit  # negative while one took its slot back at once and another had it
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lenders = 0

    async def take(self) -> None:
        """Wait for a slot, first come first served."""
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it was ours already
            raise

    def seize(self) -> None:
        """Take a slot at once, even if there is none."""
        self._free -= 1

    def give(self) -> None:
        """A slot is free: the next may have it."""
        self._free += 1
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    @property
    def wanted(self) -> int:
        """Deliveries that may be in hand: what waits with its slot lent makes room, what is stuck takes it."""
        return self.limit + self._lenders - self.stuck

    def admit(self) -> bool:
        """Whether one more may lend its slot."""
        if self._lenders >= LENDERS:
            report.count("skipped", seam=self.seam, reason="lenders")
            return False
        self._lenders += 1
        self.widen(self.wanted)
        return True

    def dismiss(self) -> None:
        """One that lent its slot has ended, and its delivery with it: asked for is no more than may come."""
        self._lenders -= 1
        self.widen(self.wanted)

    def stick(self, change: int) -> None:
        """A body that does not end has a slot for good (1), or has ended after all (-1)."""
        self.stuck += change
        self.widen(self.wanted)


class Slot:
    """One delivery's slot: held, or lent while its handler waits."""

    def __init__(self, slots: Slots, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._slots = slots
        self._waits = 0
        self._held = True
        self._lender = False
        self._left = False
        self._over = False

    @property
    def over(self) -> bool:
        """Whether nobody may have it back any more."""
        return self._over

    def lend(self) -> None:
        """The handler begins to wait."""
        self._waits += 1
        if not self._held or self._over or self._left:
            return
        if not self._lender:
            self._lender = self._slots.admit()
        if self._lender:
            self._held = False
            self._slots.give()

    async def take_back(self) -> None:
        """The handler goes on, once it has a slot again; whoever is cancelled meanwhile has it at once."""
        self._waits -= 1
        if self._waits or self._held or self._over:
            return
        try:
            await self._slots.take()
        except asyncio.CancelledError:
            self._slots.seize()
            self._got()
            raise
        self._got()

    def resume(self) -> None:
        """The handler goes on at once: it gave up waiting."""
        self._waits -= 1
        if not (self._waits or self._held or self._over):
            self._slots.seize()
            self._held = True

    def _got(self) -> None:
        if self._held or self._waits or self._over:  # taken back twice, or waiting again already
            self._slots.give()
        else:
            self._held = True

    def leave(self, ended: asyncio.Future[Any]) -> None:
        """The delivery ends before its body does: the slot is stuck until then, unless it is lent."""
        self._left = True
        stuck = int(self._held)
        self._dismiss()
        self._slots.stick(stuck)
        ended.add_done_callback(lambda _: self._unstick(stuck))

    def _unstick(self, stuck: int) -> None:
        self._slots.stick(-stuck)
        self._left = False
        self.end()

    def end(self) -> None:
        """The delivery has ended, and so has its body, unless it was left."""
        if self._left:
            return
        self._over = True
        self._dismiss()
        if self._held:
            self._held = False
            self._slots.give()

    def _dismiss(self) -> None:
        if self._lender:
            self._lender = False
            self._slots.dismiss()


def current_slot() -> Slot | None:
    """The slot of the handler that this code runs in, if it has one to lend."""
    call = serving.get()
    return None if call is None else call.slot


@contextmanager
def lent() -> Generator[None]:
    """Lend this handler's slot while its thread waits inside."""
    slot = current_slot()
    if slot is None or slot.over:
        yield
        return
    slot.loop.call_soon_threadsafe(slot.lend)
    try:
        yield
    finally:
        if not slot.over:  # else the worker is gone, and its loop with it
            asyncio.run_coroutine_threadsafe(slot.take_back(), slot.loop).result()


@asynccontextmanager
async def alent() -> AsyncGenerator[None]:
    """``lent`` for coroutines."""
    slot = current_slot()
    if slot is None or slot.over:
        yield
        return
    slot.loop.call_soon_threadsafe(slot.lend)
    try:
        yield
    except asyncio.CancelledError:
        if not slot.over:
            slot.loop.call_soon_threadsafe(slot.resume)
        raise
    except BaseException:
        await _back(slot)
        raise
    await _back(slot)


async def _back(slot: Slot) -> None:
    if not slot.over:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(slot.take_back(), slot.loop))


def next_of(items: queue.SimpleQueue[Any]) -> Any:
    """The next of ``items``; a handler lends its slot only where it has to wait for it."""
    if not items.empty():
        return items.get()
    with lent():
        return items.get()


async def anext_of(items: asyncio.Queue[Any]) -> Any:
    """``next_of`` for coroutines."""
    if not items.empty():
        return items.get_nowait()
    async with alent():
        return await items.get()


def _nobody(_places: int) -> None:
    """No deliveries yet."""
