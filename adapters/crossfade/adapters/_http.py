"""A program's own HTTP requests as calls of seams: what the httpx transports and the requests adapter share.

A request that no route takes is the inner transport's, as it is. One that a route takes is answered as its seam's stage
says: by the service, at ``observe`` and ``shadow`` with a record of what passed, or by a handler on the bus.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypedDict, TypeVar

from crossfade.shim.calls import current_call
from crossfade.shim.correlate import correlate, correlated, current_correlation
from crossfade.shim.diverting import (
    Later,
    LegacyAnswersError,
    Way,
    answers,
    claim,
    command_of,
    owned,
    owned_here,
    way,
)
from crossfade.shim.errors import (
    BusError,
    BusUnavailableError,
    CallError,
    CrossfadeError,
    HandlerOverdueError,
    KeyReusedError,
    NestedTooDeepError,
    NotExecutedError,
    OutcomeUnknownError,
    SeamDefinitionError,
)
from crossfade.shim.events import new_id
from crossfade.shim.fields import readable
from crossfade.shim.hooks import report
from crossfade.shim.http import (
    BODY_LIMIT,
    CAPTURE,
    COMPARE,
    HttpRequest,
    HttpResponse,
    HttpSeam,
    Kept,
    arguments,
    default_effects,
    idempotency_key,
    is_secret_field,
)
from crossfade.shim.matching import Pattern, Router
from crossfade.shim.outcomes import NoAnswerError, SeenError
from crossfade.shim.policy import Policy
from crossfade.shim.seam import registry
from crossfade.shim.stages import parse_stage
from crossfade.shim.watched import current
from crossfade.shim.watching import failed, trace_context

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Unpack

    from crossfade.shim.correlate import Correlation
    from crossfade.shim.diverting import Command, Observing, OverBus
    from crossfade.shim.fields import Field
    from crossfade.shim.outcomes import Answer
    from crossfade.shim.policy import Effects, Fallback, LedgerDown
    from crossfade.shim.watching import Watch

R = TypeVar("R")

_LEGACY: Final = Way(kind="legacy")
_SHORTEST: Final = 0.01  # seconds: the shortest timeout of a policy


class RouteOptions(TypedDict, total=False):
    """As ``crossfade.shim.tool`` takes them, which says what each means; left out, its defaults hold."""

    stage: str
    timeout: float
    fallback: Fallback
    percent: float
    sample: float
    ledger_down: LedgerDown


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class HttpRoute:
    """Which requests are calls of ``seam``; ``capture``: bytes of a body that an observation keeps."""

    pattern: Pattern
    seam: HttpSeam
    capture: int


def route(
    seam: str,
    match: str,
    *,
    headers: Mapping[str, str] | None = None,
    effects: Effects | None = None,
    capture: int = CAPTURE,
    **options: Unpack[RouteOptions],
) -> HttpRoute:
    """Make the requests that ``match`` takes calls of ``seam``; several clients may share what this returns.

    ``match`` is ``METHOD[,METHOD] [HOST]/path``, as in routes.yaml: ``POST api.example.com/v1/reports/{id}``. All of
    ``headers`` must be there, with these values. ``effects`` are by default what HTTP says of the methods: ``none`` of
    GET, HEAD and OPTIONS, ``idempotent`` of PUT and DELETE, ``unsafe`` of all others. A body of more than
    ``capture`` bytes, either way, is not observed.

    Raises ``SeamDefinitionError`` for a match that is none, and for a seam that is declared otherwise already.
    """
    try:
        pattern = Pattern.parse(match, headers)
    except ValueError as error:
        raise SeamDefinitionError(f"seam {seam!r}: {error}") from error
    given: dict[str, Any] = dict(options)
    if "stage" in given:
        given["stage"] = parse_stage(given["stage"])
    policy = Policy(effects=effects or default_effects(pattern.methods), compare=COMPARE, **given)
    known = next((each for each in registry.all() if each.name == seam), None)
    if isinstance(known, HttpSeam) and (known.policy, known.place) == (policy, match):
        return HttpRoute(pattern=pattern, seam=known, capture=capture)
    if known is not None:
        raise SeamDefinitionError(f"seam {seam!r} is declared twice: at {known.place} and for {match}; rename one")
    declared = HttpSeam(seam, policy=policy, where=match)
    registry.add(declared)
    return HttpRoute(pattern=pattern, seam=declared, capture=capture)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request as a client is about to send it; ``target`` is its path and query, ``host`` with its port."""

    method: bytes
    host: bytes
    target: bytes
    headers: Sequence[Field]
    patience: float | None

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def get(self, name: bytes) -> bytes:
        """The first value of a field; empty without one."""
        return next((value for key, value in self.headers if key.lower() == name), b"")

    def request(self, body: bytes, *, added: Sequence[Field] = ()) -> HttpRequest:
        """It as a handler gets it."""
        listed = [token.strip().lower() for token in self.get(b"connection").split(b",")]
        return HttpRequest(
            method=self.method.decode("latin-1"),
            target=self.target.decode("latin-1"),
            headers=readable([*self.headers, *added], connection=listed),
            body=body,
            authority=self.host.decode("latin-1"),
        )


