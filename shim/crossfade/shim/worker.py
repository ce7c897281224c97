"""The bus side of seams: consumes commands, claims unsafe ones, runs functions, logs results, replies, acknowledges.

Log before reply: the log is the truth, a reply is a hint. A result that cannot be logged is spooled to disk and
tried until it can; only then is the command acknowledged. A claim that cannot be settled is repeated until it is
clean; until then nothing runs and nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ._loop import LoopThread
from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .claims import (
    CallPlace,
    ClaimRecord,
    Held,
    Won,
    find_terminal,
    fingerprint,
    log_result,
    log_unknown,
    overdue,
    take,
)
from .domains import answer_type
from .errors import BusError, ConfigurationError, EventTooLargeError, MalformedEventError, WrongPositionError
from .events import Event, derived_id
from .execution import MAX_DELIVER, Execution, Finished, refused
from .health import Health
from .hooks import report
from .outcomes import EFFECTS_DIFFER, ErrorRecord, error_payload, type_name
from .ports import ConsumeOptions
from .projection import ending, tell_unknown
from .reaping import Reaper
from .services import services
from .shadowing import Shadowing
from .slots import LENDERS, Slot, Slots
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from ._runtime import Runtime
    from .calls import CurrentCall
    from .health import Status
    from .ports import Deliveries, Delivery, Position
    from .services import Service

ACK_WAIT: Final = 10.0  # seconds; a third of a call's default timeout: a crashed worker's calls reach another in time
IN_FLIGHT: Final = 1000  # commands of one seam in the hands of all workers, those that wait for a retry among them
BODIES: Final = "crossfade body"
"""What the names of threads that run plain functions begin with."""

CANCEL: Final = "cancel"
"""The address on which every worker hears of calls that their callers gave up."""

_LOOK: Final = 0.5  # seconds between looks for handlers that are overdue
_RETRY: Final = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between attempts to log a result

_PASSED_ON: Final = (
    "correlationid",
    "tenantid",
    "userid",
    "sessionid",
    "partitionkey",
    "traceparent",
    "tracestate",
    "callid",
    "policyrev",
)
"""Attributes of a command that its result has, too."""

T = TypeVar("T")

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """How a worker runs.

    Attributes:
        concurrency: Calls of one seam at once in this process. Default 8. Danger: bodies that share a
            connection may not like more.
        ack_wait: Seconds after which a silent worker's calls go to another, 1 at least. Default 10; heartbeats
            carry longer calls.
        grace: Seconds that calls in progress get when the worker is asked to stop. Default 20.
        spool: Folder for results that the bus does not take. Default ``.crossfade/spool``.
        shadows: Shadow runs of one seam at once; 0: none here. Default 2. Danger: they compete with real calls.
    """

    concurrency: int = 8
    ack_wait: float = ACK_WAIT
    grace: float = 20.0
    spool: Path = Path(".crossfade/spool")
    shadows: int = 2

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigurationError("must be 1 at least", where="concurrency")
        if not 1 <= self.ack_wait < math.inf:
            raise ConfigurationError("must be 1 second at least", where="ack_wait")
        if not 0 <= self.grace < math.inf:
            raise ConfigurationError("must be 0 seconds at least", where="grace")
        if self.shadows < 0:
            raise ConfigurationError("must be 0 at least", where="shadows")


class Worker:
    """Serves every seam and handler of the runtime's registry, or those that ``only`` names, until ``stop``."""

    def __init__(
        self, runtime: Runtime, options: WorkerOptions | None = None, *, only: Collection[str] | None = None
    ) -> None:
        self.services = services(runtime.registry, only)
        if not self.services:
            raise ConfigurationError("nothing to serve: the modules named declare no seam", where="worker")
        self._runtime = runtime
        self._options = options or WorkerOptions()
        self._spool = Spool(self._options.spool)
        self._stopping = asyncio.Event()  # belongs to the runtime's loop: set it there
        self._executions: list[Execution] = []
        self._unjoined = 0
        self._when_ready: Callable[[], None] = _nothing
        self.ready = False
        self._held: dict[Delivery, str] = {}  # with their seams
        self._late: set[asyncio.Task[Any]] = set()  # handlers that nobody waits for any more
        runtime.act_as("worker")

    def run(self, *, when_ready: Callable[[], None] | None = None) -> None:
        """Serve until ``stop`` is called from another thread or a signal handler.

        ``when_ready`` is called, on the loop's thread, once every group is joined: from then on no call and no shadow
        observation is missed.
        """
        self._when_ready = when_ready or _nothing
        bodies = LoopThread()
        threads = self._options.concurrency + self._options.shadows + LENDERS  # made when they are needed
        executor = ThreadPoolExecutor(threads * len(self.services), BODIES)
        try:
            self._runtime.thread.run(self._serve(executor, bodies.loop))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            bodies.stop()

    def stop(self) -> None:
        """Take no more calls, finish those in progress within the grace period, return from ``run``."""
        self._runtime.thread.loop.call_soon_threadsafe(self._stopping.set)

    @property
    def in_flight(self) -> int:
        """Calls in hand."""
        return len(self._held)

    async def health(self) -> Health:
        """How it is, for ``HealthServer``; runs on the runtime's loop."""
        connected = self._runtime.bus.connected
        slots = [execution.slots for execution in self._executions]
        stuck: Status = "stuck" if any(found.stuck >= found.limit for found in slots) else "serving"
        serving = stuck if connected else "no-bus"
        return Health(
            status="stopping" if self._stopping.is_set() else serving if self.ready else "starting",
            seams=tuple(service.name for service in self.services),
            in_flight=self.in_flight,
            connected=connected,
            spooled=await asyncio.to_thread(self._spool.count),
            stuck={found.seam: found.stuck for found in slots if found.stuck},
        )

    async def _serve(self, executor: ThreadPoolExecutor, bodies: asyncio.AbstractEventLoop) -> None:
        await self._runtime.bus.listen(CANCEL, self._on_cancel)
        reaper = Reaper(self._runtime, self._options.ack_wait)
        duties = (reaper.dead(), reaper.claims(), self._keep_spool(), self._beat(), self._watch())
        helpers = [asyncio.create_task(work) for work in duties]
        self._unjoined = len(self.services) * (2 if self._options.shadows else 1)
        try:
            async with asyncio.TaskGroup() as group:
                for service in self.services:
                    slots = Slots(service.name, self._options.concurrency)
                    execution = Execution(self._runtime, service, executor=executor, loop=bodies, slots=slots)
                    self._executions.append(execution)
                    group.create_task(self._serve_one(service, execution))
                    if self._options.shadows:
                        shadowing = Shadowing(self._runtime, service, execution.bodies, limit=self._options.shadows)
                        helpers.append(asyncio.create_task(shadowing.run(self._joined)))
        finally:
            self.ready = False
            ending = [*helpers, *self._late]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    def _joined(self) -> None:
        """One more group is joined."""
        self._unjoined -= 1
        if self._unjoined == 0:
            self.ready = True
            self._when_ready()

    async def _serve_one(self, service: Service, execution: Execution) -> None:
        options = ConsumeOptions(ack_wait=self._options.ack_wait, max_in_flight=IN_FLIGHT, max_deliver=MAX_DELIVER)
        filters = [self._runtime.subjects.commands(service.domain, service.name)]
        calls: set[asyncio.Task[None]] = set()
        async with self._runtime.bus.consume(service.group, filters, options) as deliveries:
            self._joined()
            await self._take(deliveries, service, execution, calls)
            if calls:
                _, late = await asyncio.wait(calls, timeout=self._options.grace)
                for task in late:
                    report.count("abandoned", seam=service.name, reason="grace")
                    task.cancel()

    async def _take(
        self, deliveries: Deliveries, service: Service, execution: Execution, calls: set[asyncio.Task[None]]
    ) -> None:
        """Start a task per delivery, never holding more than there are places, until the worker stops."""
        execution.slots.widen = deliveries.want  # it counts those in our hands, calls in progress among them
        deliveries.want(execution.slots.wanted)
        taking = asyncio.create_task(self._take_on(deliveries, service, execution, calls))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            taking.cancel()  # what `next` has not returned yet goes back
        with contextlib.suppress(asyncio.CancelledError):
            await taking

    async def _take_on(
        self, deliveries: Deliveries, service: Service, execution: Execution, calls: set[asyncio.Task[None]]
    ) -> None:
        while not self._stopping.is_set():
            delivery = await deliveries.next()
            if delivery is not None:
                task = asyncio.create_task(self._handle(delivery, service, execution))
                calls.add(task)
                task.add_done_callback(calls.discard)

    async def _handle(self, delivery: Delivery, service: Service, execution: Execution) -> None:
        """One delivery from hand-out to acknowledgement; a failure leaves it to redelivery, counted."""
        self._held[delivery] = service.name
        slot: Slot | None = None
        try:
            await execution.slots.take()  # at once, unless handlers lent theirs
            slot = Slot(execution.slots, self._runtime.thread.loop)
            match self._treatment(delivery, service):
                case "guarded":
                    await self._handle_guarded(delivery, service, execution, slot)
                case "free":
                    await self._handle_free(delivery, service, execution, slot)
                case "refused":
                    await self._refuse_difference(delivery, service, execution)
        except (BusError, MalformedEventError) as error:
            report.count("unsettled", seam=service.name, reason=type(error).__name__)
        except Exception:
            report.count("unsettled", seam=service.name, reason="internal")
            _log.exception("seam %s: a delivery could not be settled and will come again", service.name)
        finally:
            del self._held[delivery]
            if slot is not None:
                slot.end()

    def _treatment(self, delivery: Delivery, service: Service) -> Literal["guarded", "free", "refused"]:
        """Whether the ledger decides who starts it: when the caller says so, or nobody says what a second run does.

        A caller that thinks a second run does no harm would run its body beside ours, or send the call again: where
        this side says that it does harm, the call is refused before it runs.
        """
        if delivery.stored.event.get("guarded"):
            return "guarded"
        try:
            said = service.harm(self._runtime.policy)
        except ConfigurationError:
            return "guarded"
        if said == "harmless":
            return "free"
        return "refused" if said == "unsafe" else "guarded"

    async def _refuse_difference(self, delivery: Delivery, service: Service, execution: Execution) -> None:
        """Refuse a call whose sender and this worker disagree about its effects; an earlier delivery may have run."""
        report.count("refused", seam=service.name, reason=EFFECTS_DIFFER)
        self._runtime.warn_once(
            service.name, EFFECTS_DIFFER, "refused: it is unsafe here and its callers say it is not; deploy one of them"
        )
        if await self._answered_before(delivery, service):
            await delivery.ack()
            return
        finished = refused(EFFECTS_DIFFER, "not-executed" if delivery.attempt == 1 else "unknown")
        await self._log(delivery, service, finished, claim=None)
        await self._end(delivery, execution, finished)

    # -- calls that may run twice ------------------------------------------------------------------------------

    async def _handle_free(self, delivery: Delivery, service: Service, execution: Execution, slot: Slot) -> None:
        if delivery.attempt > 1 and await self._answered_before(delivery, service):
            await delivery.ack()
            return
        if delivery.stored.event.get("cancellable") and await self._cancelled_before(delivery, service, execution):
            return
        finished = await self._run(delivery, execution, slot, fence=None)
        if finished.kind == "retry":
            report.count("retried", seam=service.name)
            await delivery.retry(finished.retry_after, reason="handler")
            return
        await self._log(delivery, service, finished, claim=None)
        await self._end(delivery, execution, finished)

    async def _cancelled_before(self, delivery: Delivery, service: Service, execution: Execution) -> bool:
        """Claim a submitted call, so that a cancel knows whether it started; what a worker claimed may run again."""
        try:
            call = execution.read_call(delivery)
        except MalformedEventError:
            return False  # running it says so
        record = await self._record(delivery, service, call)
        place = CallPlace.of(delivery.stored.subject)
        claim = await take(self._runtime.bus, place, record, at=delivery.stored.position, nonces=self._runtime.nonces)
        if not isinstance(claim, Held) or claim.record.role == "worker":
            return False
        await self._leave_to_owner(delivery, service, claim)
        return True

    # -- calls that must not start twice -----------------------------------------------------------------------

    async def _handle_guarded(self, delivery: Delivery, service: Service, execution: Execution, slot: Slot) -> None:
        try:
            call = execution.read_call(delivery)
        except MalformedEventError as error:
            await delivery.reject(error.reason, detail=str(error))
            return
        if call.callid in execution.running:
            report.count("left-to-owner", seam=service.name, reason="running")
            await delivery.ack()
            return
        place = CallPlace.of(delivery.stored.subject)
        record = await self._record(delivery, service, call)
        claim = await take(self._runtime.bus, place, record, at=delivery.stored.position, nonces=self._runtime.nonces)
        if isinstance(claim, Won):
            finished = await self._run(delivery, execution, slot, fence=claim.position)
            if finished.late is not None:
                self._keep(self._log_late(delivery, service, finished.late, claim.position))
            if finished.kind == "overdue":
                await self._log_unknown(place)
            else:
                await self._log(delivery, service, finished, claim=claim.position)
            await self._end(delivery, execution, finished)
        elif isinstance(claim, Held):
            await self._leave_to_owner(delivery, service, claim)
        else:
            await delivery.reject("vanished", detail="the command is gone from its ledger: nobody may run it")

    async def _log_unknown(self, place: CallPlace) -> None:
        """Our own claim's time is over, and its handler has said nothing."""
        claim = await self._runtime.bus.last(place.own)
        if claim is not None:
            record = ClaimRecord.read(claim.event)
            await log_unknown(self._runtime.bus, place, record, reason="overdue", writer=self._runtime.instance)

    async def _log_late(
        self, delivery: Delivery, service: Service, late: asyncio.Task[Finished], claim: Position
    ) -> None:
        """What a handler says that was given up: it supersedes ``unknown``."""
        await self._log(delivery, service, await late, claim=claim)

    async def _leave_to_owner(self, delivery: Delivery, service: Service, claim: Held) -> None:
        """Somebody else started it: repeat their answer, leave it to them, or say that nobody will ever know."""
        if await self._answered_before(delivery, service):
            await delivery.ack()
            return
        if overdue(self._runtime.bus, claim.record):
            place, writer = CallPlace.of(delivery.stored.subject), self._runtime.instance
            if await log_unknown(self._runtime.bus, place, claim.record, reason="owner-silent", writer=writer):
                tell_unknown(self._runtime, delivery.stored.event, seam=service.name, domain=service.domain)
            await self._answered_before(delivery, service)
        else:
            report.count("left-to-owner", seam=service.name, reason=claim.record.role)
        # The reaper follows the claim to its end. To wait here would take a place that runnable commands need.
        await delivery.ack()

    async def _record(self, delivery: Delivery, service: Service, call: CurrentCall) -> ClaimRecord:
        event = delivery.stored.event
        revision = event.get("policyrev") or "0"
        return ClaimRecord(
            callid=call.callid,
            seam=service.name,
            role="worker",
            instance=self._runtime.instance,
            attempt=delivery.attempt,
            policyrev=int(revision) if revision.isdigit() else 0,
            arguments=fingerprint(await load_data(self._runtime.bus, event), domain=service.domain),
            expires=call.deadline,
        )

    # -- both --------------------------------------------------------------------------------------------------

    async def _run(self, delivery: Delivery, execution: Execution, slot: Slot, *, fence: Position | None) -> Finished:
        event = delivery.stored.event
        run, pins = event.get("correlationid"), event.get("pins")
        if run and pins:
            self._runtime.pins.adopt(run, pins)
        try:
            call = execution.read_call(delivery, fence=fence, slot=slot)
        except MalformedEventError as error:
            return execution.undecodable(error)
        finished = await execution.run(delivery, call)
        if finished.late is not None:
            self._late.add(finished.late)
            finished.late.add_done_callback(self._late.discard)
            slot.leave(finished.late)
        return finished

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _end(self, delivery: Delivery, execution: Execution, finished: Finished) -> None:
        if (projection := execution.projection(delivery.stored.event)) is not None:
            projection.ended(*(("value", "") if finished.kind == "value" else ending(finished.payload)))
        if finished.reject:
            await delivery.reject(finished.reject, detail=finished.detail)
        else:
            await delivery.ack()
        report.count("served", seam=execution.seam, reason=finished.kind)

    async def _beat(self) -> None:
        """Keep what is in our hands ours: all of it each time, which is simpler than a clock per delivery."""
        while True:
            await asyncio.sleep(self._options.ack_wait / 3)
            await asyncio.gather(*(self._extend(delivery, seam) for delivery, seam in self._held.items()))

    async def _watch(self) -> None:
        """Now and then tell handlers to stop that nobody waits for any more: cheaper than a clock per call."""
        while True:
            await asyncio.sleep(_LOOK)
            for execution in self._executions:
                execution.tell_overdue()

    async def _extend(self, delivery: Delivery, seam: str) -> None:
        try:
            await delivery.extend()
        except BusError as error:
            report.count("heartbeat-failed", seam=seam, reason=type(error).__name__)

    def _on_cancel(self, event: Event) -> None:
        callid, seam = event.get("callid") or "", event.get("seam") or "-"
        if any(execution.cancel(callid) for execution in self._executions if execution.seam == seam):
            report.count("cancelled", seam=seam)

    async def _answered_before(self, delivery: Delivery, service: Service) -> bool:
        """Whether a result is logged already; it is sent again, because its reply may have been lost."""
        stored = await find_terminal(self._runtime.bus, CallPlace.of(delivery.stored.subject))
        if stored is None:
            return False
        report.count("redelivered", seam=service.name, reason="answered")
        self._reply(delivery, stored.event)
        return True

    async def _log(self, delivery: Delivery, service: Service, finished: Finished, *, claim: Position | None) -> None:
        """Make the result durable on the bus, whatever it takes, then reply."""
        event = self._result(delivery, service, finished, claim)
        subject = CallPlace.of(delivery.stored.subject).result
        failures = 0
        try:
            while (logged := await self._stored(subject, event, claim)) is None:
                if failures == 0:
                    await self._spooling(self._spool.add, subject, event, claim)
                await asyncio.sleep(_RETRY[min(failures, len(_RETRY) - 1)])
                failures += 1
        except asyncio.CancelledError:  # the worker stops, and nobody else knows this result
            self._spool_now(subject, event, claim)
            raise
        if failures:
            await self._spooling(self._spool.remove, event)
        self._reply(delivery, logged)

    async def _stored(self, subject: str, event: Event, claim: Position | None) -> Event | None:
        """The result as it was logged; ``None`` when the bus did not take it."""
        try:
            return await self._append(subject, event, claim)
        except WrongPositionError:  # only a restore of the store moves a claim
            report.count("result-fenced", seam=event.get("seam") or "-")
            _log.error("seam %s: the claim of call %s is not ours any more", event.get("seam"), event.get("callid"))
            return event
        except BusError as error:
            report.count("result-retried", seam=event.get("seam") or "-", reason=type(error).__name__)
            return None

    async def _append(self, subject: str, event: Event, claim: Position | None) -> Event:
        """Log a result as it is, else by claim check, else as an error: it ran, and no later try makes it smaller."""
        if event.data is None or len(event.data) <= CLAIM_CHECK:
            with contextlib.suppress(EventTooLargeError):  # a broker that accepts less than usual
                return await self._append_once(subject, event, claim)
        try:
            dataref = format_dataref(await self._runtime.bus.put_object(event.data or b""))
            return await self._append_once(subject, replace(event.with_extensions(dataref=dataref), data=None), claim)
        except EventTooLargeError as error:
            report.count("result-too-large", seam=event.get("seam") or "-")
            return await self._append_once(subject, _as_too_large(event, error), claim)

    async def _append_once(self, subject: str, event: Event, claim: Position | None) -> Event:
        if claim is None:
            await self._runtime.bus.publish(subject, event)
        else:
            await log_result(self._runtime.bus, CallPlace.of(subject), event, claim=claim)
        return event

    async def _spooling(self, act: Callable[..., None], *args: Any) -> None:
        try:
            await asyncio.to_thread(act, *args)
        except OSError as error:  # the bus may still take the result, so go on
            _complain(error)

    def _spool_now(self, subject: str, event: Event, claim: Position | None) -> None:
        try:
            self._spool.add(subject, event, claim)
        except OSError as error:
            _complain(error)

    def _result(self, delivery: Delivery, service: Service, finished: Finished, claim: Position | None) -> Event:
        command = delivery.stored.event
        extensions = {name: value for name in _PASSED_ON if (value := command.get(name)) is not None}
        extensions |= {"seam": service.name, "causationid": command.id, "attempt": str(delivery.attempt), "path": "bus"}
        extensions |= self._runtime.build
        ended = "error" if finished.kind == "retry" else finished.kind
        return Event(
            type=answer_type(service.domain, "error" if ended == "overdue" else ended),
            source=f"urn:crossfade:{self._runtime.instance}",
            id=derived_id(command.id, "result", claim or ""),  # each owner's own: see rule 5 of claims
            subject=service.name,
            extensions=extensions,
            data=finished.payload,
        )

    def _reply(self, delivery: Delivery, event: Event) -> None:
        address = delivery.stored.event.get("replyto")
        if not address:
            return
        try:
            self._runtime.bus.reply(address, event)
        except BusError as error:  # the caller looks the result up
            report.count("reply-failed", seam=event.get("seam") or "-", reason=type(error).__name__)

    async def _keep_spool(self) -> None:
        """Log what is spooled, now and then again what the bus did not take."""
        while True:
            for subject, event, claim in await self._spooled():
                if await self._stored(subject, event, claim) is None:
                    continue  # another installation's, or the bus is full: it stays, and so does the worker
                await self._spooling(self._spool.remove, event)
                report.count("spool-drained", seam=event.get("seam") or "-")
            await asyncio.sleep(self._options.ack_wait)

    async def _spooled(self) -> list[tuple[str, Event, Position | None]]:
        try:
            return await asyncio.to_thread(lambda: list(self._spool.items()))
        except OSError as error:  # looked at again; what lies there is not lost
            report.count("spool-failed", reason=type(error).__name__)
            return []


def _complain(error: OSError) -> None:
    report.count("spool-failed", reason=type(error).__name__)
    _log.warning("the spool fails, so a result may be lost when this process ends: %s", error)


def _nothing() -> None:
    """Nobody waits for the worker to be ready."""


def _as_too_large(event: Event, error: EventTooLargeError) -> Event:
    """The result of a call whose value no form of an event can carry."""
    record = ErrorRecord(type=type_name(type(error)), message=f"the call ran, and its result cannot be sent: {error}")
    kind = "agent.task.failed" if event.type == "agent.task.completed" else event.type
    return replace(event, type=kind, data=error_payload(record, handler="self", handler_ms=0.0))
