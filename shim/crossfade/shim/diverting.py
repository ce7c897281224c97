"""What a proxy asks of a route's seam: who answers its next request, and the answer over the bus.

The decorators' call sites do the same for functions; here the body is an upstream, whose answer passes through and is
never a value in this process, except where a ledger must hold it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from ._observing import Later, Observing
from ._owned import arun_owned, owns, run_owned
from ._routes import Command, Keyed, OverBus, Split, result_of, serves
from .correlate import current_correlation
from .errors import BusUnavailableError, OutcomeUnknownError
from .events import Event
from .hooks import report
from .outcomes import Answer
from .streaming import Incoming

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from concurrent.futures import Future

    from .http import HttpResponse
    from .rollbacks import RollbackRequest
    from .seam import Seam

__all__ = [
    "Command",
    "Later",
    "LegacyAnswersError",
    "Observing",
    "OverBus",
    "Way",
    "answers",
    "claim",
    "command_of",
    "ended",
    "owned",
    "owned_here",
    "result",
    "submit",
    "tell_breaker",
    "way",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How one request goes: ``legacy`` to the upstream, ``claim`` too once the ledger lets it, or over the ``bus``.

    ``observing``: what is told of a request that the upstream answered.
    """

    kind: Literal["legacy", "claim", "bus"]
    observing: Observing | None = None
    bus: OverBus | None = None


_LEGACY = Way(kind="legacy")
_AHEAD: Final = 4 * 1024 * 1024  # bytes of a streamed answer that may wait for a client that reads slowly
_PIECE: Final = 2048  # bytes that each of its pieces takes besides


def way(seam: Seam) -> Way:
    """The way of a request made now, under the correlation in force; a run's first choice is kept.

    A request that the seam's own handler makes is legacy's: it asks the service that it stands for.
    """
    route = seam.unwatched  # the proxy tells of its requests itself
    if route is None:
        return _LEGACY
    if isinstance(route, Split):
        route = route.bus if route.takes_bus(seam) else route.legacy
    if isinstance(route, OverBus):
        if serves(seam):
            return _LEGACY
        return Way(kind="bus", bus=route)
    if isinstance(route, Keyed):
        if owns(seam):
            return _LEGACY
        observing = route.inner if isinstance(route.inner, Observing) else None
        correlation = current_correlation()
        keyed = correlation is not None and correlation.key is not None
        return Way(kind="claim" if keyed else "legacy", observing=observing, bus=route.bus)
    return Way(kind="legacy", observing=route) if isinstance(route, Observing) else _LEGACY


class LegacyAnswersError(Exception):
    """The bus did not answer, and the upstream may: under the claim in ``answer``, when there is one."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


async def claim(route: OverBus, command: Command) -> HttpResponse:
    """Claim a keyed request for the upstream: the earlier answer of its key, else ``LegacyAnswersError``.

    Raises as a call site does what is no answer.
    """
    runtime = route.runtime
    answer = await asyncio.wrap_future(runtime.thread.spawn(runtime.calls.own(command)))
    if answer.claim is not None or route.may_fall_back(command, answer):
        raise LegacyAnswersError(answer)
    return result(route, command, answer)


def result(route: OverBus, command: Command, answer: Answer) -> HttpResponse:
    """What a request was answered. Raises as a call site does what is no answer; ``CrossfadeError`` without its key."""
    return _opened(route, command, result_of(command, answer))


def _opened(route: OverBus, command: Command, answer: HttpResponse) -> HttpResponse:
    return route.runtime.open_answer(command.seam.name, command.callid, answer)


async def owned(
    route: OverBus, command: Command, answer: Answer, ask_upstream: Callable[[], Awaitable[HttpResponse]]
) -> None:
    """Have the upstream answer under a claim, and log what it answered, so that the ledger has its terminal."""
    await arun_owned(route.runtime, command, answer, ask_upstream)


def owned_here(
    route: OverBus, command: Command, answer: Answer, ask_upstream: Callable[[], HttpResponse]
) -> HttpResponse:
    """``owned`` in a thread that may wait."""
    response: HttpResponse = run_owned(route.runtime, command, answer, ask_upstream)
    return response


async def answers(route: OverBus, command: Command) -> AsyncGenerator[tuple[HttpResponse, bool]]:
    """The answer to ``command``, with ``True``; or the head of a streamed one and then its pieces, with ``False``.

    Raises ``LegacyAnswersError`` before anything was yielded, else as a call site does. Closing it gives the call up.
    """
    loop = asyncio.get_running_loop()
    waiting = _Waiting()
    incoming = Incoming(command, lambda item: loop.call_soon_threadsafe(waiting.put, item))
    asking = incoming.start(route.runtime)
    try:
        while True:
            for item in incoming.ready():
                yield _opened(route, command, item), False
            if incoming.answer is not None:
                break
            if waiting.lost:
                raise OutcomeUnknownError(
                    f"{command.seam.name}: the client reads too slowly for this stream",
                    callid=command.callid,
                    deadline=command.deadline,
                    reason="slow-client",
                )
            incoming.take(await waiting.get())
        if incoming.yielded == 0 and route.may_fall_back(command, incoming.answer):
            raise LegacyAnswersError(incoming.answer)
        missing = route.runtime.thread.spawn(incoming.missing(route.runtime))
        for item in incoming.rest(await asyncio.wrap_future(missing)):
            yield _opened(route, command, item), False
        if incoming.yielded == 0:
            yield result(route, command, incoming.answer), True
    finally:
        incoming.close(route.runtime, asking)


class _Waiting:
    """What came of an answer and its client has not taken yet; ``lost``: a piece for which there was no room."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Event | Future[Answer]] = asyncio.Queue()
        self._size = 0
        self.lost = False

    def put(self, item: Event | Future[Answer]) -> None:
        """Keep a piece while there is room, and the question's end in any case."""
        if isinstance(item, Event):
            if self._size > _AHEAD or self.lost:
                self.lost = True
                return
            self._size += len(item.data or b"") + _PIECE
        self._items.put_nowait(item)

    async def get(self) -> Event | Future[Answer]:
        """The next of them."""
        item = await self._items.get()
        if isinstance(item, Event):
            self._size -= len(item.data or b"") + _PIECE
        return item


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """A task whose command is stored, or a call that its key was used for before.

    ``monitored``: it has a command, so that control finds it; ``answer``: how it ended, if it has.
    """

    monitored: bool
    answer: Answer | None


