"""Submitted calls: start one, follow its progress, get its result later, or cancel it.

A task on the bus is durable when ``submit`` returns, and its ledger decides everything: a cancel that claims the
call before any worker did proves that it never ran. At legacy, observe and shadow the body runs in this process,
so that rolling a seam back keeps every submit site working.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import queue
import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from ._loop import wait_for
from ._observing import Observing
from ._owned import arun_owned, run_owned
from ._routes import OverBus, Split, result_of
from .calls import CurrentCall, Progress, serving
from .claims import Held, Won
from .connection import current
from .correlate import current_correlation
from .errors import BusError, NotConnectedError, SeamDefinitionError
from .events import TYPES, new_id
from .hooks import report
from .outcomes import Answer, type_name
from .projection import ENDED, Projection
from .rejoining import Rejoining
from .slots import alent, anext_of, lent, next_of
from .watched import watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from ._routes import Command
    from ._runtime import Runtime
    from .events import Event
    from .handles import TaskHandle
    from .projection import Ending
    from .seam import Seam

R = TypeVar("R")

_END: Final = object()
_LAST_WORDS: Final = 2.0  # seconds that what was said last may come after the result


def submit(seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TaskHandle[Any]:
    """Start a call; see ``SeamFunction.submit``."""
    found = _prepare(seam, body, args, kwargs)
    if found is None:
        return _here(seam, body, args, kwargs)
    runtime, command = found
    return _sent(
        runtime,
        command,
        wait_for(runtime.thread.spawn(runtime.calls.send(command))),
        seam=seam,
        body=body,
        args=args,
        kwargs=kwargs,
    )


async def asubmit(
    seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> TaskHandle[Any]:
    """See ``submit``."""
    found = _prepare(seam, body, args, kwargs)
    if found is None:
        return _here(seam, body, args, kwargs)
    runtime, command = found
    sent = await asyncio.wrap_future(runtime.thread.spawn(runtime.calls.send(command)))
    return _sent(runtime, command, sent, seam=seam, body=body, args=args, kwargs=kwargs)


def _prepare(
    seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Runtime, Command] | None:
    """The command of a task that goes over the bus, or ``None`` when it runs here."""
    if seam.call_kind in ("generator", "async generator"):
        raise SeamDefinitionError(f"seam {seam.name!r} is a generator: iterate it, a stream cannot be submitted")
    if isinstance(seam.unwatched, Rejoining):
        seam.unwatched.join()
    route = seam.unwatched
    if isinstance(route, Split):
        route = route.bus if route.takes_bus(seam) else None
    if not isinstance(route, OverBus):
        if not seam.has_body and isinstance(route, Rejoining | None):
            raise NotConnectedError(f"{seam.name} is served elsewhere and is not on the bus here", callid="-")
        return None
    command = route.command(seam, body, args, kwargs, detached=True)
    return None if command is None else (route.runtime, command)


def _here(seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LocalTask[Any]:
    """The task of a body that runs here: observed under the handle's id, and a keyed one asks the ledger first."""
    route, callid = seam.unwatched, None
    route = route.legacy if isinstance(route, Split) else route
    if isinstance(route, OverBus):
        body, route = route.legacy(seam, body), None
    if isinstance(route, Rejoining):
        route = None
    if isinstance(route, Observing):
        callid, route = route.once()
    if (route := watched(route)) is None:
        return LocalTask(seam, body, args, kwargs)
    call = route.acall if seam.call_kind == "coroutine" else route.call
    return LocalTask(seam, lambda *args, **kwargs: call(seam, body, args, kwargs), args, kwargs, callid=callid)


def _as_owner(runtime: Runtime, command: Command, answer: Answer, body: Callable[..., Any]) -> Callable[..., Any]:
    """The body run under the claim in ``answer``, if there is one, and counted as a hit."""

    def legacy(*args: Any, **kwargs: Any) -> Any:
        return runtime.run_legacy(command.seam, command.policy, body, args, kwargs)

    if answer.claim is None:
        return legacy
    run = arun_owned if command.seam.call_kind == "coroutine" else run_owned
    return lambda *args, **kwargs: run(runtime, command, answer, lambda: legacy(*args, **kwargs))


