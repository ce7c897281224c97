"""Runs recorded calls again with today's code, and compares.

Nothing of it reaches production: this process is connected to no bus, nested calls are answered from the record, and a
seam whose calls have effects is left alone unless they were allowed, in a sandbox.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from crossfade.shim import clock, connection
from crossfade.shim.bodies import Bodies
from crossfade.shim.calls import CurrentCall
from crossfade.shim.comparison import Rules, Verdict
from crossfade.shim.correlate import from_event
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.events import Event, derived_id
from crossfade.shim.hooks import report
from crossfade.shim.judging import NO_ITEMS, Recorded, has_redacted, is_stream, judge, outcome_of, taken, unfit

from .ids import IdMap
from .pacing import Pace, Pacer
from .recording import NO_OUTCOME, UNFINISHED
from .records import Answering, Tape, in_other_ids, playing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
    from concurrent.futures import Executor
    from inspect import BoundArguments

    from crossfade.shim.bodies import Ran
    from crossfade.shim.comparison import Outcome
    from crossfade.shim.correlate import Correlation
    from crossfade.shim.policy import Policy
    from crossfade.shim.redaction import Redactor
    from crossfade.shim.seam import Registry, Seam
    from crossfade.shim.services import Service

    from .recording import RecordedCall, Recording
    from .selecting import Selection

ClockOption = Literal["shift", "freeze", "real"]

_HARMLESS_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Without TRACE of RFC 9110, 9.2.1: an answer to it holds what it was asked with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOptions:
    """How calls are replayed.

    Attributes:
        concurrency: Calls at once; those of one run stay in order. Default 4.
        pace: When each begins. Default as fast as possible.
        clock: What ``shim.now()`` tells: the recorded time going on, standing still, or the real one.
        live: A harmless nested call that is not in the record runs for real. Danger: it sees today's data.
        sandbox: Allows seams with effects; what they are told of run, tenant and call begins with it. Danger: only
            what keeps to that, and to the settings of this process, stays out of production.
        headers: Sent with each HTTP request in place of recorded credentials.
    """

    concurrency: int = 4
    pace: Pace = field(default_factory=Pace)
    clock: ClockOption = "shift"
    live: bool = False
    sandbox: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What became of one recorded call. ``seconds`` it ran, 0 when it did not; ``ids``: how many were made anew."""

    call: RecordedCall
    verdict: Verdict
    handler: str
    seconds: float = 0.0
    ids: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A seam as it is replayed: what runs, the policy in force, and the rules by which it is compared."""

    service: Service
    policy: Policy
    rules: Rules


class Replay:
    """Replays what is in ``recording``. ``bodies`` is the loop of coroutines, so that one that blocks delays no other.

    Make it, and run it, in one event loop.
    """

    def __init__(
        self,
        recording: Recording,
        served: Mapping[str, Served],
        *,
        registry: Registry,
        redactor: Redactor,
        executor: Executor,
        loop: asyncio.AbstractEventLoop,
        options: ReplayOptions,
    ) -> None:
        self._recording = recording
        self._served = served
        self._registry = registry
        self._redactor = redactor
        self._options = options
        self._bodies = {name: Bodies(each.service, executor=executor, loop=loop) for name, each in served.items()}
        self.answering = Answering(redactor, live=self._may_be_live)
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._ids: dict[str, IdMap] = {}

    # -- what would be done ------------------------------------------------------------------------------------

    def refusal(self, call: RecordedCall) -> Verdict | None:
        """Why ``call`` is not replayed; ``None`` when it is."""
        served = self._served[call.seam]
        if reason := _unfit(call, served.service):
            return Verdict(kind="skipped", reason=reason)
        arguments = self._arguments(call)
        if not self._options.sandbox and not _is_harmless(served, arguments):
            return Verdict(kind="skipped", reason="effects")
        if has_redacted(arguments):
            return Verdict(kind="skipped", reason="redacted")
        return None

    def _arguments(self, call: RecordedCall) -> dict[str, Any]:
        arguments: dict[str, Any] = json.loads(call.arguments)
        if self._options.headers and self._served[call.seam].service.domain == "http":
            arguments.pop("credentials", None)
            arguments["headers"] = [*arguments.get("headers", []), *map(list, self._options.headers)]
        return arguments

    def _may_be_live(self, seam: Seam) -> bool:
        served = self._served.get(seam.name)
        return self._options.live and seam.has_body and served is not None and served.policy.effects == "none"

    # -- doing it ----------------------------------------------------------------------------------------------

    async def run(self, selection: Selection, tell: Callable[[Replayed], Awaitable[None]]) -> None:
        """Replay every call of ``selection``, and ``tell`` of each as it ends."""
        free = asyncio.Semaphore(self._options.concurrency)
        pacer = Pacer(self._options.pace)
        with disconnected(), _answered(self._registry, self.answering):
            async with asyncio.TaskGroup() as group:
                for call in self._recording.selected(selection):
                    await pacer.wait(call.begun)
                    await free.acquire()
                    before = self._runs.get(call.run) if call.run else None
                    task = group.create_task(self._after(before, call, tell))
                    task.add_done_callback(lambda _: free.release())
                    if call.run:
                        self._follow(call.run, task)

    def _follow(self, run: str, task: asyncio.Task[None]) -> None:
        """The next call of ``run`` waits for ``task``; of a run that has nothing under way only its ids are kept."""
        self._runs[run] = task

        def done(_: object) -> None:
            if self._runs.get(run) is task:
                del self._runs[run]

        task.add_done_callback(done)

    async def _after(
        self, before: asyncio.Task[None] | None, call: RecordedCall, tell: Callable[[Replayed], Awaitable[None]]
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        await tell(await self.replay(call))

    async def replay(self, call: RecordedCall) -> Replayed:
        """Replay one call."""
        served = self._served[call.seam]
        handler = served.service.by
        if (refused := self.refusal(call)) or call.outcome is None:
            verdict = refused or Verdict(kind="skipped", reason=UNFINISHED)
            return Replayed(call=call, verdict=verdict, handler=handler)
        recorded = Recorded(arguments=call.arguments, outcome=call.outcome, policy_revision=0, redaction=call.redaction)
        ids = self._ids_of(call)
        try:
            bound = self._bound(call, served, ids)
        except CrossfadeError as error:
            detail = self._redactor.text(str(error))
            verdict = Verdict(kind="inconclusive", reason="arguments", detail=detail)
            return Replayed(call=call, verdict=verdict, handler=handler)
        tape = Tape(self._recording.inside(call), ids)
        current = self._current(call, served)
        ids.learn([(call.callid, current.callid)])
        ran = await self._run(call, served, bound, current, tape)
        if tape.missed:
            verdict = Verdict(kind="skipped", reason="unrecorded", detail=self._redactor.text(tape.missed[0]))
        elif ran is None:
            verdict = Verdict(kind="inconclusive", reason="timeout")
        else:
            verdict = await asyncio.to_thread(self._judge, call, recorded, ran, ids)
        return Replayed(call=call, verdict=verdict, handler=handler, seconds=ran.seconds if ran else 0.0, ids=len(ids))

    def _ids_of(self, call: RecordedCall) -> IdMap:
        """The ids of the call's run, kept until its last call was replayed."""
        if not call.run:
            return IdMap()
        ids = self._ids.setdefault(call.run, IdMap())
        if call.begun >= self._recording.last_of(call.run):
            del self._ids[call.run]
        return ids

    def _bound(self, call: RecordedCall, served: Served, ids: IdMap) -> BoundArguments:
        codec = served.service.codec
        arguments = ids.to_replayed(self._arguments(call))
        values, _ = codec.decode_command(json.dumps({"arguments": arguments}).encode())
        return codec.bound(values)

    def _current(self, call: RecordedCall, served: Served) -> CurrentCall:
        return CurrentCall(
            callid=self._options.sandbox + derived_id(call.callid, "replay"),
            seam=call.seam,
            attempt=1,
            deadline=datetime.now(UTC) + timedelta(seconds=served.policy.timeout),
            shadow=not self._options.sandbox,
        )

    async def _run(
        self, call: RecordedCall, served: Served, bound: BoundArguments, current: CurrentCall, tape: Tape
    ) -> Ran | None:
        """Run today's code on the recorded arguments; ``None`` when it takes longer than callers would wait."""
        playing.set(tape)  # each call is a task, with a context of its own
        self._set_clock(call)
        self.answering.running.add(tape)
        try:
            async with asyncio.timeout(served.policy.timeout):
                correlation = _correlation(call, self._options.sandbox)
                most = taken(call.outcome) if call.outcome is not None else None
                return await self._bodies[call.seam].execute(correlation, current, bound, most=most)
        except TimeoutError:
            current.cancel()
            return None
        finally:
            self.answering.running.discard(tape)

    def _set_clock(self, call: RecordedCall) -> None:
        at = datetime.fromtimestamp(call.begun, UTC)
        clocks = {"freeze": clock.frozen, "shift": clock.shifted}
        if (make := clocks.get(self._options.clock)) is not None:
            clock.telling.set(make(at))

    def _judge(self, call: RecordedCall, recorded: Recorded, ran: Ran, ids: IdMap) -> Verdict:
        served = self._served[call.seam]
        old, new = recorded.outcome, outcome_of(served.service, ran, self._redactor)
        verdict = judge(
            recorded,
            in_other_ids(new, ids.to_recorded),
            served.rules,
            service=served.service,
            comparator=self._registry.comparator(call.seam),
            redactor=self._redactor,
        )
        if new.error is None and old.error is None:
            ids.learn(ids.fits(_answered_with(old), _answered_with(new)) or [])
        return verdict


