"""Shadow runs: sampled legacy calls run again by a worker, their outcomes compared; the caller takes no part.

A backlog has a policy: an observation older than a minute is skipped, because yesterday's read against today's data
proves nothing; more than ``limit`` at once wait on the broker, whose stream discards the oldest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from .calls import CurrentCall
from .comparison import Outcome, Rules, Verdict
from .correlate import from_event
from .errors import BusError, CrossfadeError
from .events import Event, derived_id
from .hooks import report
from .judging import has_redacted, judge, outcome_of, read_observation, taken, unfit
from .ports import ConsumeOptions
from .repeating import judge_runs
from .routing import in_share
from .services import legacy_of

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping

    from ._runtime import Runtime
    from .bodies import Bodies
    from .judging import Recorded
    from .policy import Policy
    from .ports import Delivery, Stored
    from .services import Service

_log = logging.getLogger("crossfade")

MAX_AGE: Final = timedelta(seconds=60)
MOST_ANSWER: Final = 16 * 1024
"""Characters of a handler's answer that a mismatch carries; of longer ones the differences must do."""

_ACK_WAIT: Final = 60.0
_AGAIN: Final = 2.0  # seconds until a consumer that ended is begun again


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A recorded call that may run again, and how its answer is judged."""

    stored: Stored
    recorded: Recorded
    policy: Policy
    rules: Rules

    def arguments(self, service: Service) -> inspect.BoundArguments:
        """Of its own for each run, which may change them. Raises ``CrossfadeError``."""
        values, _ = service.codec.decode_command(self.recorded.arguments)
        return service.codec.bound(values)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a comparison found; ``outcome`` is the first run's, ``more`` goes into the payload."""

    verdict: Verdict
    outcome: Outcome | None = None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])


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
            case = await self._read(delivery.stored)
            found = _Found(case) if isinstance(case, Verdict) else await self._judge_held(case, delivery)
            await self._tell(delivery.stored, found, by=self._service.by)
            await delivery.ack()
            report.count("compared", seam=self._service.name, reason=found.verdict.kind)
        except BusError as error:
            report.count("unsettled", seam=self._service.name, reason=type(error).__name__)
        except Exception as error:  # a shadow must not end the worker; it comes again once, then dead letters
            report.count("unsettled", seam=self._service.name, reason=type(error).__name__)
        else:
            if not isinstance(case, Verdict):
                await self._look_for_noise(case, found)

    # -- the comparison ------------------------------------------------------------------------------------------------

    async def _read(self, stored: Stored) -> _Case | Verdict:
        """What is to be run and judged, or why it is not."""
        if self._runtime.bus.now() - stored.time > MAX_AGE:
            return Verdict(kind="skipped", reason="stale")
        try:  # as it is now: rules set live hold from the next comparison on
            policy = self._runtime.policy(self._service.name, self._service.policy)
            rules = await asyncio.to_thread(Rules.parse, dict(policy.compare))  # a comparator may take long to import
        except CrossfadeError as error:
            return Verdict(kind="skipped", reason="policy", detail=self._runtime.redactor.text(str(error)))
        try:
            recorded = read_observation(stored.event)
            if reason := self._unfit(recorded):
                return Verdict(kind="skipped", reason=reason)
            case = _Case(stored=stored, recorded=recorded, policy=policy, rules=rules)
            case.arguments(self._service)
        except CrossfadeError as error:
            return Verdict(kind="skipped", reason="arguments", detail=self._runtime.redactor.text(str(error)))
        return case

    def _unfit(self, recorded: Recorded) -> str:
        # Where this side says nothing, the caller has: it marked the call for comparison.
        if self._service.harm(self._runtime.policy) == "unsafe":
            return "unsafe"
        if has_redacted(json.loads(recorded.arguments)):
            return "redacted"
        return unfit(recorded.outcome, self._service)

    async def _judge_held(self, case: _Case, delivery: Delivery) -> _Found:
        """``_judge`` it, and keep it ours: whoever got it meanwhile would call it stale, and be the first to say so."""
        beating = asyncio.create_task(self._beat(delivery))
        try:
            return await self._judge(case)
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def _beat(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(_ACK_WAIT / 3)
            try:
                await delivery.extend()
            except BusError as error:
                report.count("heartbeat-failed", seam=self._service.name, reason=type(error).__name__)

    async def _judge(self, case: _Case) -> _Found:
        repeat = self._is_allowed(case.policy, "repeat") if case.policy.repeat > 1 else False
        outcomes, lost, ran_ms = list[Outcome](), list[Verdict](), list[float]()
        for n in range(int(case.policy.repeat) if repeat else 1):
            outcome = await self._run(case, self._service, self._bodies, key=f"shadow-{n}" if n else "shadow")
            ran_ms.append(_took_ms(outcome, case.policy))
            if outcome is None:
                lost.append(Verdict(kind="inconclusive", reason="timeout"))
            else:
                outcomes.append(outcome)
        if not outcomes:
            return _Found(lost[0], more={"ran_ms": ran_ms})
        # A comparison may take its whole budget of half a second: not on the loop that carries heartbeats.
        found = await asyncio.to_thread(self._compare, case, outcomes, lost)
        return replace(found, more={**found.more, "ran_ms": ran_ms})

    def _compare(self, case: _Case, outcomes: list[Outcome], lost: list[Verdict]) -> _Found:
        legacy, ours = case.recorded.outcome.duration or 0.0, outcomes[0].duration or 0.0
        more: dict[str, Any] = {"legacy_ms": round(legacy * 1000, 3), "bus_ms": round(ours * 1000, 3)}
        if len(outcomes) + len(lost) == 1:
            verdict = self._ask(case.recorded, outcomes[0], case.rules)
            return _Found(verdict, outcomes[0], more | _answer(verdict, outcomes[0]))
        redaction = self._runtime.redactor.fingerprint
        verdict, repeats = judge_runs(case.recorded, outcomes, case.rules, self._ask, redaction=redaction, lost=lost)
        return _Found(verdict, outcomes[0], more | {"repeated": repeats.to_json()} | _answer(verdict, outcomes[0]))

    def _ask(self, old: Recorded, new: Outcome, rules: Rules, /, *, asks: bool = True) -> Verdict:
        comparator = self._runtime.registry.comparator(self._service.name) if asks else None
        return judge(old, new, rules, service=self._service, comparator=comparator, redactor=self._runtime.redactor)

    async def _run(self, case: _Case, service: Service, bodies: Bodies, *, key: str) -> Outcome | None:
        """Run in a context of its own: own deadline, marked shadow, nobody to cancel it; ``None``: it took too long."""
        event = case.stored.event
        call = CurrentCall(
            callid=derived_id(event.get("callid") or event.id, key),
            seam=service.name,
            attempt=1,
            deadline=self._runtime.deadline(case.policy.timeout),
            shadow=True,
        )
        try:
            async with asyncio.timeout(case.policy.timeout):
                most = taken(case.recorded.outcome)
                ran = await bodies.execute(from_event(event), call, case.arguments(service), most=most)
        except TimeoutError:
            call.cancel()
            return None
        return outcome_of(service, ran, self._runtime.redactor)

    # -- noise ---------------------------------------------------------------------------------------------------------

    async def _look_for_noise(self, case: _Case, found: _Found) -> None:
        """One side once more, on a share of calls: against the recorded answer where it is the body that runs.

        It runs where and when the handler did, so that between the two comparisons of a call only the code differs.
        After the acknowledgement: a worker that dies here loses a sample, and nothing runs twice for it.
        """
        name, event = self._service.name, case.stored.event
        if not in_share(name, event.get("callid") or event.id, case.policy.noise * 100):
            return
        if not self._is_allowed(case.policy, "noise"):
            return
        legacy = legacy_of(self._service, self._runtime.registry)
        service = legacy or self._service
        try:
            outcome = await self._run(case, service, self._bodies.of(service), key="noise")
            more = {"ran_ms": [_took_ms(outcome, case.policy)]}
            if outcome is None or (legacy is None and found.outcome is None):
                again = _Found(Verdict(kind="inconclusive", reason="timeout"), more=more)
            else:
                old = case.recorded if legacy else self._as_recorded(case.recorded, found.outcome)
                again = _Found(await asyncio.to_thread(self._ask, old, outcome, case.rules), more=more)
            await self._tell(case.stored, again, by=service.by, source="noise")
            report.count("noise", seam=name, reason=again.verdict.kind)
        except Exception as error:  # as in `_handle`; what is lost is one sample
            report.count("noise", seam=name, reason=f"lost-{type(error).__name__}")

    def _as_recorded(self, recorded: Recorded, outcome: Outcome | None) -> Recorded:
        """The handler's first answer in the place of legacy's."""
        return replace(recorded, outcome=outcome or recorded.outcome, redaction=self._runtime.redactor.fingerprint)

    def _is_allowed(self, policy: Policy, setting: str) -> bool:
        """Whether running it more than once is known to do nothing; counted where it is not."""
        if policy.effects == "none":
            return True
        report.count("skipped", seam=self._service.name, reason=f"{setting}-effects")
        return False

    async def _tell(self, stored: Stored, found: _Found, *, by: str, source: str = "shadow") -> None:
        observed = stored.event
        payload = {
            "seam": self._service.name,
            "callid": observed.get("callid"),
            "handler": by,
            "source": source,
            **found.verdict.to_json(),
            **found.more,
            "kind": _kind(observed),
        }
        event = Event(
            type="seam.compared",
            source=f"urn:crossfade:{self._runtime.instance}",
            id=derived_id(observed.id, "compared" if source == "shadow" else source),
            subject=self._service.name,
            extensions={
                name: value
                for name in ("callid", "correlationid", "tenantid", "userid", "sessionid", "policyrev", "obsseq")
                if (value := observed.get(name))
            }
            | {"seam": self._service.name, "causationid": observed.id}
            | self._runtime.build,
            data=json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )
        subject = self._runtime.subjects.verdict(self._service.name, tenant=observed.get("tenantid"))
        await self._runtime.bus.publish(subject, event)


def _took_ms(outcome: Outcome | None, policy: Policy) -> float:
    """How long a run took; all that it was given where it did not end."""
    seconds = policy.timeout if outcome is None else outcome.duration or 0.0
    return round(seconds * 1000, 3)


def _answer(verdict: Verdict, new: Outcome) -> dict[str, Any]:
    """What the handler said, for a person to put beside the observation: of mismatches only, and if it is short."""
    if verdict.kind != "mismatch":
        return {}
    answer: dict[str, Any] = {"outcome": new.kind}
    if new.items is not None:
        answer["stream"] = {"items": list(new.items)}
    if new.error is not None:
        answer["error"] = new.error.to_json()
    elif new.items is None:
        answer["value"] = new.value
    return {"answer": answer} if len(json.dumps(answer)) <= MOST_ANSWER else {}


def _kind(observed: Event) -> str:
    try:
        return str(json.loads(observed.data or b"").get("kind", ""))
    except (ValueError, AttributeError):
        return ""
