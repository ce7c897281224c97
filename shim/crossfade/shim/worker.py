"""The bus side of seams: consumes commands, runs bodies, logs results, then replies, then acknowledges.

Log before reply: the log is the truth, a reply is a hint. A result that cannot be logged is spooled to disk and
tried until it can; only then is the command acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ._loop import LoopThread
from .claimcheck import CLAIM_CHECK, format_dataref
from .errors import BusError, ConfigurationError
from .events import Event, derived_id
from .execution import Execution, Finished
from .hooks import report
from .ports import ConsumeOptions
from .spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from ._runtime import Runtime
    from .ports import Deliveries, Delivery
    from .seam import Seam

ACK_WAIT: Final = 30.0  # seconds; short, because a crashed worker's calls wait for it; heartbeats carry long bodies
_RETRY: Final = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between attempts to log a result

T = TypeVar("T")

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """How a worker runs.

    Attributes:
        concurrency: Calls of one seam at once in this process. Default 8. Danger: bodies that share a
            connection may not like more.
        ack_wait: Seconds after which a silent worker's calls go to another, 1 at least. Default 30.
        grace: Seconds that calls in progress get when the worker is asked to stop. Default 20.
        spool: Folder for results that the bus does not take. Default ``.crossfade/spool``.
    """

    concurrency: int = 8
    ack_wait: float = ACK_WAIT
    grace: float = 20.0
    spool: Path = Path(".crossfade/spool")

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigurationError("must be 1 at least", where="concurrency")
        if self.ack_wait < 1:
            raise ConfigurationError("must be 1 second at least", where="ack_wait")


class Worker:
    """Serves ``seams`` over a connected runtime until ``stop``."""

    def __init__(self, runtime: Runtime, seams: Sequence[Seam], options: WorkerOptions | None = None) -> None:
        if not seams:
            raise ConfigurationError("nothing to serve: the modules named declare no seam", where="worker")
        for seam in seams:
            _ = seam.codec  # a signature without a JSON form is said at start, not at the first call
        self._runtime = runtime
        self._seams = seams
        self._options = options or WorkerOptions()
        self._spool = Spool(self._options.spool)
        self._stopping = asyncio.Event()  # belongs to the runtime's loop: set it there
        self.in_flight = 0

    def run(self) -> None:
        """Serve until ``stop`` is called from another thread or a signal handler."""
        bodies = LoopThread()
        executor = ThreadPoolExecutor(self._options.concurrency * len(self._seams), "crossfade body")
        try:
            self._runtime.thread.run(self._serve(executor, bodies.loop))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            bodies.stop()

    def stop(self) -> None:
        """Take no more calls, finish those in progress within the grace period, return from ``run``."""
        self._runtime.thread.loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self, executor: ThreadPoolExecutor, bodies: asyncio.AbstractEventLoop) -> None:
        keeping = asyncio.create_task(self._keep_house())
        try:
            async with asyncio.TaskGroup() as group:
                for seam in self._seams:
                    execution = Execution(self._runtime, seam, executor=executor, loop=bodies)
                    group.create_task(self._serve_seam(seam, execution))
        finally:
            keeping.cancel()

    async def _keep_house(self) -> None:
        """Log what is spooled; move what killed workers left exhausted to dead letters: any worker does it for all."""
        while True:
            await self._drain_spool()
            await asyncio.sleep(self._options.ack_wait)
            try:
                reaped = await self._runtime.bus.reap()
            except BusError as error:
                report.count("reap-failed", reason=type(error).__name__)
            else:
                if reaped:
                    report.count("reaped", n=reaped)

    async def _serve_seam(self, seam: Seam, execution: Execution) -> None:
        options = ConsumeOptions(ack_wait=self._options.ack_wait, max_in_flight=1000)
        filters = [self._runtime.subjects.commands(seam.domain, seam.name)]
        calls: set[asyncio.Task[None]] = set()
        async with self._runtime.bus.consume(group_name(seam), filters, options) as deliveries:
            await self._take(deliveries, seam, execution, calls)
            if calls:
                _, late = await asyncio.wait(calls, timeout=self._options.grace)
                for task in late:
                    report.count("abandoned", seam=seam.name, reason="grace")
                    task.cancel()

    async def _take(
        self, deliveries: Deliveries, seam: Seam, execution: Execution, calls: set[asyncio.Task[None]]
    ) -> None:
        """Start a task per delivery, never holding more than there are free places."""
        free = asyncio.Semaphore(self._options.concurrency)
        stopping = asyncio.create_task(self._stopping.wait())
        deliveries.want(self._options.concurrency)  # it counts those in our hands, calls in progress among them

        def finished(task: asyncio.Task[None]) -> None:
            calls.discard(task)
            free.release()

        while await _done_before(stopping, free.acquire()):
            following = await _done_before(stopping, deliveries.next())
            if following is None:
                break
            delivery = following.result()
            if delivery is None:
                free.release()
                continue
            task = asyncio.create_task(self._handle(delivery, seam, execution))
            calls.add(task)
            task.add_done_callback(finished)
        stopping.cancel()

    async def _handle(self, delivery: Delivery, seam: Seam, execution: Execution) -> None:
        """One delivery from hand-out to acknowledgement; a failure leaves it to redelivery, counted."""
        self.in_flight += 1
        heart = asyncio.create_task(self._beat(delivery, seam))
        try:
            if delivery.attempt > 1 and await self._answered_before(delivery, seam):
                await delivery.ack()
                return
            finished = await execution.run(delivery)
            await self._log(delivery, seam, finished)
            if finished.reject:
                await delivery.reject(finished.reject, detail=finished.detail)
            else:
                await delivery.ack()
            report.count("served", seam=seam.name, reason=finished.kind)
        except BusError as error:
            report.count("unsettled", seam=seam.name, reason=type(error).__name__)
        except Exception:
            report.count("unsettled", seam=seam.name, reason="internal")
            _log.exception("seam %s: a delivery could not be settled and will come again", seam.name)
        finally:
            heart.cancel()
            self.in_flight -= 1

    async def _beat(self, delivery: Delivery, seam: Seam) -> None:
        while True:
            await asyncio.sleep(self._options.ack_wait / 3)
            try:
                await delivery.extend()
            except BusError as error:
                report.count("heartbeat-failed", seam=seam.name, reason=type(error).__name__)

    async def _answered_before(self, delivery: Delivery, seam: Seam) -> bool:
        """Whether an earlier attempt logged a result; it is sent again, because its reply may have been lost."""
        stored = await self._runtime.bus.last(_result_subject(delivery))
        if stored is None:
            return False
        report.count("redelivered", seam=seam.name, reason="answered")
        self._reply(delivery, stored.event)
        return True

    async def _log(self, delivery: Delivery, seam: Seam, finished: Finished) -> None:
        """Make the result durable on the bus, whatever it takes, then reply."""
        event = self._result(delivery, seam, finished)
        subject = _result_subject(delivery)
        failures = 0
        while (logged := await self._stored(subject, event)) is None:
            if failures == 0:
                await self._spooling(self._spool.add, subject, event)
            await asyncio.sleep(_RETRY[min(failures, len(_RETRY) - 1)])
            failures += 1
        if failures:
            await self._spooling(self._spool.remove, event)
        self._reply(delivery, logged)

    async def _stored(self, subject: str, event: Event) -> Event | None:
        """The result as it was published, a claim check when it is large; ``None`` when the bus did not take it."""
        try:
            if event.data is not None and len(event.data) > CLAIM_CHECK:
                dataref = format_dataref(await self._runtime.bus.put_object(event.data))
                event = replace(event.with_extensions(dataref=dataref), data=None)
            await self._runtime.bus.publish(subject, event)
        except BusError as error:
            report.count("result-retried", seam=event.get("seam") or "-", reason=type(error).__name__)
            return None
        return event

    async def _spooling(self, act: Callable[..., None], *args: Any) -> None:
        try:
            await asyncio.to_thread(act, *args)
        except OSError as error:  # the bus may still take the result, so go on
            report.count("spool-failed", reason=type(error).__name__)
            _log.warning("the spool fails, so a result may be lost when this process ends: %s", error)

    def _result(self, delivery: Delivery, seam: Seam, finished: Finished) -> Event:
        command = delivery.stored.event
        extensions = {
            name: value
            for name in ("correlationid", "tenantid", "userid", "partitionkey", "traceparent", "tracestate", "callid")
            if (value := command.get(name)) is not None
        }
        extensions |= {"seam": seam.name, "causationid": command.id, "attempt": str(delivery.attempt), "path": "bus"}
        return Event(
            type=_result_type(seam, finished),
            source=f"urn:crossfade:{self._runtime.instance}",
            id=derived_id(command.id, "result"),
            subject=seam.name,
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

    async def _drain_spool(self) -> None:
        for subject, event in await asyncio.to_thread(lambda: list(self._spool.items())):
            if await self._stored(subject, event) is None:
                continue  # another installation's, or the bus is full: it stays, and so does the worker
            await self._spooling(self._spool.remove, event)
            report.count("spool-drained", seam=event.get("seam") or "-")


async def _done_before(stopping: asyncio.Task[Any], work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """``work``, done; or ``None`` with it cancelled, because the worker is asked to stop."""
    task = asyncio.create_task(work)
    if stopping.done():
        task.cancel()  # before its first step: under load there is always another delivery
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if task.done() and not task.cancelled():
        return task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return None


def group_name(seam: Seam) -> str:
    """The durable group that serves a seam: every worker of every machine is a member."""
    return f"{seam.domain}-{seam.name.replace('.', '-')}"


def _result_subject(delivery: Delivery) -> str:
    return delivery.stored.subject.removesuffix("invoke") + "result"


def _result_type(seam: Seam, finished: Finished) -> str:
    if seam.domain == "tool":
        return "tool.result"
    return "agent.task.completed" if finished.kind == "value" else "agent.task.failed"