class Routes:
    """The routes of one client. Raises ``SeamDefinitionError`` for two of which neither is the more specific."""

    def __init__(self, routes: Iterable[HttpRoute]) -> None:
        given = list(routes)
        for at, one in enumerate(given):
            for other in given[:at]:
                if one.pattern.conflicts_with(other.pattern):
                    raise SeamDefinitionError(
                        f"seams {other.seam.name!r} and {one.seam.name!r} take the same requests: {one.pattern.text}"
                    )
        self._router = Router((each.pattern, each) for each in given)

    def find(self, asked: Asked) -> HttpRoute | None:
        """Whose request it is, or ``None``."""
        return self._router.find(asked)


# -- one request -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A request that a route took. ``added``: fields that the service is told besides."""

    asked: Asked
    route: HttpRoute
    way: Way
    correlation: Correlation | None
    added: list[Field] = field(default_factory=list["Field"])

    @property
    def seam(self) -> HttpSeam:
        """Its seam."""
        return self.route.seam

    def within(self) -> AbstractContextManager[Any]:
        """The correlation of the call in force."""
        return correlated(self.correlation) if self.correlation else nullcontext()

    def hit(self) -> None:
        """Count that the service answers where the bus should."""
        if self.way.kind == "bus" and self.way.bus is not None:
            self.way.bus.hit(self.seam)

    def skip(self, reason: str) -> Begun:
        """The same, with the service alone to answer; the reason is counted."""
        report.count("skipped", seam=self.seam.name, reason=reason)
        return replace(self, way=_LEGACY)

    def command(self, body: bytes) -> Command | None:
        """Its command, whose deadline is no later than its client waits; ``None``: it must stay with the service."""
        bus = self.way.bus
        if bus is None:
            return None
        keys = [pair for pair in self.added if pair[0] == b"Idempotency-Key"]  # what changes by the run is no argument
        with self.within():
            made = command_of(bus, self.seam, arguments(self.asked.request(body, added=keys), is_secret_field))
        patience = self.asked.patience
        if made is None or patience is None or patience >= made.policy.timeout or self.is_stream:
            return made
        seconds = max(patience, _SHORTEST)
        return replace(made, policy=replace(made.policy, timeout=seconds), deadline=bus.runtime.deadline(seconds))

    @property
    def is_stream(self) -> bool:
        """Whether the client asks for a stream of events, for whose parts it waits one by one."""
        return b"text/event-stream" in self.asked.get(b"accept")


