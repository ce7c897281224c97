"""Running one command: decode, judge the deadline, run the function, describe how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ._runtime import seal_context
from .bodies import Bodies, Ran, Running
from .calls import CurrentCall, Progress
from .claimcheck import load_data
from .claims import GRACE
from .correlate import Correlation, extensions, from_event
from .domains import progress_type
from .errors import (
    BusError,
    CallCancelledError,
    CrossfadeError,
    HandlerOverdueError,
    MalformedEventError,
    ObjectMissingError,
    Retry,
    UnserialisableError,
)
from .events import Event
from .hooks import report
from .outcomes import NoAnswerError, error_payload, record_error, refusal_payload, value_payload
from .projection import Projection, projection_of
from .watching import Step, watchers

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from ._runtime import Runtime
    from .ports import Delivery
    from .services import Service
    from .slots import Slot, Slots


_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How a command ended. ``reject`` names why the command belongs in dead letters, besides its terminal.

    ``retry_after``: it shall be delivered again after so many seconds, and there is no terminal yet. ``overdue``: it
    was told to stop after its deadline and the grace; ``late`` ends when it does, where it has not.
    """

    kind: Literal["value", "error", "cancelled", "not-executed", "unknown", "retry", "overdue"]
    payload: bytes = b""
    reject: str = ""
    detail: str = ""
    retry_after: float = 0.0
    late: asyncio.Task[Finished] | None = None