def _sent(
    runtime: Runtime,
    command: Command,
    answer: Answer | None,
    *,
    seam: Seam,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> TaskHandle[Any]:
    if answer is not None:
        runtime.miss(seam, command.policy, answer)
    if answer is not None and answer.kind == "not-executed" and answer.reason != "key-reused":
        if not command.policy.runs_legacy:
            result_of(command, answer)
        if answer.claim is not None or not command.once:
            report.count("fallback", seam=seam.name, reason=answer.reason)
            return LocalTask(seam, _as_owner(runtime, command, answer, body), args, kwargs, callid=command.callid)
    return BusTask(runtime, command, answer)


def _projection(seam: Seam, callid: str) -> Projection | None:
    """What to tell the UI through: there is a bus, and a run that somebody may follow."""
    connection, correlation = current(), current_correlation()
    if connection is None or correlation is None or not connection.connected:
        return None
    return Projection(
        runtime=connection.runtime, seam=seam.name, domain=seam.domain, callid=callid, correlation=correlation
    )


class LocalTask(Generic[R]):
    """A task that runs in a thread of this process and dies with it."""

    durable = False

    def __init__(
        self,
        seam: Seam,
        body: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        callid: str | None = None,
    ) -> None:
        self.callid = callid or new_id()
        self._seam = seam
        self._future: Future[R] = Future()
        self._progress: list[Progress] = []
        self._told = threading.Condition()
        self._projection = _projection(seam, self.callid)
        deadline = datetime.now(UTC) + timedelta(seconds=seam.policy.timeout)
        self._call = CurrentCall(callid=self.callid, seam=seam.name, attempt=1, deadline=deadline, _tell=self._tell)
        context = contextvars.copy_context()
        context.run(serving.set, self._call)
        run = partial(context.run, self._guarded, partial(self._run, body, args, kwargs))
        threading.Thread(target=run, name=f"crossfade task {seam.name}", daemon=True).start()

    def done(self) -> bool:
        """See ``TaskHandle``."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> R:
        """See ``TaskHandle``."""
        with lent():
            return self._future.result(timeout)

    async def aresult(self, timeout: float | None = None) -> R:
        """See ``TaskHandle``."""
        async with alent():
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._future)), timeout)

    def events(self) -> Iterator[Progress]:
        """See ``TaskHandle``."""
        seen = 0
        while new := self._after(seen):
            seen += len(new)
            yield from new

    async def aevents(self) -> AsyncIterator[Progress]:
        """See ``TaskHandle``."""
        found = self.events()
        while (progress := await asyncio.to_thread(next, found, _END)) is not _END:
            yield cast("Progress", progress)

    def _after(self, seen: int) -> list[Progress]:
        """What was told after the first ``seen`` steps, waited for; nothing when the call has ended."""
        with self._told:
            self._told.wait_for(lambda: len(self._progress) > seen or self.done())
            return self._progress[seen:]

    def cancel(self) -> bool:
        """See ``TaskHandle``: a body that runs here can only be told."""
        self._call.cancel()
        return False

    async def acancel(self) -> bool:
        """See ``cancel``."""
        return self.cancel()

    def _run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
        if self._seam.call_kind == "coroutine":
            return cast("R", asyncio.run(body(*args, **kwargs)))
        return cast("R", body(*args, **kwargs))

    def _guarded(self, run: Callable[[], R]) -> None:
        if self._projection is not None:
            self._projection.started()
        try:
            value = run()
        except BaseException as error:  # it belongs to whoever asks for the result
            self._say_end("error", type_name(type(error)))
            self._future.set_exception(error)
        else:
            self._say_end("value")
            self._future.set_result(value)
        with self._told:
            self._told.notify_all()

    def _say_end(self, outcome: Ending, reason: str = "") -> None:
        if self._projection is not None:
            gave_up = outcome == "error" and self._call.cancelled
            self._projection.ended("cancelled" if gave_up else outcome, reason)

    def _tell(self, progress: Progress) -> None:
        if self._projection is not None:
            self._projection.said(progress)
        with self._told:
            self._progress.append(progress)
            self._told.notify_all()


class BusTask(Generic[R]):
    """A task whose command lies on the bus."""

    durable = True

    def __init__(self, runtime: Runtime, command: Command, answer: Answer | None = None) -> None:
        self.callid = command.callid
        self._runtime = runtime
        self._command = command
        self._answer = answer

    def done(self) -> bool:
        """See ``TaskHandle``."""
        return self._answer is not None

    def result(self, timeout: float | None = None) -> R:
        """See ``TaskHandle``."""
        with lent():
            answer = wait_for(self._runtime.thread.spawn(self._wait(timeout)))
        return cast("R", result_of(self._command, answer))

    async def aresult(self, timeout: float | None = None) -> R:
        """See ``TaskHandle``."""
        async with alent():
            answer = await asyncio.wrap_future(self._runtime.thread.spawn(self._wait(timeout)))
        return cast("R", result_of(self._command, answer))

    def events(self) -> Iterator[Progress]:
        """See ``TaskHandle``."""
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        following = self._runtime.thread.spawn(self._follow(found.put))
        try:
            while (progress := next_of(found)) is not _END:
                yield progress
        finally:
            following.cancel()

    async def aevents(self) -> AsyncIterator[Progress]:
        """See ``TaskHandle``."""
        loop = asyncio.get_running_loop()
        found: asyncio.Queue[Any] = asyncio.Queue()
        following = self._runtime.thread.spawn(
            self._follow(lambda item: loop.call_soon_threadsafe(found.put_nowait, item))
        )
        try:
            while (progress := await anext_of(found)) is not _END:
                yield progress
        finally:
            following.cancel()

    def cancel(self) -> bool:
        """See ``TaskHandle``. Raises ``BusError`` when the ledger cannot be asked."""
        return wait_for(self._runtime.thread.spawn(self._cancel()))

    async def acancel(self) -> bool:
        """See ``cancel``."""
        return await asyncio.wrap_future(self._runtime.thread.spawn(self._cancel()))

    async def _wait(self, timeout: float | None) -> Answer:
        if self._answer is None:
            async with asyncio.timeout(timeout):
                self._answer = await self._runtime.calls.follow(self._command)
        return self._answer

    async def _follow(self, put: Callable[[Any], object]) -> None:
        """Pass on the call's progress, from the log: what was said before we looked is there, too.

        The same subjects tell a page of the call's start and end, which are no progress.
        """
        runtime, correlation = self._runtime, self._command.correlation
        subject = runtime.subjects.ui_run(correlation.run, tenant=correlation.tenant, user=correlation.user)

        async def pump() -> None:
            async for stored in runtime.bus.read(subject, follow=True):
                if stored.event.get("callid") != self.callid:
                    continue
                if stored.event.type == ENDED:
                    return
                if TYPES.get(stored.event.type) == "progress":
                    put(read_progress(stored.event))

        pumping = asyncio.create_task(pump())
        try:
            await self._wait(None)
            # The end's own event comes after the last words; who ended the call may have been unable to send it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pumping, _LAST_WORDS)
        except BusError as error:
            report.count("follow-failed", seam=self._command.seam.name, reason=type(error).__name__)
        finally:
            pumping.cancel()
            put(_END)

    async def _cancel(self) -> bool:
        runtime, command = self._runtime, self._command
        place = runtime.calls.place(command)
        sent = await runtime.bus.last(place.invoke)
        if sent is None:
            return False
        claim = await runtime.calls.take(command, at=sent.position)
        if isinstance(claim, Won):
            await runtime.calls.log_refusal(command, claim.position, reason="cancelled")
            self._answer = Answer(kind="not-executed", reason="cancelled")
            Projection(
                runtime=runtime,
                seam=command.seam.name,
                domain=command.seam.domain,
                callid=self.callid,
                correlation=command.correlation,
            ).ended("cancelled")
            return True
        if isinstance(claim, Held):
            runtime.calls.broadcast_cancel(command)
        return False


def read_progress(event: Event) -> Progress:
    """The progress in an event; what cannot be read is shown as its text."""
    try:
        payload = json.loads(event.data or b"{}")
        return Progress(
            fraction=payload.get("fraction"), message=str(payload.get("message", "")), data=payload.get("data")
        )
    except (ValueError, AttributeError):
        return Progress(fraction=None, message=f"<{len(event.data or b'')} bytes that are no JSON>")