def begin(found: HttpRoute, asked: Asked) -> Begun:
    """Say who answers ``asked``, a request that the route ``found`` takes."""
    seam, outer = found.seam, current_correlation()
    key = idempotency_key(
        asked.method, asked.get(b"idempotency-key"), asked.get(b"authorization"), user=outer.user if outer else None
    )
    with correlate(key=key) if key and seam.unwatched is not None else nullcontext():
        correlation = current_correlation()
        chosen = way(seam)
    return Begun(asked=asked, route=found, way=chosen, correlation=correlation, added=_added(asked, seam, correlation))


def _added(asked: Asked, seam: HttpSeam, correlation: Correlation | None) -> list[Field]:
    """The run and the trace, where there are any, and a key for an unsafe request, which may be seen on both paths."""
    call = current_call()
    told: dict[bytes, str | None] = {}
    if correlation is not None:
        told = {
            b"X-Correlation-Id": correlation.run,
            b"X-Causation-Id": call.callid if call else correlation.causation,
        }
    if (traced := trace_context()) is not None and not asked.get(b"traceparent"):
        told |= {b"traceparent": traced.traceparent, b"tracestate": traced.tracestate}
    if seam.unwatched is not None and seam.policy.effects == "unsafe":
        told[b"Idempotency-Key"] = new_id()
    return [
        (name, value.encode())
        for name, value in told.items()
        if value and value.isascii() and not asked.get(name.lower())
    ]


@contextmanager
def during(watch: Watch) -> Generator[None]:
    """Make ``watch`` current while its request is asked, or a part of its answer is read; an error ends it."""
    try:
        with current(watch):
            yield
    except BaseException as error:
        cause = error.__cause__
        watch.end(cause if isinstance(cause, CrossfadeError) else error)
        raise


# -- the service answers -----------------------------------------------------------------------------------------------


class Watching:
    """Keeps a request and its answer as they pass, for an observation."""

    def __init__(self, begun: Begun, observing: Observing) -> None:
        self._begun = begun
        self._observing = observing
        self._n, self._full = observing.begin()
        capture = begun.route.capture if self._full else 0
        self.request = Kept(capture)
        self.request_done = False
        self._answer = Kept(capture)
        self._head: tuple[int, list[tuple[str, str]]] | None = None
        self._started, self._clock = time.time(), time.perf_counter()
        self._over = False

    def head(self, status: int, fields: Sequence[Field], *, without: frozenset[str] = frozenset()) -> None:
        """The head of the answer came; ``without``: fields that do not hold of the body as it is kept."""
        pairs = readable(fields, keep=frozenset({b"content-length"}))
        self._head = status, [pair for pair in pairs if pair[0].lower() not in without]

    def data(self, data: bytes) -> None:
        """A part of the answer's body came."""
        self._answer.add(data)

    def left(self) -> None:
        """The program had enough of the answer: that says nothing of the service, so nothing is told of it."""
        if not self._over:
            self._over = True
            report.count("skipped", seam=self._begun.seam.name, reason="client-left")

    def ended(self, error: BaseException | None = None) -> None:
        """The answer is whole, or ``error`` was raised."""
        if isinstance(error, asyncio.CancelledError):
            self.left()
        if self._over:
            return
        self._over = True
        duration = time.perf_counter() - self._clock
        with self._begun.within():
            self._observing.saw(
                self._n,
                started=self._started,
                duration=duration,
                arguments=self._kept(self.request, self._make_arguments),
                value=self._kept(self._answer, self._make_value) if error is None else None,
                error=SeenError(error) if error is not None else None,
            )

    def _kept(self, kept: Kept, make: Callable[[], Any]) -> Later | None:
        if not self._full:
            return None
        if not kept.is_whole or not self.request_done:
            report.count("skipped", seam=self._begun.seam.name, reason="capture-limit")
            return None
        return Later(kept.size, make)

    def _make_arguments(self) -> Mapping[str, Any]:
        return arguments(self._begun.asked.request(b"".join(self.request.parts)), is_secret_field)

    def _make_value(self) -> HttpResponse:
        status, fields = self._head or (0, [])
        if any(is_secret_field(name) for name, _ in fields):
            self._observing.told_credentials()
        return HttpResponse.of(status, fields, b"".join(self._answer.parts))


