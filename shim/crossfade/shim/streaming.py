"""Generators over the bus: the worker sends numbered items, the call site yields them in order.

Items come by reply, and lie in the stream for the UI for a while; the result says how many there were, so a lost
reply is noticed and read again. A stream that has begun is never begun again on another path.
"""

from __future__ import annotations

import asyncio
import json
import queue
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from ._loop import wait_for
from ._owned import astream_owned, stream_owned
from ._routes import result_of
from .errors import BusError, OutcomeUnknownError
from .events import TYPES
from .hooks import report
from .outcomes import Answer
from .slots import anext_of, next_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping
    from concurrent.futures import Future

    from ._routes import Command, OverBus
    from ._runtime import Runtime
    from .events import Event
    from .seam import Seam

_GAP: Final = 2.0  # seconds for items that the result counts and no reply brought


def stream(
    route: OverBus,
    runtime: Runtime,
    seam: Seam,
    *,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Generator[Any, Any, Any]:
    """A generator whose items come over the bus; nothing is sent before the first ``next``, as with a body."""
    command, body = route.command(seam, body, args, kwargs), route.legacy(seam, body)
    if command is None:
        return (yield from cast("Generator[Any, Any, Any]", body(*args, **kwargs)))
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    incoming = Incoming(command, items.put)
    asking = incoming.start(runtime)
    try:
        while True:
            yield from incoming.ready()
            if incoming.answer is not None:
                break
            incoming.take(next_of(items))
        if route.may_fall_back(command, incoming.answer) and incoming.yielded == 0:
            return (yield from stream_owned(runtime, command, incoming.answer, body(*args, **kwargs)))
        yield from incoming.rest(wait_for(runtime.thread.spawn(incoming.missing(runtime))))
    finally:
        incoming.close(runtime, asking)
    return None


async def astream(
    route: OverBus,
    runtime: Runtime,
    seam: Seam,
    *,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> AsyncGenerator[Any, Any]:
    """``stream`` for async generators."""
    command, body = route.command(seam, body, args, kwargs), route.legacy(seam, body)
    if command is None:
        async for item in body(*args, **kwargs):
            yield item
        return
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Any] = asyncio.Queue()
    incoming = Incoming(command, lambda item: loop.call_soon_threadsafe(items.put_nowait, item))
    asking = incoming.start(runtime)
    try:
        while True:
            for item in incoming.ready():
                yield item
            if incoming.answer is not None:
                break
            incoming.take(await anext_of(items))
        if route.may_fall_back(command, incoming.answer) and incoming.yielded == 0:
            async with aclosing(astream_owned(runtime, command, incoming.answer, body(*args, **kwargs))) as owned:
                async for item in owned:
                    yield item
            return
        for item in incoming.rest(await asyncio.wrap_future(runtime.thread.spawn(incoming.missing(runtime)))):
            yield item
    finally:
        incoming.close(runtime, asking)


@dataclass(slots=True)
class Incoming:
    """Items as they come, put in order."""

    command: Command
    put: Callable[[Any], object]
    answer: Answer | None = None
    yielded: int = 0
    _waiting: dict[int, Any] = field(default_factory=dict[int, Any])

    def start(self, runtime: Runtime) -> Future[Answer]:
        """Send the command; items and the answer go to ``put``."""
        runtime.calls.listeners[self.command.callid] = self._heard
        asking = runtime.thread.spawn(runtime.calls.ask(self.command))
        asking.add_done_callback(self.put)
        return asking

    def close(self, runtime: Runtime, asking: Future[Answer]) -> None:
        """The consumer is done; if the call is not, it is given up, and its worker told."""
        runtime.calls.listeners.pop(self.command.callid, None)
        asking.cancel()

    def _heard(self, event: Event) -> None:
        if TYPES.get(event.type) == "progress":
            self.put(event)

    def take(self, item: Any) -> None:
        """One event of an item, or the finished question."""
        if hasattr(item, "extensions"):
            self._take_event(item)
        elif item.cancelled():
            self.answer = Answer(kind="unknown", reason="cancelled")
        else:
            self.answer = item.result()

    def _take_event(self, event: Event) -> None:
        try:
            payload = json.loads(event.data or b"{}")
            number = payload.get("chunk")
        except (ValueError, AttributeError):
            report.count("malformed-reply", seam=self.command.seam.name, reason="payload")
            return
        if isinstance(number, int) and number >= self.yielded:
            self._waiting[number] = self.command.seam.codec.decode_result(event.data or b"")

    def ready(self) -> Generator[Any, None, None]:
        """The items that are next in order."""
        while self.yielded in self._waiting:
            item = self._waiting.pop(self.yielded)
            self.yielded += 1
            yield item

    async def missing(self, runtime: Runtime) -> bool:
        """Read from the log what the answer counts and no reply brought; whether all of it is here now."""
        total = self._total()
        correlation = self.command.correlation
        subject = runtime.subjects.ui_run(correlation.run, tenant=correlation.tenant, user=correlation.user)
        end = asyncio.get_running_loop().time() + _GAP
        while total is not None and not self._complete(total) and asyncio.get_running_loop().time() < end:
            report.count("items-read", seam=self.command.seam.name)
            try:
                async for stored in runtime.bus.read(subject):
                    if stored.event.get("callid") == self.command.callid:
                        self._take_event(stored.event)
            except BusError as error:  # the handler has answered: what is missing is an end nobody knows, no failed bus
                report.count("look-up-failed", seam=self.command.seam.name, reason=type(error).__name__)
            await asyncio.sleep(0.05)
        return total is None or self._complete(total)

    def _complete(self, total: int) -> bool:
        return all(number in self._waiting for number in range(self.yielded, total))

    def _total(self) -> int | None:
        if self.answer is None or self.answer.kind != "value":
            return None
        return int(json.loads(self.answer.value).get("items", 0))

    def rest(self, complete: bool) -> Generator[Any, None, None]:  # noqa: FBT001 - the answer to missing()
        """The last items, then the end: the error raised, or nothing."""
        yield from self.ready()
        if self.answer is not None and self.answer.kind != "value":
            result_of(self.command, self.answer)
        if not complete:
            raise OutcomeUnknownError(
                f"{self.command.seam.name}: items after the first {self.yielded} were lost",
                callid=self.command.callid,
                deadline=self.command.deadline,
                reason="items-lost",
            )
