"""Shadow runs: sampled legacy calls run again by a worker, their outcomes compared; the caller takes no part.

A backlog has a policy: an observation older than a minute is skipped, because yesterday's read against today's data
proves nothing; more than ``limit`` at once wait on the broker, whose stream discards the oldest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from .calls import CurrentCall
from .comparison import Rules, Verdict
from .correlate import from_event
from .errors import BusError, CrossfadeError
from .events import Event, derived_id
from .hooks import report
from .judging import has_redacted, judge, outcome_of, read_observation
from .ports import ConsumeOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._runtime import Runtime
    from .bodies import Bodies, Ran
    from .judging import Recorded
    from .policy import Policy
    from .ports import Delivery, Stored
    from .services import Service

_log = logging.getLogger("crossfade")

MAX_AGE: Final = timedelta(seconds=60)
_ACK_WAIT: Final = 60.0
_AGAIN: Final = 2.0  # seconds until a consumer that ended is begun again


class Shadowing:
    """Consumes one seam's flagged observations, ``limit`` at once."""

    def __init__(self, runtime: Runtime, service: Service, bodies: Bodies, *, limit: int) -> None:
        self._runtime = runtime
        self._service = service
        self._bodies = bodies
        self._limit = limit

    async def run(self, joined: Callable[[], None]) -> None:
        """Consume until cancelled, again after whatever ends the consumer; ``joined`` is called the first time."""
        told = False

        def tell_once() -> None:
            nonlocal told
            if not told:
                told = True
                joined()

        while True:
            try:
                await self._consume(tell_once)
            except Exception as error:  # a shadow must not end the worker, nor end unnoticed
                report.count("shadow-failed", seam=self._service.name, reason=type(error).__name__)
                _log.warning("seam %s: its shadow runs stopped (%r) and begin again", self._service.name, error)
                await asyncio.sleep(_AGAIN)

    async def _consume(self, joined: Callable[[], None]) -> None:
        options = ConsumeOptions(max_in_flight=self._limit * 4, ack_wait=_ACK_WAIT, max_deliver=2, start="new")
        filters = [self._runtime.subjects.observations(self._service.name, kind="shadow")]
        free = asyncio.Semaphore(self._limit)
        async with (
            self._runtime.bus.consume(f"shadow-{self._service.group}", filters, options) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            joined()
            deliveries.want(self._limit)
            while True:
                await free.acquire()
                delivery = await deliveries.next()
                if delivery is None:
                    free.release()
                    continue
                group.create_task(self._handle(delivery)).add_done_callback(lambda _: free.release())

    async def _handle(self, delivery: Delivery) -> None:
        try:
            verdict, timing = await self._judge(delivery)
            await self._tell(delivery.stored, verdict, timing)
            await delivery.ack()
            report.count("compared", seam=self._service.name, reason=verdict.kind)
        except BusError as error:
            report.count("unsettled", seam=self._service.name, reason=type(error).__name__)
        except Exception as error:  # a shadow must not end the worker; it comes again once, then dead letters
            report.count("unsettled", seam=self._service.name, reason=type(error).__name__)

    async def _judge(self, delivery: Delivery) -> tuple[Verdict, dict[str, float]]:
        if self._runtime.bus.now() - delivery.stored.time > MAX_AGE:
            return Verdict(kind="skipped", reason="stale"), {}
        try:  # as it is now: rules set live hold from the next comparison on
            policy = self._runtime.policy(self._service.name, self._service.policy)
            rules = await asyncio.to_thread(Rules.parse, dict(policy.compare))  # a comparator may take long to import
        except CrossfadeError as error:
            return Verdict(kind="skipped", reason="policy", detail=self._runtime.redactor.text(str(error))), {}
        return await self._judge_under(policy, rules, delivery.stored)

    async def _judge_under(self, policy: Policy, rules: Rules, stored: Stored) -> tuple[Verdict, dict[str, float]]:
        try:
            recorded = read_observation(stored.event)
            # Where this side says nothing, the caller has: it marked the call for comparison.
            if self._service.harm(self._runtime.policy) == "unsafe":
                return Verdict(kind="skipped", reason="unsafe"), {}
            if has_redacted(json.loads(recorded.arguments)):
                return Verdict(kind="skipped", reason="redacted"), {}
            values, _ = self._service.codec.decode_command(recorded.arguments)
            bound = self._service.codec.bound(values)
        except CrossfadeError as error:
            return Verdict(kind="skipped", reason="arguments", detail=self._runtime.redactor.text(str(error))), {}
        ran = await self._run(stored, bound, policy)
        if ran is None:
            return Verdict(kind="inconclusive", reason="timeout"), {}
        # A comparison may take its whole budget of half a second: not on the loop that carries heartbeats.
        verdict = await asyncio.to_thread(self._compare, recorded, ran, rules)
        timing = {"legacy_ms": (recorded.outcome.duration or 0.0) * 1000, "bus_ms": ran.seconds * 1000}
        return verdict, timing

    async def _run(self, stored: Stored, bound: Any, policy: Policy) -> Ran | None:
        """Run in a context of its own: own deadline, marked shadow, nobody to cancel it."""
        call = CurrentCall(
            callid=derived_id(stored.event.get("callid") or stored.event.id, "shadow"),
            seam=self._service.name,
            attempt=1,
            deadline=self._runtime.deadline(policy.timeout),
            shadow=True,
        )
        try:
            async with asyncio.timeout(policy.timeout):
                return await self._bodies.execute(from_event(stored.event), call, bound)
        except TimeoutError:
            call.cancel()
            return None

    def _compare(self, recorded: Recorded, ran: Ran, rules: Rules) -> Verdict:
        redactor = self._runtime.redactor
        new = outcome_of(self._service, ran, redactor)
        comparator = self._runtime.registry.comparator(self._service.name)
        return judge(recorded, new, rules, service=self._service, comparator=comparator, redactor=redactor)

    async def _tell(self, stored: Stored, verdict: Verdict, timing: dict[str, float]) -> None:
        observed = stored.event
        payload = {
            "seam": self._service.name,
            "callid": observed.get("callid"),
            "handler": self._service.by,
            "source": "shadow",
            **verdict.to_json(),
            **{name: round(value, 3) for name, value in timing.items()},
            "kind": _kind(observed),
        }
        event = Event(
            type="seam.compared",
            source=f"urn:crossfade:{self._runtime.instance}",
            id=derived_id(observed.id, "compared"),
            subject=self._service.name,
            extensions={
                name: value
                for name in ("callid", "correlationid", "tenantid", "userid", "sessionid", "policyrev", "obsseq")
                if (value := observed.get(name))
            }
            | {"seam": self._service.name, "causationid": observed.id},
            data=json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )
        subject = self._runtime.subjects.verdict(self._service.name, tenant=observed.get("tenantid"))
        await self._runtime.bus.publish(subject, event)


def _kind(observed: Event) -> str:
    try:
        return str(json.loads(observed.data or b"").get("kind", ""))
    except (ValueError, AttributeError):
        return ""