@contextmanager
def disconnected() -> Generator[None]:
    """``shim.connect()`` connects to nothing, whoever calls it, so that no seam leaves this process."""
    before, connection.stand_in = connection.stand_in, _nowhere
    try:
        yield
    finally:
        connection.stand_in = before


@contextmanager
def _answered(registry: Registry, answering: Answering) -> Generator[None]:
    """Every seam is answered by ``answering``, also one that is declared meanwhile."""

    def adopt(seam: Seam) -> None:
        seam.take(answering)

    before, registry.on_declare = registry.on_declare, adopt
    for seam in registry.all():
        adopt(seam)
    try:
        yield
    finally:
        registry.on_declare = before
        for seam in registry.all():
            seam.take(None)


def _nowhere(bus: str | None, *, required: bool) -> connection.Connection:
    """What ``shim.connect()`` returns in a replay: connected to nothing, so that nothing is observed or sent."""
    what = "required" if required else "wanted"
    report.count("skipped", reason=f"replay-{what}-{'another-bus' if bus else 'bus'}")
    return connection.Connection(None)


def _unfit(call: RecordedCall, service: Service) -> str:
    """Why its outcome cannot be compared; empty when it can."""
    if call.outcome is not None:
        return call.unfit or unfit(call.outcome, service)
    return NO_ITEMS if call.unfit == NO_OUTCOME and is_stream(service) else call.unfit


def _answered_with(outcome: Outcome) -> Any:
    return outcome.value if outcome.items is None else list(outcome.items)


def _is_harmless(served: Served, arguments: Mapping[str, Any]) -> bool:
    if served.service.domain == "http":
        return arguments.get("method") in _HARMLESS_METHODS
    return served.policy.effects == "none"


def _correlation(call: RecordedCall, sandbox: str) -> Correlation:
    """Whose call it was; in a sandbox nobody's of production."""
    found = from_event(Event(type="replay", source="urn:crossfade:replay", id=call.callid, extensions=call.attributes))
    if not sandbox:
        return found
    return replace(found, run=sandbox + found.run, tenant=sandbox + (found.tenant or ""))


def serve(
    services: Iterable[Service], policy_of: Callable[[Service], Policy], rules: Rules | None
) -> dict[str, Served]:
    """Each service with the policy in force and its rules, or ``rules`` for all. Raises ``ConfigurationError``."""
    found: dict[str, Served] = {}
    for service in services:
        policy = policy_of(service)
        found[service.name] = Served(
            service=service, policy=policy, rules=rules if rules is not None else Rules.parse(dict(policy.compare))
        )
    return found
