"""Bodies that run at the caller under a claim: they know their call, and the ledger is told how they ended.

Whoever runs a body under a claim is the call's owner, as a worker is: so the body has a ``current_call()`` with the
claim's position as fencing token. The caller of a plain legacy body is not, and there ``current_call()`` is ``None``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ._loop import wait_for
from .callers import call_with_id, calling
from .calls import CurrentCall, serving
from .errors import BusUnavailableError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from ._routes import Command
    from ._runtime import Runtime
    from .outcomes import Answer
    from .seam import Seam


def run_owned(runtime: Runtime, command: Command, answer: Answer, run: Callable[[], Any]) -> Any:
    """Run the body as the call's owner, and log how it ended, so that the ledger has its terminal."""
    try:
        with _served(_call(command, answer)):
            value = run()
    except BaseException as error:
        wait_for(log_owned(runtime, command, answer, error=error))
        raise
    wait_for(log_owned(runtime, command, answer, value=value))
    return value


async def arun_owned(runtime: Runtime, command: Command, answer: Answer, run: Callable[[], Any]) -> Any:
    """``run_owned`` for a coroutine; one that is cancelled is logged beside, so that nothing delays its end."""
    try:
        with _served(_call(command, answer)):
            value = await run()
    except asyncio.CancelledError as error:
        log_owned(runtime, command, answer, error=error)
        raise
    except BaseException as error:
        await asyncio.shield(asyncio.wrap_future(log_owned(runtime, command, answer, error=error)))
        raise
    await asyncio.shield(asyncio.wrap_future(log_owned(runtime, command, answer, value=value)))
    return value


def stream_owned(
    runtime: Runtime, command: Command, answer: Answer, items: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """The body's items, and how it ended in the ledger; run plainly when there is no claim."""
    if answer.claim is None:
        return (yield from items)
    error: BaseException | None = None
    try:
        return (yield from cast("Generator[Any, Any, Any]", _Steps(items, _call(command, answer))))
    except BaseException as raised:
        error = raised
        raise
    finally:
        wait_for(log_owned(runtime, command, answer, error=error))


async def astream_owned(
    runtime: Runtime, command: Command, answer: Answer, items: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    """``stream_owned`` for async generators."""
    call = _call(command, answer) if answer.claim is not None else serving.get()
    error: BaseException | None = None
    try:
        while True:
            with _served(call):  # per step: between two of them the consumer's own code runs
                item = await anext(items)
            yield item
    except StopAsyncIteration:
        return
    except BaseException as raised:
        error = raised
        raise
    finally:
        with _served(call):
            await items.aclose()
        if answer.claim is not None:
            await asyncio.shield(asyncio.wrap_future(log_owned(runtime, command, answer, error=error)))


def log_owned(
    runtime: Runtime, command: Command, answer: Answer, *, value: Any = None, error: BaseException | None = None
) -> Future[None]:
    """Log how an owner's body ended; done at once, and counted, when the connection was closed meanwhile."""
    try:
        return runtime.thread.spawn(runtime.calls.log_own(command, answer, value=value, error=error))
    except BusUnavailableError:  # what the body did is its caller's: this must not look as if it had not run
        report.count("result-lost", seam=command.seam.name, reason="closed")
        done: Future[None] = Future()
        done.set_result(None)
        return done


def owns(seam: Seam) -> bool:
    """Whether this code is the seam's own body under a claim, which a call of itself must not wait for."""
    call = serving.get()
    return call is not None and call.seam == seam.name and call.fence is not None


def _call(command: Command, answer: Answer) -> CurrentCall:
    """What the body may know of its call; in a submitted one, progress and cancellation go on as they did."""
    deadline = answer.expires or command.deadline
    outer = serving.get()
    if outer is not None and outer.seam == command.seam.name:
        return replace(outer, callid=command.callid, deadline=deadline, fence=answer.claim)
    return CurrentCall(
        callid=command.callid,
        seam=command.seam.name,
        attempt=1,
        deadline=deadline,
        fence=answer.claim,
        _slot=outer.slot if outer is not None else None,
        _depth=command.depth,
    )


@contextmanager
def _served(call: CurrentCall | None) -> Generator[None]:
    outer = calling.get()
    calls = calling.set(outer if call is None or call is serving.get() else call_with_id(call.callid))
    token = serving.set(call)
    try:
        yield
    finally:
        serving.reset(token)
        calling.reset(calls)


class _Steps:
    """A generator whose every step runs with ``call`` as the current one, and none of its consumer's code does."""

    def __init__(self, items: Generator[Any, Any, Any], call: CurrentCall) -> None:
        self._items = items
        self._call = call

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        with _served(self._call):
            return self._items.send(value)

    def throw(self, error: BaseException) -> Any:
        with _served(self._call):
            return self._items.throw(error)

    def close(self) -> None:
        with _served(self._call):
            self._items.close()