async def submit(route: OverBus, command: Command) -> Submitted:
    """Have the command of a task stored; a client that leaves meanwhile changes nothing about that.

    Raises ``LegacyAnswersError`` when it was provably not sent and the upstream may answer, else as a call site does:
    ``NotExecutedError`` when nothing was sent, ``OutcomeUnknownError`` when nobody can say by its deadline, and
    ``BusError`` when the ledger of an earlier call with its key cannot be asked.
    """
    sending = route.runtime.thread.spawn(route.runtime.calls.send(command))
    sent = asyncio.wrap_future(sending)
    try:
        await asyncio.wait({sent}, timeout=command.policy.timeout)
    except asyncio.CancelledError:
        sending.add_done_callback(partial(route.abandoned, command))
        raise
    if sent.done():
        answer = sent.result()
    else:
        sent.cancel()
        answer = Answer(kind="unknown", reason="deadline")
    if answer is not None and answer.kind not in ("value", "error"):
        if route.may_fall_back(command, answer):
            raise LegacyAnswersError(answer)
        result_of(command, answer)
    return Submitted(monitored=not command.keyed or await _is_stored(route, command), answer=answer)


async def _is_stored(route: OverBus, command: Command) -> bool:
    """Whether a keyed call has a command: one that ran under its key on the legacy path has none."""
    place = route.runtime.calls.place(command)
    return await asyncio.wrap_future(route.runtime.thread.spawn(route.runtime.bus.last(place.invoke))) is not None


async def ended(route: OverBus, command: Command, *, wait: float) -> Answer | None:
    """How a stored task ended, or ``None`` when it has not within ``wait`` seconds. Its command goes on either way."""
    following = route.runtime.thread.spawn(route.runtime.calls.follow(command))
    try:
        async with asyncio.timeout(wait):
            return await asyncio.wrap_future(following)
    except TimeoutError:
        return None


def tell_breaker(route: OverBus, seam: str, state: str, request: RollbackRequest | None = None) -> None:
    """Have this process' reports say at which ``state`` the breaker of ``seam`` is; fail-open, as is the request."""
    try:
        route.runtime.thread.spawn(route.runtime.tell_breaker(seam, state, request))
    except BusUnavailableError:  # closed: nobody reads reports of this process any more
        report.count("dropped", seam=seam, reason="breaker-report")


def command_of(route: OverBus, seam: Seam, arguments: Mapping[str, Any], *, detached: bool = False) -> Command | None:
    """The command of a request, or ``None`` when it must stay with the upstream; the reason is counted."""
    return route.command(seam, seam.function, (), arguments, detached=detached)
