"""Shadow runs: sampled legacy calls run again by a worker, their outcomes compared; the caller takes no part.

A backlog has a policy: an observation older than a minute is skipped, because yesterday's read against today's data
proves nothing; more than ``limit`` at once wait on the broker, whose stream discards the oldest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from .calls import CurrentCall
from .comparison import Outcome, Rules, Verdict, compare, http_outcome
from .correlate import from_event
from .errors import BusError, CrossfadeError, MalformedEventError
from .events import Event, derived_id
from .hooks import report
from .outcomes import ErrorRecord, record_error
from .ports import ConsumeOptions
from .redaction import blank_marks, is_redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._runtime import Runtime
    from .comparison import Comparator
    from .execution import Execution, Ran
    from .policy import Policy
    from .ports import Delivery, Stored
    from .services import Service

_log = logging.getLogger("crossfade")

MAX_AGE: Final = timedelta(seconds=60)
_ACK_WAIT: Final = 60.0
_SAME_KEY: Final = "its secrets are marked with two keys: set one CROSSFADE_REDACT_KEY for callers and workers"
_AGAIN: Final = 2.0  # seconds until a consumer that ended is begun again


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What an observation says: the arguments to run again and how legacy ended."""

    arguments: bytes
    outcome: Outcome
    policy_revision: int
    redaction: str = ""


class Shadowing:
    """Consumes one seam's flagged observations, ``limit`` at once."""

    def __init__(self, runtime: Runtime, service: Service, execution: Execution, *, limit: int) -> None:
        self._runtime = runtime
        self._service = service
        self._execution = execution
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
            if _has_redacted(json.loads(recorded.arguments)):
                return Verdict(kind="skipped", reason="redacted"), {}
            values, _ = self._service.codec.decode_command(recorded.arguments)
            bound = self._service.codec.bound(values)
        except CrossfadeError as error:
            return Verdict(kind="skipped", reason="arguments", detail=self._runtime.redactor.text(str(error))), {}
        ran = await self._run(stored, bound, policy)
        if ran is None:
            return Verdict(kind="inconclusive", reason="timeout"), {}
        # A comparison may take its whole budget of half a second: not on the loop that carries heartbeats.
        return await asyncio.to_thread(self._compare, recorded, ran, rules)

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
                return await self._execution.execute(from_event(stored.event), call, bound)
        except TimeoutError:
            call.cancel()
            return None

    def _compare(self, recorded: Recorded, ran: Ran, rules: Rules) -> tuple[Verdict, dict[str, float]]:
        old, new = recorded.outcome, self._outcome(ran)
        timing = {"legacy_ms": (old.duration or 0.0) * 1000, "bus_ms": ran.seconds * 1000}
        if self._service.domain == "http":
            old, new = http_outcome(old, rules), http_outcome(new, rules)
        comparator = self._runtime.registry.comparator(self._service.name)
        if recorded.redaction == self._runtime.redactor.fingerprint:
            return compare(old, new, rules, comparator=comparator), timing
        return _compare_without_marks(old, new, rules, comparator), timing

    def _outcome(self, ran: Ran) -> Outcome:
        if ran.error is not None:
            record = record_error(ran.error, redact=self._runtime.redactor.text)
            return Outcome(kind="error", error=record, duration=ran.seconds)
        try:
            encoded = self._service.codec.encode_result(ran.value)
        except CrossfadeError as error:
            return Outcome(kind="error", error=record_error(error), duration=ran.seconds)
        value = self._runtime.redactor.value(json.loads(encoded))["value"]
        return Outcome(kind="value", value=value, duration=ran.seconds)

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


def read_observation(event: Event) -> Recorded:
    """Read a full observation. Raises ``MalformedEventError`` (reason ``payload``) for anything less."""
    try:
        payload = json.loads(event.data or b"")
        arguments = json.dumps({"arguments": payload["arguments"]}).encode()
        duration = float(payload["duration_ms"]) / 1000
        if payload["outcome"] == "error":
            error = ErrorRecord.from_json(payload["error"])
            outcome = Outcome(kind="error", error=error, duration=duration)
        else:
            outcome = Outcome(kind="value", value=payload["value"], duration=duration)
    except (ValueError, KeyError, TypeError) as failure:
        raise MalformedEventError(f"this is no full observation: {failure!r}", reason="payload") from failure
    revision = event.get("policyrev") or "0"
    return Recorded(
        arguments=arguments,
        outcome=outcome,
        policy_revision=int(revision) if revision.isdigit() else 0,
        redaction=str(payload.get("redaction", "")),
    )


def _kind(observed: Event) -> str:
    try:
        return str(json.loads(observed.data or b"").get("kind", ""))
    except (ValueError, AttributeError):
        return ""


def _compare_without_marks(old: Outcome, new: Outcome, rules: Rules, comparator: Comparator | None) -> Verdict:
    """Two keys mark the same secret differently, so where only marks could differ nobody can tell whether they do."""
    blank_old, blank_new = _blank(old), _blank(new)
    verdict = compare(blank_old, blank_new, rules, comparator=comparator)
    if verdict.kind != "mismatch" and (blank_old != old or blank_new != new):
        return Verdict(kind="inconclusive", reason="redaction-key", detail=_SAME_KEY)
    return verdict


def _blank(outcome: Outcome) -> Outcome:
    if outcome.error is None:
        return replace(outcome, value=blank_marks(outcome.value))
    message, args = blank_marks(outcome.error.message), tuple(map(blank_marks, outcome.error.args))
    return replace(outcome, error=replace(outcome.error, message=message, args=args))


def _has_redacted(value: Any) -> bool:
    if is_redacted(value):
        return True
    if isinstance(value, dict):
        return any(map(_has_redacted, cast("dict[str, Any]", value).values()))
    return isinstance(value, list) and any(map(_has_redacted, cast("Iterable[Any]", value)))