# -- the bus answers ---------------------------------------------------------------------------------------------------

Failure = Literal["unsent", "late", "broken"]
"""Why there is no answer: it provably did not run; or it may have run, and none came in time, or something broke."""


def failure_of(error: Exception) -> Failure:
    """What the client's own errors are made of."""
    if isinstance(error, NotExecutedError | BusUnavailableError | NestedTooDeepError):
        return "unsent"
    return "late" if isinstance(error, OutcomeUnknownError | HandlerOverdueError | TimeoutError) else "broken"


def problem_of(seam: str, error: Exception) -> HttpResponse | None:
    """What a handler's failure is answered with, as the proxy does; ``None``: there is no answer at all.

    An error's own text may hold anything, so it is not told.
    """
    if isinstance(error, KeyReusedError):
        status, title = 422, "This Idempotency-Key was used for another request: use a new key for a new intent."
    elif isinstance(error, CallError | BusError | TimeoutError):
        return None
    else:
        status, title = 502, "The handler failed."
    report.count("failed", seam=seam, reason=type(error).__name__)
    said = {"type": "about:blank", "title": title, "status": status, "seam": seam}
    return HttpResponse(status, [("Content-Type", "application/problem+json")], json.dumps(said))


class TooLargeError(CrossfadeError):
    """The service answered, and its answer is too large for the ledger to keep."""


class Parts:
    """An answer over the bus, part by part, for a thread that may wait: ``(part, True)`` is all of it."""

    def __init__(self, bus: OverBus, command: Command, patience: float | None) -> None:
        self._thread = bus.runtime.thread
        self._parts = answers(bus, command)
        self._patience = patience

    def next(self, *, patient: bool = False) -> tuple[HttpResponse, bool] | None:
        """The next, or ``None`` at the end; ``TimeoutError`` when it does not come while the client waits for it."""

        async def step() -> tuple[HttpResponse, bool] | None:
            return await anext(self._parts, None)

        return self._thread.run(step(), timeout=None if patient else self._patience)

    def close(self) -> None:
        """Give up what has not come."""

        async def close() -> None:
            await self._parts.aclose()

        self._thread.run(close())


class AsyncParts:
    """``Parts`` for a coroutine."""

    def __init__(self, bus: OverBus, command: Command, patience: float | None) -> None:
        self._parts = answers(bus, command)
        self._patience = patience

    async def next(self, *, patient: bool = False) -> tuple[HttpResponse, bool] | None:
        """See ``Parts``."""
        async with asyncio.timeout(None if patient else self._patience):
            return await anext(self._parts, None)

    async def close(self) -> None:
        """See ``Parts``."""
        await self._parts.aclose()


class Site(Protocol, Generic[R]):
    """One request of one client, whose answers are ``R``."""

    def legacy(self) -> R:
        """Ask the service; the answer's body is still to come."""
        ...

    def read(self, response: R) -> HttpResponse:
        """All of a service's answer, which can be read once more after it."""
        ...

    def made(self, answer: HttpResponse) -> R:
        """An answer of the bus."""
        ...

    def streamed(self, head: HttpResponse, parts: Parts) -> R:
        """An answer of the bus of which more parts come."""
        ...

    def failed(self, kind: Failure, error: Exception) -> Exception:
        """The client's own error."""
        ...

    def is_unsent(self, error: Exception) -> bool:
        """Whether ``error``, raised by ``legacy``, says that the service was not asked."""
        ...


