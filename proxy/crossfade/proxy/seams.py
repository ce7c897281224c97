"""A route as a seam: who answers its next request, the upstream or a handler on the bus, is its stage's to say.

At ``legacy`` it costs one branch. At ``observe`` and ``shadow`` the request passes through and a tap keeps some of it.
At ``canary`` and ``bus`` the request becomes a call: its body is read whole, up to a limit, and a handler's answer
comes back whole or, for Server-Sent Events, in pieces. What cannot travel (an upgrade, a body over the limit) stays
with the upstream, counted. Nobody waits for the bus whose request does not go over it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from crossfade.shim.correlate import Correlation, correlated
from crossfade.shim.diverting import (
    LegacyAnswersError,
    answers,
    claim,
    command_of,
    ended,
    owned,
    result,
    submit,
    way,
)
from crossfade.shim.errors import BusError, KeyReusedError, NotExecutedError, OutcomeUnknownError
from crossfade.shim.events import new_id
from crossfade.shim.fields import answer_fields, raw, reason_of
from crossfade.shim.hooks import report
from crossfade.shim.http import BODY_LIMIT, arguments, idempotency_key, is_secret_field, is_streamed
from crossfade.shim.outcomes import Answer, NoAnswerError
from crossfade.shim.tracecontext import parse_traceparent

from .capturing import Capturing, UpstreamFailedError
from .circuits import BreakerOpenError, failure_of
from .forwarding import forward
from .framing import CHUNKED, Framing, RefusedError
from .headers import made_response
from .http_calls import framing_of, request_of, response_of
from .tasks import accepted, applied_fields, wish_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from crossfade.shim.diverting import Command, Observing, OverBus, Way
    from crossfade.shim.http import HttpResponse

    from .circuits import Attempt
    from .config import Route
    from .exchange import Exchange, Tap
    from .forwarding import Forwarding
    from .heads import Field, ResponseHead
    from .identity import Identity, IdentityRules
    from .pool import Pool
    from .route_seams import RouteSeam
    from .tasks import Wish

_CONTINUE: Final = made_response(100, b"Continue", [])
_STATUS: Final = {"value": "completed", "error": "failed"}
_KEY_REUSED: Final = "This Idempotency-Key was used for another request: use a new key for a new intent."
_LEDGER_DOWN: Final = "ledger-down"
_UNASKED: Final = "It cannot be asked now whether this Idempotency-Key was used: ask again with the same one."
_FAILING: Final = "The bus fails this seam, and its upstream may not answer instead: try again later."
_UNSAID: Final = "The bus does not say what became of it."
_SAME_KEY: Final = f"{_UNSAID} Ask again with the same Idempotency-Key."
_LOOK_FIRST: Final = f"{_UNSAID} Look before you send it again; with an Idempotency-Key you could just ask again."
_UNKNOWN: Final = "No answer came before the deadline; it may have run."
_ASK_AGAIN: Final = f"{_UNKNOWN} Ask again with the same Idempotency-Key."
_LOOK: Final = f"{_UNKNOWN} Look before you send it again; with an Idempotency-Key you could just ask again."


class SeamRoute:
    """Answers the requests of one route. See ``Answering``."""

    def __init__(
        self, route: Route, seam: RouteSeam, pool: Pool, rules: IdentityRules, *, monitored: bool = False
    ) -> None:
        self._route = route
        self._monitored = monitored
        self.seam = seam
        self.pool = pool
        self._rules = rules
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Exchange) -> None:
        """See ``Answering``."""
        exchange.seam = self.seam.name
        if self.seam.unwatched is None:
            forward(exchange, self.pool)
            return
        identity = self._rules.identify(exchange.head.headers, trusted=exchange.peer.trusted)
        correlation = self._correlation(exchange, identity)
        with correlated(correlation):
            found = way(self.seam)
        if exchange.head.upgrade:
            report.count("skipped", seam=self.seam.name, reason="upgrade")
            self.hit(found)
            forward(exchange, self.pool, added=_lines(self._added(exchange)))
            return
        if found.kind == "legacy" or found.bus is None:
            self._pass(exchange, found, correlation)
            return
        wish = self._wish(exchange, identity) if found.kind == "bus" else None
        added = self._added(exchange)
        diverted = _Diverted(self, exchange, found, found.bus, correlation, added=added, wish=wish)
        task = asyncio.get_running_loop().create_task(diverted.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wish(self, exchange: Exchange, identity: Identity) -> Wish | None:
        """Whether this request becomes a task: only one whose owner can ask what became of it."""
        wish = wish_of(exchange.head, self._route.mode)
        if wish is None or (self._monitored and identity.owner is not None):
            return wish
        report.count("skipped", seam=self.seam.name, reason="no-owner" if self._monitored else "no-control")
        return None

    def _correlation(self, exchange: Exchange, identity: Identity) -> Correlation:
        """Whose request it is, and of which run: the trace's, where the client sent one."""
        if identity.reason:
            report.count("skipped", seam=self.seam.name, reason=f"identity-{identity.reason}")
        head = exchange.head
        traceparent = (head.get(b"traceparent") or b"").decode("latin-1")
        parent = parse_traceparent(traceparent) if traceparent else None
        return Correlation(
            run=parent.trace_id if parent else new_id(),
            user=identity.user,
            tenant=identity.tenant,
            traceparent=str(parent) if parent else None,
            key=idempotency_key(
                head.method, head.get(b"idempotency-key") or b"", head.get(b"authorization") or b"", user=identity.user
            ),
        )

    def _pass(self, exchange: Exchange, found: Way, correlation: Correlation) -> None:
        if found.observing is not None:
            exchange.tap = self.capturing(exchange, found.observing, correlation, started=exchange.started)
        forward(exchange, self.pool, added=_lines(self._added(exchange)))

    def capturing(
        self, exchange: Exchange, observing: Observing, correlation: Correlation, *, started: float
    ) -> Capturing:
        """What keeps a request, of which the upstream is asked from ``started`` (loop time) on, for an observation."""
        return Capturing(
            observing,
            exchange,
            capture=self._route.capture,
            correlation=correlation,
            authority=self.pool.authority,
            started=started,
        )

    def hit(self, found: Way) -> None:
        """Count a request that the upstream answers where the bus should: not one that only its key kept here."""
        if found.kind == "bus" and found.bus is not None:
            found.bus.hit(self.seam)

    def _added(self, exchange: Exchange) -> list[Field]:
        """What the service is told besides, on both paths: a key for an unsafe request, which it may see on both.

        No traceparent: saying "sampled", or not, would take that decision from the service's own sampler.
        """
        if self._route.effects != "unsafe" or exchange.head.get(b"idempotency-key") is not None:
            return []
        return [(b"Idempotency-Key", new_id().encode())]