class Execution:
    """Runs commands of one service: coroutines on ``loop``, plain functions in ``executor``."""

    def __init__(
        self, runtime: Runtime, service: Service, *, executor: Executor, loop: asyncio.AbstractEventLoop, slots: Slots
    ) -> None:
        self._runtime = runtime
        self._service = service
        self.bodies = Bodies(service, executor=executor, loop=loop)
        self.seam = service.name
        self.slots = slots
        self.running: dict[str, Running] = {}
        self._given_up: dict[str, None] = {}

    def read_call(self, delivery: Delivery, *, fence: str | None = None, slot: Slot | None = None) -> CurrentCall:
        """What the command says of the call. Raises ``MalformedEventError`` (reason ``attributes``)."""
        event = delivery.stored.event
        callid, expiry = event.get("callid"), event.get("expirytime")
        if not callid or not expiry:
            raise MalformedEventError("a command needs callid and expirytime", reason="attributes")
        try:
            deadline = datetime.fromisoformat(expiry)
        except ValueError:
            raise MalformedEventError(f"expirytime {expiry[:64]!r} is no time", reason="attributes") from None
        if deadline.tzinfo is None:
            raise MalformedEventError("expirytime has no zone", reason="attributes")
        return CurrentCall(
            callid=callid,
            seam=self._service.name,
            attempt=delivery.attempt,
            deadline=deadline,
            fence=fence,
            _tell=lambda progress: self._progress(event, progress),
            _slot=slot,
            _depth=int(depth) if (depth := event.get("depth") or "").isdecimal() else 0,
        )

    async def run(self, delivery: Delivery, call: CurrentCall) -> Finished:
        """Run the delivered command to its end. Raises ``BusError`` only when its claim check cannot be fetched."""
        event = delivery.stored.event
        if reason := await self._refusal(event, call):
            return refused(reason)
        try:
            bound = await self.decode(event, call.callid)
        except (MalformedEventError, UnserialisableError, ObjectMissingError) as error:
            return self.undecodable(error)
        except BusError:
            raise
        except CrossfadeError as error:  # a sealed argument cannot be opened
            return self.undecodable(error)
        if barred := await self._barred(event, call):
            return refused(barred)
        running = Running(call, asyncio.get_running_loop().create_future())
        if watchers.all:
            running.step = self._step(delivery)
        self.running[call.callid] = running
        if (projection := self.projection(event)) is not None:
            projection.started(call.attempt)
        try:
            ran = await self.bodies.run(from_event(event), running, bound, lambda n, item: self._chunk(event, n, item))
        finally:
            if self.running.get(call.callid) is running:
                del self.running[call.callid]
        if running.overdue and isinstance(ran.error, asyncio.CancelledError | CallCancelledError):
            return self._overdue(ran, delivery, call)
        return self._finished(ran, delivery, call)

    def _step(self, delivery: Delivery) -> Step:
        """What there is to tell of the command before its function begins."""
        return Step(
            kind="run",
            seam=self.seam,
            domain=self._service.domain,
            bus=self._runtime.scheme,
            address=self._runtime.subjects.commands(self._service.domain, self.seam),
            size=len(delivery.stored.event.data or b""),
            waited=max(0.0, (self._runtime.bus.now() - delivery.stored.time).total_seconds()),
        )

    def tell_overdue(self) -> None:
        """Tell every handler to stop whose call's deadline and grace have passed, once."""
        now = self._runtime.bus.now()
        for running in self.running.values():
            if not running.overdue and now > running.call.deadline + GRACE:
                running.tell_overdue()

    def cancel(self, callid: str) -> bool:
        """The caller gave up ``callid``: a coroutine is cancelled, a plain function is told; ``False``: not here.

        Then it may be on its way, and is remembered, so that it need not begin.
        """
        running = self.running.get(callid)
        if running is None:
            self._given_up[callid] = None
            if len(self._given_up) > _REMEMBERED:
                del self._given_up[next(iter(self._given_up))]
            return False
        running.call.cancel()
        running.cancel()
        return True

    def expired(self, call: CurrentCall) -> bool:
        """Whether the broker's time is past the call's deadline; for an unsafe call, whether it may be."""
        bus = self._runtime.bus
        return bus.now() + (bus.clock_error if call.fence is not None else _NOTHING) > call.deadline

    async def _refusal(self, event: Event, call: CurrentCall) -> str:
        """Why the command must not run, whatever it says; empty when it may."""
        if call.fence is not None and not await self._runtime.knows_time(self.seam):
            return "clock"
        if self.expired(call):
            return "expired"
        return "stale-policy" if self._stale(event) else ""  # as far as is known: a look costs nothing here

    def _too_late(self, call: CurrentCall) -> str:
        """Why nobody waits for ``call`` any more; empty when somebody does."""
        if self.expired(call):
            return "expired"
        # A later attempt cannot say that none before it ran.
        return "cancelled" if call.attempt == 1 and call.callid in self._given_up else ""

    async def _barred(self, event: Event, call: CurrentCall) -> str:
        """Why the call must not start now, by a policy that is no older than ``FRESH``; empty when it may start.

        Cut off from the broker nobody knows of a rollback: nothing starts until it answers, or it is too late.
        """
        while not (too_late := self._too_late(call)):
            try:
                await self._runtime.refresh_policy(self._service.name)
            except BusError as error:
                report.count("retried", seam=self._service.name, reason=f"policy-{type(error).__name__}")
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                return "stale-policy" if self._stale(event) else self._too_late(call)
        return too_late

    def _stale(self, event: Event) -> bool:
        """Whether the command was sent under a policy that was rolled back to abort."""
        try:
            least = self._runtime.policy(self._service.name, self._service.policy).minrev
            return int(event.get("policyrev") or 0) < least
        except (CrossfadeError, ValueError):
            return False  # unreadable: not a reason to refuse; what cannot be read is counted where it is read

    async def decode(self, event: Event, callid: str) -> inspect.BoundArguments:
        """The arguments of a command, unsealed."""
        codec = self._service.codec
        values, sealed = codec.decode_command(await load_data(self._runtime.bus, event))
        for name, text in sealed.items():
            if self._runtime.sealer is None:
                raise CrossfadeError("the command carries sealed arguments and this worker has no key")
            opened = self._runtime.sealer.open(text, context=seal_context(self._service.name, callid, name))
            values |= codec.decode_secret(name, opened)
        return codec.bound(values)

    def _overdue(self, ran: Ran, delivery: Delivery, call: CurrentCall) -> Finished:
        """The handler was told to stop, long after anybody waited: for an unsafe call nobody knows what it did."""
        report.count("overdue", seam=self.seam, reason="stopped" if ran.later is None else "stuck")
        said = f"{self.seam}: the handler was still running {GRACE.total_seconds():g} s after its call's deadline"
        _log.warning("%s%s", said, "" if ran.later is None else ", and does not stop: its slot is lost until it does")
        if call.fence is not None:
            payload = refusal_payload("unknown", reason="overdue", message=said)
        else:
            record = record_error(HandlerOverdueError(f"{said}, and was told to stop", callid=call.callid))
            payload = error_payload(record, handler=self._service.by, handler_ms=ran.seconds * 1000)
        late = None if ran.later is None else asyncio.create_task(self._late(ran.later, delivery, call))
        return Finished(kind="overdue", payload=payload, late=late)

    async def _late(self, later: asyncio.Future[Ran], delivery: Delivery, call: CurrentCall) -> Finished:
        ran = await later
        report.count("late", seam=self.seam, reason="overdue")
        return self._finished(ran, delivery, call)

    def _finished(self, ran: Ran, delivery: Delivery, call: CurrentCall) -> Finished:
        milliseconds, by, queued = ran.seconds * 1000, self._service.by, self._queued(delivery, ran)
        if isinstance(ran.error, Retry):
            return self._retry(ran.error, delivery, call)
        if call.cancelled and isinstance(ran.error, asyncio.CancelledError | CallCancelledError):
            record = record_error(CallCancelledError("the caller cancelled it", callid=call.callid))
            payload = error_payload(record, handler=by, handler_ms=milliseconds, queue_ms=queued)
            return Finished(kind="cancelled", payload=payload)
        if ran.error is None:
            try:
                payload = self._value(ran, call.callid)
            except UnserialisableError as error:  # it ran: this is an error, never "not executed"
                return self._raised(error, milliseconds, queued)
            payload = value_payload(payload, handler=by, handler_ms=milliseconds, queue_ms=queued)
            return Finished(kind="value", payload=payload)
        if isinstance(ran.error, NoAnswerError) and _settles(ran.error, delivery, call):
            report.count("unanswered", seam=self.seam, reason=ran.error.reason)
            return refused(ran.error.reason, ran.error.kind)
        return self._raised(ran.error, milliseconds, queued)

    def _value(self, ran: Ran, callid: str) -> bytes:
        value = self._runtime.seal_answer(self.seam, callid, ran.value)
        if ran.items is None:
            return self._service.codec.encode_result(value)
        last = {"value": None} if value is None else json.loads(self._service.codec.encode_result(value))
        return json.dumps({**last, "items": ran.items}, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def _retry(self, error: Retry, delivery: Delivery, call: CurrentCall) -> Finished:
        """A handler asked to be called again: legal where running twice does no harm, until deliveries run out."""
        if call.fence is not None:
            return self._raised(error, 0.0, None)
        if delivery.attempt >= MAX_DELIVER:
            ended = self._raised(error, 0.0, None)
            return Finished(kind="error", payload=ended.payload, reject="retries", detail=str(error))
        return Finished(kind="retry", retry_after=error.delay(delivery.attempt))

    def _raised(self, error: BaseException, milliseconds: float, queued: float | None) -> Finished:
        record = record_error(error, redact=self._runtime.redactor.text)
        by = self._service.by
        return Finished(
            kind="error", payload=error_payload(record, handler=by, handler_ms=milliseconds, queue_ms=queued)
        )

    def _queued(self, delivery: Delivery, ran: Ran) -> float:
        """Milliseconds that the call waited: what has passed since it was stored, less the handler's own time."""
        passed = (self._runtime.bus.now() - delivery.stored.time).total_seconds()
        return max(0.0, passed - ran.seconds) * 1000

    def undecodable(self, error: CrossfadeError) -> Finished:
        """The end of a command that nobody can read: not executed, and kept in dead letters."""
        reason = error.reason if isinstance(error, MalformedEventError) else _REASONS.get(type(error), "secret")
        detail = self._runtime.redactor.text(str(error))
        return Finished(
            kind="not-executed",
            payload=refusal_payload("not-executed", reason=reason, message=detail),
            reject=reason,
            detail=detail,
        )

    # -- what a running call says ------------------------------------------------------------------------------

    def projection(self, command: Event) -> Projection | None:
        """What to tell the UI through, when somebody follows the call."""
        return projection_of(self._runtime, command, seam=self._service.name, domain=self._service.domain)

    def _progress(self, event: Event, progress: Progress) -> None:
        """Send a step of the call, fail-open, from whatever thread the handler runs in."""
        payload = {"fraction": progress.fraction, "message": progress.message, "data": progress.data}
        self._say(event, self._runtime.redactor.value(payload))

    def _chunk(self, event: Event, number: int, item: Any) -> None:
        item = self._runtime.seal_answer(self.seam, event.get("callid") or "", item)
        encoded = self._service.codec.encode_result(item)
        self._say(event, {"chunk": number, **json.loads(encoded)})

    def _say(self, command: Event, payload: Mapping[str, Any]) -> None:
        correlation = from_event(command)
        said = Event(
            type=progress_type(self._service.domain),
            source=f"urn:crossfade:{self._runtime.instance}",
            subject=self._service.name,
            extensions={
                **extensions(correlation),
                "callid": command.get("callid") or "",
                "seam": self._service.name,
            },
            data=json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )
        self._runtime.thread.loop.call_soon_threadsafe(self._send, command, correlation, said)

    def _send(self, command: Event, correlation: Correlation, said: Event) -> None:
        address = command.get("replyto")
        subject = self._runtime.subjects.ui(
            said.type, run=correlation.run, tenant=correlation.tenant, user=correlation.user
        )
        with contextlib.ExitStack() as attempts:
            attempts.callback(self._guarded, lambda: self._runtime.bus.emit(subject, said))
            if address:
                attempts.callback(self._guarded, lambda: self._runtime.bus.reply(address, said))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BusError as error:
            report.count("dropped", seam=self._service.name, reason=type(error).__name__)


def _settles(error: NoAnswerError, delivery: Delivery, call: CurrentCall) -> bool:
    """Whether what a handler did not hear is the call's end: no other delivery may have been heard either."""
    return call.fence is not None or (error.kind == "not-executed" and delivery.attempt == 1)


def refused(reason: str, kind: Literal["not-executed", "unknown"] = "not-executed") -> Finished:
    """The end of a command that did not run because of ``reason``; ``unknown``: not in this delivery, that is."""
    return Finished(kind=kind, payload=refusal_payload(kind, reason=reason))


_REMEMBERED: Final = 10_000  # calls given up before they began here, of each seam

_NOTHING: Final = timedelta(0)

MAX_DELIVER: Final = 5
"""Deliveries of a command until it is given up: four crashes or retries."""

_LOOK_AGAIN: Final = 0.25  # seconds between looks at a policy that nobody answers
_REASONS: Final[Mapping[type[CrossfadeError], str]] = {UnserialisableError: "arguments", ObjectMissingError: "dataref"}