def answer(begun: Begun, command: Command, site: Site[R]) -> R:
    """Have the bus, or the ledger, answer; and the service where those say that it may."""
    bus = begun.way.bus
    assert bus is not None  # noqa: S101 - a command was made of it
    fallen: Answer | None = None
    try:
        if begun.way.kind == "bus":
            parts = Parts(bus, command, begun.asked.patience)
            found = parts.next(patient=not begun.is_stream)
            if found is not None and not found[1]:
                return site.streamed(found[0], parts)
            return site.made(found[0] if found else HttpResponse(204))
        return site.made(bus.runtime.thread.run(claim(bus, command)))
    except LegacyAnswersError as legacy:
        fallen = legacy.answer
    except Exception as error:
        said = problem_of(begun.seam.name, error)
        if said is None:
            raise site.failed(failure_of(error), error) from error
        failed(begun.seam.name, error)
        return site.made(said)
    begun.hit()
    return site.legacy() if fallen.claim is None else _owned(bus, command, fallen, site)


def _owned(bus: OverBus, command: Command, fallen: Answer, site: Site[R]) -> R:
    kept: list[R] = []
    failed: list[Exception] = []

    def ask() -> HttpResponse:
        try:
            response = site.legacy()
            whole = site.read(response)
        except Exception as error:
            failed.append(error)
            raise _no_answer(error, unsent=site.is_unsent(error)) from error
        kept.append(response)
        return _small(whole)

    with suppress(NoAnswerError, TooLargeError):  # the ledger knows; the program gets what its client would give it
        owned_here(bus, command, fallen, ask)
    if failed:
        raise failed[0]
    return kept[0]


class AsyncSite(Protocol, Generic[R]):
    """See ``Site``."""

    async def legacy(self) -> R:
        """See ``Site``."""
        ...

    async def read(self, response: R) -> HttpResponse:
        """See ``Site``."""
        ...

    def made(self, answer: HttpResponse) -> R:
        """See ``Site``."""
        ...

    def streamed(self, head: HttpResponse, parts: AsyncParts) -> R:
        """See ``Site``."""
        ...

    def failed(self, kind: Failure, error: Exception) -> Exception:
        """See ``Site``."""
        ...

    def is_unsent(self, error: Exception) -> bool:
        """See ``Site``."""
        ...


async def aanswer(begun: Begun, command: Command, site: AsyncSite[R]) -> R:
    """See ``answer``."""
    bus = begun.way.bus
    assert bus is not None  # noqa: S101 - a command was made of it
    fallen: Answer | None = None
    try:
        if begun.way.kind == "bus":
            parts = AsyncParts(bus, command, begun.asked.patience)
            found = await parts.next(patient=not begun.is_stream)
            if found is not None and not found[1]:
                return site.streamed(found[0], parts)
            return site.made(found[0] if found else HttpResponse(204))
        return site.made(await claim(bus, command))
    except LegacyAnswersError as legacy:
        fallen = legacy.answer
    except Exception as error:
        said = problem_of(begun.seam.name, error)
        if said is None:
            raise site.failed(failure_of(error), error) from error
        failed(begun.seam.name, error)
        return site.made(said)
    begun.hit()
    return await (site.legacy() if fallen.claim is None else _aowned(bus, command, fallen, site))


async def _aowned(bus: OverBus, command: Command, fallen: Answer, site: AsyncSite[R]) -> R:
    kept: list[R] = []
    failed: list[Exception] = []

    async def ask() -> HttpResponse:
        try:
            response = await site.legacy()
            whole = await site.read(response)
        except Exception as error:
            failed.append(error)
            raise _no_answer(error, unsent=site.is_unsent(error)) from error
        kept.append(response)
        return _small(whole)

    with suppress(NoAnswerError, TooLargeError):  # the ledger knows; the program gets what its client would give it
        await owned(bus, command, fallen, ask)
    if failed:
        raise failed[0]
    return kept[0]


def _no_answer(error: Exception, *, unsent: bool) -> NoAnswerError:
    name = type(error).__name__
    return NoAnswerError(
        f"the service brought no answer: {name}", kind="not-executed" if unsent else "unknown", reason=name
    )


def _small(whole: HttpResponse) -> HttpResponse:
    if len(whole.content) > BODY_LIMIT:
        raise TooLargeError
    return whole