def _lines(fields: Sequence[Field]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


class _Diverted:
    """One request that the bus answers, or that the ledger must let through."""

    def __init__(
        self,
        route: SeamRoute,
        exchange: Exchange,
        found: Way,
        bus: OverBus,
        correlation: Correlation,
        *,
        added: Sequence[Field],
        wish: Wish | None,
    ) -> None:
        self._added = added
        self._wish = wish
        self._route = route
        self._exchange = exchange
        self._way = found
        self._bus = bus
        self._circuits = route.seam.circuits
        self._correlation = correlation
        self._body = _Body(exchange)

    async def run(self) -> None:
        """Answer it, whatever happens; a client that leaves cancels this."""
        self._body.reader = asyncio.current_task()
        self._exchange.path = "bus"
        try:
            await self._run()
        except asyncio.CancelledError:
            report.count("cancelled", seam=self._exchange.seam, reason="client-left")
        except Exception as error:
            self._fail(error)

    async def _run(self) -> None:
        if self._exchange.outcome:
            return  # refused before this had its first turn: no body comes any more, nor word of that
        if not await self._body.read():
            report.count("skipped", seam=self._exchange.seam, reason="too-large")
            self._to_upstream()
            return
        command = self._command()
        if command is None:
            self._to_upstream()
            return
        try:
            if self._way.kind == "bus":
                await self._over_bus(command)
            else:
                await self._claimed(command)
        except LegacyAnswersError as legacy:
            if legacy.answer.claim is None:
                self._to_upstream()
            else:
                await owned(self._bus, command, legacy.answer, self._ask_upstream)

    async def _over_bus(self, command: Command) -> None:
        """Have the bus answer, or what is legal at once when its breaker is open: nothing has been sent then."""
        try:
            if self._wish is not None:
                await self._as_task(command, self._wish)
            else:
                with self._circuits.calls.attempt(self._bus, command) as attempt:
                    await self._relay(answers(self._bus, command), attempt)
        except BreakerOpenError as error:
            self._exchange.breaker = error.state
            unsent = Answer(kind="not-executed", reason="breaker-open")
            if self._bus.may_fall_back(command, unsent):
                raise LegacyAnswersError(unsent) from None
            if not (command.once and command.policy.runs_legacy):
                raise
            await self._claimed(command)

    async def _claimed(self, command: Command) -> None:
        """Answer as the key's earlier call was answered; ``LegacyAnswersError``, when there was none and it is ours."""
        try:
            with self._circuits.ledger.attempt(self._bus, command) as attempt:
                try:
                    earlier = await claim(self._bus, command)
                except Exception as error:
                    if failure_of(error) != _LEDGER_DOWN:  # it was asked, whatever became of the call it told of
                        attempt.answered()
                    raise
        except BreakerOpenError as error:
            self._exchange.breaker = error.state
            unasked = Answer(kind="unknown", reason=_LEDGER_DOWN)
            if self._bus.may_fall_back(command, unasked):
                raise LegacyAnswersError(unasked) from None
            raise
        self._send(earlier)

    def _command(self) -> Command | None:
        exchange, seam, pool = self._exchange, self._route.seam, self._route.pool
        request = request_of(
            exchange.head, self._body.whole, peer=exchange.peer, authority=pool.authority, added=self._added
        )
        with correlated(self._correlation):
            return command_of(self._bus, seam, arguments(request, is_secret_field), detached=self._wish is not None)

    async def _as_task(self, command: Command, wish: Wish) -> None:
        """Answer with 202 once the command is stored, or with the task's own answer when it comes in time.

        A call that ran under this key on the legacy path is no task: its answer is waited for.
        """
        with self._circuits.ledger.attempt(self._bus, command):
            submitted = await submit(self._bus, command)
        answer, wait = submitted.answer, wish.wait if submitted.monitored else command.policy.timeout
        if answer is None and wait:
            answer = await ended(self._bus, command, wait=wait)
        if submitted.monitored and (answer is None or not wait or is_streamed(answer)):
            fields, body = accepted(command.callid, wish, status=_STATUS[answer.kind] if answer else "waiting")
            self._exchange.start(202, b"Accepted", fields, Framing("length", len(body)))
            self._exchange.write(body)
            self._exchange.end()
        else:
            found = result(self._bus, command, answer or Answer(kind="unknown", reason="deadline"))
            self._send(found, also=applied_fields(wish, at_once=False))

    # -- the bus answers -----------------------------------------------------------------------------------------

    async def _relay(self, parts: AsyncGenerator[tuple[HttpResponse, bool]], attempt: Attempt) -> None:
        async with aclosing(parts):
            async for part, whole in parts:
                attempt.answered()
                if whole:
                    self._send(part)
                    return
                if not self._exchange.status:
                    self._exchange.writable = self._body.set_writable
                    self._exchange.start(part.status, reason_of(part.status), raw(part.headers), CHUNKED)
                self._exchange.write(part.content)
                self._exchange.flush()
                await self._body.writable.wait()
        self._exchange.end()

    def _send(self, answer: HttpResponse, *, also: Sequence[Field] = ()) -> None:
        content, fields = answer.content, [*answer_fields(answer, self._exchange.head.method), *also]
        self._exchange.start(
            answer.status, reason_of(answer.status), fields, framing_of(answer, self._exchange.head.method)
        )
        self._exchange.write(content)
        self._exchange.end()

    def _fail(self, error: Exception) -> None:
        """Say which phase failed and that the seam did it; an exception's own text may hold anything."""
        exchange = self._exchange
        report.count("failed", seam=exchange.seam, reason=type(error).__name__)
        match error:
            case RefusedError():
                exchange.refuse(error.refusal)
            case KeyReusedError():
                exchange.problem(422, name="key-reused", phase="bus", detail=_KEY_REUSED)
            case NotExecutedError():
                exchange.problem(503, name="not-executed", phase="bus", detail="No worker answered it: try again.")
            case OutcomeUnknownError(reason="ledger-down"):
                exchange.problem(503, name="ledger-down", phase="bus", detail=_UNASKED)
            case OutcomeUnknownError():
                detail = _ASK_AGAIN if self._correlation.key else _LOOK
                exchange.problem(504, name="outcome-unknown", phase="bus", detail=detail)
            case BreakerOpenError():
                detail = _FAILING if error.failing == "calls" or not self._correlation.key else _UNASKED
                exchange.problem(503, name="breaker-open", phase="bus", detail=detail, retry_after=error.retry_after)
            case BusError():
                detail = _SAME_KEY if self._correlation.key else _LOOK_FIRST
                exchange.problem(503, name="bus-failed", phase="bus", detail=detail)
            case _:
                exchange.problem(502, name="handler-failed", phase="handler", detail="The handler failed.")

    # -- the upstream answers after all ---------------------------------------------------------------------------

    def _to_upstream(self, keeping: _Keeping | None = None) -> Forwarding | None:
        """Forward it, observed where a request without a key is; ``keeping`` sees what the upstream answers, too."""
        self._route.hit(self._way)
        exchange, observed = self._exchange, self._observed()
        if keeping is not None:
            keeping.also = observed
        exchange.tap = keeping or observed
        self._body.give_back()
        return forward(exchange, self._route.pool, added=_lines(self._added))

    def _observed(self) -> Tap | None:
        """A tap that has seen what came of the body; it is the claim that took the time until now, no service."""
        if self._way.observing is None:
            return None
        now = asyncio.get_running_loop().time()
        capturing = self._route.capturing(self._exchange, self._way.observing, self._correlation, started=now)
        for part in self._body.parts:
            capturing.request_data(part)
        return capturing

    async def _ask_upstream(self) -> HttpResponse:
        """Forward it, and say what came back, which the ledger keeps for whoever asks again with its key.

        Raises ``NoAnswerError`` when no whole answer came, and ``UpstreamFailedError`` when it is too large to keep.
        """
        exchange, keeping = self._exchange, _Keeping(asyncio.get_running_loop())
        forwarding = self._to_upstream(keeping)
        answer = await keeping.answer
        if answer is not None and forwarding is not None and not exchange.failure:
            return answer
        reason = exchange.failure or exchange.outcome
        if forwarding is not None and forwarding.sent:
            raise NoAnswerError(f"the upstream was asked: {reason}", kind="unknown", reason=reason)
        raise NoAnswerError(f"the upstream was not asked: {reason}", kind="not-executed", reason=reason)


class _Body:
    """A request's body, read whole or given back to be forwarded."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.parts: list[bytes] = []
        self._size = 0
        self._taken = False
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.reader: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    async def read(self) -> bool:
        """Whether all of it came and is small enough; one that says itself that it is not is left where it is."""
        exchange = self._exchange
        if exchange.head.framing.length > BODY_LIMIT:
            return False
        if exchange.head.expects_continue and not (exchange.request_done or exchange.body_follows):
            exchange.interim(_CONTINUE)  # nobody else is asked before the body is there
        self._taken = True
        exchange.body_to(self)
        return await self._done

    @property
    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)

    def give_back(self) -> None:
        """Let somebody else have it from its first byte."""
        if self._taken:
            self._exchange.unread(self.parts)
        self.reader = None

    def set_writable(self, writable: bool) -> None:
        """Whether the client takes more of the answer now."""
        (self.writable.set if writable else self.writable.clear)()

    def data(self, data: bytes) -> None:
        """See ``BodySink``."""
        self.parts.append(data)
        self._size += len(data)
        if self._size > BODY_LIMIT and not self._done.done():
            self._exchange.pause()
            self._done.set_result(False)

    def end(self, trailers: Sequence[Field]) -> None:
        """See ``BodySink``; trailers stay behind, as RFC 9110 (6.5.1) lets them."""
        del trailers
        if not self._done.done():
            self._done.set_result(True)

    def gone(self) -> None:
        """See ``BodySink``: nobody waits for the answer any more."""
        self.writable.set()
        if self.reader is not None:
            self.reader.cancel()


class _Keeping:
    """A tap that keeps the whole answer, up to a limit. See ``exchange.Tap``.

    ``answer``: ``None`` when there is none. ``also`` is a tap that sees the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[HttpResponse | None] = loop.create_future()
        self.also: Tap | None = None
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def request_data(self, data: bytes) -> None:
        """See ``Tap``."""
        if self.also is not None:
            self.also.request_data(data)

    def response_head(self, head: ResponseHead) -> None:
        """See ``Tap``."""
        self._head = head
        if self.also is not None:
            self.also.response_head(head)

    def response_data(self, data: bytes) -> None:
        """See ``Tap``."""
        self._size += len(data)
        if self._size <= BODY_LIMIT:
            self._parts.append(data)
        if self.also is not None:
            self.also.response_data(data)

    def finished(self, *, whole: bool) -> None:
        """See ``Tap``."""
        if self.also is not None:
            self.also.finished(whole=whole)
        if self.answer.done():
            return
        if self._head is None or not whole:
            self.answer.set_result(None)
        elif self._size > BODY_LIMIT:
            self.answer.set_exception(UpstreamFailedError("answered, too large to keep"))
        else:
            self.answer.set_result(response_of(self._head, b"".join(self._parts)))
