"""Runs what a service runs: a call's function on its arguments, in a thread or as a task, never raising.

For callers, for comparison with the past second (a shadow) and with any other past (a replay).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .callers import call_with_id, calling
from .calls import serving
from .correlate import correlated
from .errors import CallCancelledError
from .http import StreamedResponse
from .watching import Step, begin, watchers
from .yielded import MOST_BYTES, MOST_ITEMS

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from .calls import CurrentCall
    from .correlate import Correlation
    from .services import Service
    from .watching import Watch

Chunks: TypeAlias = "Callable[[int, Any], bool | None]"
"""Takes an item with its number; ``False``: it wants no more."""

_MOST_BODY: Final = 8 * 1024 * 1024  # bytes of a streamed answer that are kept to be compared

LAST_WORD: Final = 2.0
"""Seconds that a handler which was told to stop has to end before it counts as stuck."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What the function returned or raised; ``later`` is how it ends, where it was not waited for.

    ``items``: how many pieces a stream had. Where ``execute`` was asked, ``yielded`` are they, a generator's items as
    the codec encodes results, an answer's as they are; ``cut``: there were more than are kept, and it was closed.
    """

    value: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    items: int | None = None
    yielded: tuple[bytes, ...] = ()
    cut: bool = False
    later: asyncio.Future[Ran] | None = None


@dataclass(slots=True, eq=False)
class Running:
    """A call whose function runs; ``cancel`` stops a coroutine, and a plain function that has not begun."""

    call: CurrentCall
    ended: asyncio.Future[Ran]
    cancel: Callable[[], object] = bool
    overdue: bool = False
    step: Step | None = None

    def tell_overdue(self) -> None:
        """Tell the handler to stop, and wait no longer than for its last word."""
        self.overdue = True
        self.call.cancel()
        self.cancel()
        asyncio.get_running_loop().call_later(LAST_WORD, self._leave)

    def _leave(self) -> None:
        if not self.ended.done():
            left, self.ended = self.ended, asyncio.get_running_loop().create_future()
            left.set_result(Ran(error=asyncio.CancelledError(), later=self.ended))


class Bodies:
    """Runs one service's function: coroutines on ``loop``, plain functions in ``executor``."""

    def __init__(self, service: Service, *, executor: Executor, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._executor = executor
        self._loop = loop

    def of(self, service: Service) -> Bodies:
        """The same for another function, like the body beside its handler."""
        return Bodies(service, executor=self._executor, loop=self._loop)

    async def execute(
        self, correlation: Correlation, call: CurrentCall, bound: inspect.BoundArguments, *, most: int | None = None
    ) -> Ran:
        """Run the function on ``bound`` for nobody but who asks; a stream is closed once ``most`` items were taken."""
        running = Running(call, asyncio.get_running_loop().create_future())
        kept = _Kept(self._service, most)
        ran = await self.run(correlation, running, bound, kept.take)
        return replace(ran, yielded=tuple(kept.parts), cut=kept.cut)

    async def run(
        self,
        correlation: Correlation,
        running: Running,
        bound: inspect.BoundArguments,
        chunks: Chunks,
    ) -> Ran:
        """Run the function on ``bound``; a generator's items go to ``chunks``."""
        context = contextvars.copy_context()
        context.run(serving.set, running.call)
        context.run(calling.set, call_with_id(running.call.callid))
        watch = self._watch(correlation, running.call, running.step) if watchers.all else None
        if watch is not None:
            context.run(watch.enter)
        began = time.perf_counter()
        run = _Run(self._service, bound, correlation, chunks)
        if self._service.kind in ("plain", "generator"):
            self._start_thread(run, context, running)
        else:
            self._start_task(run, context, running)
        try:
            ran = await running.ended
        except asyncio.CancelledError as error:  # the worker gives up waiting, and so must the body
            running.cancel()
            if watch is not None:
                watch.end(error)
            raise
        if watch is not None:
            watch.end(ran.error)
        seconds = time.perf_counter() - began
        return Ran(value=ran.value, error=ran.error, items=ran.items, seconds=seconds, later=ran.later)

    def _watch(self, correlation: Correlation, call: CurrentCall, step: Step | None) -> Watch | None:
        """Tell the watchers that the function begins; ``step`` says what there is to say of its command."""
        step = step or Step(kind="run", seam=call.seam, domain=self._service.domain, shadow=True)
        return begin(replace(step, callid=call.callid, attempt=call.attempt, correlation=correlation))

    def _start_thread(self, run: _Run, context: contextvars.Context, running: Running) -> None:
        here = asyncio.get_running_loop()
        work = self._executor.submit(context.run, run.plain)
        running.cancel = work.cancel
        work.add_done_callback(lambda done: _pass_on(here, done, running))

    def _start_task(self, run: _Run, context: contextvars.Context, running: Running) -> None:
        """Run a coroutine on the bodies' loop, by one task there and one future here."""
        here = asyncio.get_running_loop()

        def start() -> None:
            if running.ended.done():  # given up before its first step
                return
            task = self._loop.create_task(run.coroutine(), context=context)
            running.cancel = lambda: self._loop.call_soon_threadsafe(task.cancel)
            if running.call.cancelled:  # before there was anything to cancel
                task.cancel()
            task.add_done_callback(lambda done: _pass_on(here, done, running))

        self._loop.call_soon_threadsafe(start)


def _pass_on(here: asyncio.AbstractEventLoop, work: asyncio.Task[Ran] | Future[Ran], running: Running) -> None:
    """Tell the waiting side, whose loop is ``here``, how a body ended, unless nobody waits any more."""

    def tell() -> None:
        if not running.ended.done():
            running.ended.set_result(ran)

    ran = Ran(error=asyncio.CancelledError()) if work.cancelled() else work.result()  # before its first step
    with contextlib.suppress(RuntimeError):  # it outlived its worker, which said so
        here.call_soon_threadsafe(tell)


class _Run:
    """One run of the function; nothing that it raises leaves here, so SystemExit cannot end the worker."""

    def __init__(
        self,
        service: Service,
        bound: inspect.BoundArguments,
        correlation: Correlation,
        chunks: Chunks,
    ) -> None:
        self._service = service
        self._bound = bound
        self._correlation = correlation
        self._chunks = chunks

    def plain(self) -> Ran:
        try:
            with correlated(self._correlation):
                returned = self._service.function(*self._bound.args, **self._bound.kwargs)
                if self._service.kind != "generator":
                    return Ran(value=returned)
                return Ran(items=self._drain(returned))
        except BaseException as error:
            return Ran(error=error)

    def _drain(self, items: Any) -> int:
        call = serving.get()
        number = 0
        for number, item in enumerate(items, start=1):
            if call is not None and call.cancelled:
                items.close()
                raise CallCancelledError("the caller cancelled it", callid=call.callid)
            if self._chunks(number - 1, item) is False:
                items.close()
                break
        return number

    async def coroutine(self) -> Ran:
        try:
            with correlated(self._correlation):
                returned = self._service.function(*self._bound.args, **self._bound.kwargs)
                if self._service.kind == "async generator":
                    return Ran(items=await self._adrain(returned))
                value = await returned
                if isinstance(value, StreamedResponse):
                    return Ran(value=value.head, items=await self._adrain(value.items()))
                return Ran(value=value)
        except BaseException as error:
            return Ran(error=error)

    async def _adrain(self, items: Any) -> int:
        number = 0
        async with contextlib.aclosing(items):
            async for item in items:
                number += 1
                if self._chunks(number - 1, item) is False:
                    break
        return number


class _Kept:
    """What a stream yields, encoded as it comes, so that what becomes of an item later changes nothing."""

    def __init__(self, service: Service, most: int | None) -> None:
        self._codec = None if service.domain == "http" else service.codec
        self._most = most
        self._left = 2 * MOST_BYTES if self._codec else _MOST_BODY
        self.parts: list[bytes] = []
        self.cut = False

    def take(self, _number: int, item: Any) -> bool:
        """See ``Chunks``. Raises ``UnserialisableError``."""
        part: bytes = item.content if self._codec is None else self._codec.encode_result(item)
        self._left -= len(part)
        self.cut = self._left < 0 or len(self.parts) == MOST_ITEMS
        if not self.cut:
            self.parts.append(part)
        return not self.cut and len(self.parts) != self._most
