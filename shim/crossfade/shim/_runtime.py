"""A connected process: the bus, the policies as they are now, and which way each seam's next call takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ._calls import Calls
from ._loop import LoopThread
from ._observing import Observing
from ._routes import Keyed, OverBus, Split
from .buses import hide_credentials
from .claimcheck import CLAIM_CHECK
from .claims import Nonces
from .coverage import REPORT_EVERY as COVERAGE_EVERY
from .coverage import REPORT_FIRST as COVERAGE_FIRST
from .coverage import Coverages
from .errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    CrossfadeError,
)
from .events import Event, new_id
from .hooks import report
from .http import HttpResponse, open_answer, seal_answer
from .instances import REPORT_EVERY, Instance, Served
from .observations import Observer
from .policies import Policies, read_live, storage_holds_claims
from .rollbacks import RollbackRequests
from .routing import Pins
from .stages import TABLE, Stage
from .subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
    from datetime import datetime

    from .config import Config
    from .outcomes import Answer
    from .policies import LivePolicy
    from .policy import Policy
    from .ports import Bus, BusInfo, Change
    from .redaction import Redactor
    from .rollbacks import RollbackRequest
    from .sealed import Sealer
    from .seam import Registry, Route, Seam

FRESH: Final = 2.0
"""Seconds for which a worker trusts what it knows of a policy: no longer than a rollback waits for it."""

_TELL_AGAIN: Final = 60.0  # seconds after which a blocker that is met again is told again
CLOCK_LIMIT: Final = timedelta(seconds=1)
"""How far the broker's time may be off here while unsafe calls are sent and begun."""

_CLOCK_PATIENCE: Final = 2.0  # seconds for a measurement that a call waits for
_RETRY: Final = 2.0  # seconds between attempts to connect for the first time
_NO_FAILURES: Final = frozenset({"cancelled", "closed", "key-reused"})
"""Reasons for no answer that are the caller's own: it gave up, it ends, it used a key twice."""

_log = logging.getLogger("crossfade")


class Runtime:
    """Everything one connection of this process owns. Created in any thread; its coroutines run on ``thread``."""

    def __init__(
        self,
        *,
        bus: Bus,
        url: str,
        config: Config,
        registry: Registry,
        redactor: Redactor,
        sealer: Sealer | None,
        off: bool,
    ) -> None:
        self.thread = LoopThread()
        self.bus = bus
        self.url = url
        self.scheme = url.partition("://")[0]
        self.shown_url = hide_credentials(url)
        self.config = config
        self.registry = registry
        self.redactor = redactor
        self.sealer = sealer
        self.off = off
        self.role = "caller"
        self._workflows: Mapping[str, Sequence[int]] = {}
        self.subjects = Subjects(config.prefix)
        self.instance = f"{re.sub('[^A-Za-z0-9]', '_', socket.gethostname())[:32]}_{os.getpid()}_{new_id()[-8:]}"
        self.observer = Observer(bus, self.subjects, redactor, instance=self.instance)
        self.policies = Policies(bus, self.subjects)
        self._coverages = Coverages(bus)
        self.pins = Pins()
        self.nonces = Nonces()
        self.calls = Calls(self)
        self.ready = asyncio.Event()
        self.failure: CrossfadeError | None = None
        self._settled = asyncio.Event()
        self._live: dict[str, LivePolicy] = {}
        self._looked: dict[str, float] = {}  # per seam: when its live policy was last asked for
        self._info: BusInfo | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained: set[str] = set()
        self._blockers: dict[str, dict[str, float]] = {}  # per seam: what blocks it, and when the bus was last told
        self._legacy_hits: dict[str, int] = {}
        self._missed = False  # whether a call without an answer waits to be told
        self._alarms: dict[str, int] = {}  # per retired seam: its hits of which the bus was not told yet
        self._breakers: dict[str, str] = {}
        self.requests: Served | None = None
        self.rollbacks = RollbackRequests(bus, self.subjects, instance=self.instance)
        self._report_now = asyncio.Event()
        self._counts_anew = asyncio.Event()
        self._reporting: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect in the background, for as long as it takes; ``ready`` is set after the first success."""
        self.spawn(self._connect())

    async def settled(self, *, patient: bool) -> None:
        """Return when connected, or when an attempt has failed.

        ``patient``: a broker that cannot be reached, or does not answer, is waited for; one that refuses us is not.
        """
        while not self.ready.is_set():
            self._settled.clear()
            await self._settled.wait()
            if not (patient and isinstance(self.failure, BusUnavailableError | BusAmbiguousError)):
                return

    async def stop(self, *, flush: float) -> None:
        """Flush observations within ``flush`` seconds, stop every task and disconnect."""
        for seam in self.registry.all():
            seam.take(None)
            seam.stage = Stage.LEGACY
        await self.calls.close()
        if self.ready.is_set():
            await self.observer.flush(flush)
            await asyncio.gather(self._tell_coverage(), self._say_goodbye())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.bus.close()

    async def _say_goodbye(self) -> None:
        if self._reporting is not None:  # or the next report, of a policy read just now, came after the goodbye
            self._reporting.cancel()
            await asyncio.wait([self._reporting], timeout=1)
        try:
            async with asyncio.timeout(1):
                await self.policies.instances.leave(self._as_instance())
        except (BusError, TimeoutError) as error:  # it will be taken for gone in ten seconds
            report.count("report-failed", reason=type(error).__name__)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` until it ends or the connection is closed; call it on the loop's own thread."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self) -> None:
        while True:
            try:
                await self._open()
            except Exception as error:
                if self.failure is None or type(self.failure) is not type(error):
                    _log.warning("not connected, every seam stays legacy: %s (trying again)", error)
                self.failure = error if isinstance(error, CrossfadeError) else _unforeseen(error)
                report.count("connect-failed", reason=type(error).__name__)
                self._settled.set()
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _open(self) -> None:
        await self.bus.open()
        await self.calls.listen()
        self._info = await self.bus.info()
        self._live = await self._read_policies()
        for live in self._live.values():
            self.observer.tally.begin(live.seam, live.revision)
        for seam in self.registry.all():
            await self._announce(seam)
        self.spawn(self._follow_policies())
        self.spawn(self.observer.run())
        self._reporting = self.spawn(self._report())
        self.spawn(self._report_coverage())
        self.ready.set()
        for seam in self.registry.all():
            self._apply(seam)
        self.failure = None
        self._settled.set()

    async def _report(self) -> None:
        """Tell the bus that we live and which revisions we have applied: now and then, and after each change."""
        while True:
            self._report_now.clear()
            try:
                await self.policies.instances.report(self._as_instance())
            except BusError as error:
                report.count("report-failed", reason=type(error).__name__)
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._report_now.wait()
            except TimeoutError:
                continue  # nothing changed

    def _as_instance(self) -> Instance:
        return Instance(
            instance=self.instance,
            role=self.role,
            seen=self.bus.now(),
            seams={name: self._revision(name) for name in self.registry.names()},
            remotes=[seam.name for seam in self.registry.all() if not seam.has_body],
            legacy_hits=dict(self._legacy_hits),
            breakers=dict(self._breakers),
            build=self.config.build,
            requests=self.requests.counts() if self.requests else {},
            seconds=self.requests.seconds() if self.requests else {},
            workflows=self._workflows,
        )

    async def _report_coverage(self) -> None:
        """Soon after a policy's change or a call without an answer: a gate may wait for it. Then ever less often."""
        wait = COVERAGE_FIRST
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._counts_anew.wait()
            except TimeoutError:
                await self._tell_coverage()
                wait = min(2 * wait, COVERAGE_EVERY)
            else:
                self._counts_anew.clear()
                wait = COVERAGE_FIRST

    async def _tell_coverage(self) -> None:
        """What is not told now is told the next time; what a process that is killed had not told is lost."""
        self._missed = False
        try:
            async with asyncio.timeout(1):
                await self._coverages.report(self.instance, self.observer.tally)
        except (BusError, TimeoutError) as error:
            report.count("report-failed", reason=type(error).__name__)

    def act_as(self, role: str) -> None:
        """Tell the bus at once what this process does."""
        self.role = role
        self.thread.loop.call_soon_threadsafe(self._report_now.set)

    def run_workflows(self, versions: Mapping[str, Sequence[int]]) -> None:
        """Tell the bus at once which versions of which workflows this process runs, whatever else it does."""
        self._workflows = versions
        self.thread.loop.call_soon_threadsafe(self._report_now.set)

    async def tell_breaker(self, seam: str, state: str, request: RollbackRequest | None) -> None:
        """Report at once that the breaker of ``seam`` is at ``state`` here, and ask for a rollback if there is one."""
        self._breakers[seam] = state
        if state == "closed":
            del self._breakers[seam]
        self._report_now.set()
        if request is not None:
            self.spawn(self.rollbacks.ask(request))

    def _revision(self, seam: str) -> int:
        live = self._live.get(seam)
        return live.revision if live else 0

    # -- policies --------------------------------------------------------------------------------------------

    def declared(self, seam: Seam) -> None:
        """A seam was declared after ``connect``."""
        self.thread.loop.call_soon_threadsafe(self._adopt, seam)

    def _adopt(self, seam: Seam) -> None:
        if self.ready.is_set():
            self._apply(seam)
            self.spawn(self._announce(seam))

    async def _announce(self, seam: Seam, blockers: Collection[str] = ()) -> None:
        if not seam.has_body:
            return
        try:
            await self.policies.announce(seam, self.config.policy(seam.name, seam.policy), blockers)
        except BusError as error:
            report.count("announce-failed", seam=seam.name, reason=type(error).__name__)
            for blocker in blockers:
                self._blockers[seam.name].pop(blocker)  # told with the next call that shows it

    async def _read_policies(self) -> dict[str, LivePolicy]:
        found: dict[str, LivePolicy] = {}
        for entry in await self.bus.state("policy").entries():
            live = self._read(entry.key, entry.value)
            if live is not None:
                found[entry.key] = live
        return found

    def _read(self, seam: str, value: bytes) -> LivePolicy | None:
        try:
            return read_live(seam, value)
        except Exception as error:  # whatever lies in the bucket, the last known policy stays
            self.skip(seam, "policy", str(error))
            return None

    async def _follow_policies(self) -> None:
        while True:
            try:
                async for change in self.bus.state("policy").watch():
                    self._follow(change)
            except BusError as error:
                report.count("watch-failed", reason=type(error).__name__)
            await asyncio.sleep(_RETRY)

    def _follow(self, change: Change) -> None:
        try:
            live = self._read(change.key, change.value) if change.value is not None else None
            if live is None:
                return  # unreadable or deleted: the last known policy stays, or a rollback could be undone by losing it
            self._take(live)
        except Exception as error:  # one bad value must not keep the next rollback from arriving
            self.skip(change.key, "policy", f"could not be followed: {error!r}")

    def _take(self, live: LivePolicy) -> None:
        self._live[live.seam] = live
        self.observer.tally.begin(live.seam, live.revision)
        if live.minrev == live.revision:
            self.pins.forget(live.seam)  # rolled back to abort
        for seam in self.registry.all():
            if seam.name == live.seam:
                self._apply(seam)
        self._report_now.set()
        self._counts_anew.set()

    async def refresh_policy(self, name: str) -> None:
        """Ask the leader for the live policy of ``name``, unless that was done in the last two seconds.

        A process that was cut off may not know yet of a rollback; a worker must before it starts anything. Raises
        ``BusError`` when nobody answers.
        """
        now = time.monotonic()
        if now - self._looked.get(name, -FRESH) < FRESH:
            return
        entry = await self.bus.state("policy").get(name)
        live = self._read(name, entry.value) if entry is not None else None
        if live is not None and live.revision > self._revision(name):
            self._take(live)
        self._looked[name] = now

    def policy(self, name: str, base: Policy) -> Policy:
        """The policy in force: code, then file, then live state.

        Raises ``ConfigurationError`` or ``UnknownStageError`` when the live one cannot be read.
        """
        base = self.config.policy(name, base)
        live = self._live.get(name)
        return base if live is None else live.over(base, now=self.bus.now())

    def _apply(self, seam: Seam) -> None:
        try:
            policy = self.policy(seam.name, seam.policy)
        except CrossfadeError as error:
            self.skip(seam.name, "policy", str(error))
            return  # the route in force stays
        route = self._route(seam, policy)
        seam.stage = Stage.LEGACY if route is None else policy.stage
        seam.take(route)
        live = self._live.get(seam.name)
        later = live.next_change(self.bus.now()) if live else None
        if later is not None:
            seconds = (later - self.bus.now()).total_seconds() + 0.01
            self.thread.loop.call_later(seconds, self._apply, seam)

    def _route(self, seam: Seam, policy: Policy) -> Route | None:
        if not seam.has_body:
            return OverBus(self, self._without_body(seam, policy))
        if self.off:
            return None
        row = TABLE[policy.stage]
        over_bus = OverBus(self, policy)
        if row.answers == "bus":
            return self._over_bus(seam, over_bus, policy)
        observing: Route | None = Observing(self, seam, policy) if row.observes else None
        legacy = observing
        if policy.effects == "unsafe" and policy.claiming:
            legacy = Keyed(self, policy, inner=observing or Observing(self, seam, policy))
        if row.answers == "split" or policy.draining:
            if instead := self._obstacle(seam, policy):
                return Observing(self, seam, policy, instead=instead)
            return Split(self, policy, legacy=legacy or Observing(self, seam, policy), bus=over_bus)
        return legacy

    def _over_bus(self, seam: Seam, over_bus: OverBus, policy: Policy) -> Route:
        if policy.stage is Stage.RETIRED:
            return over_bus  # there is no way back to a body
        instead = self._obstacle(seam, policy)
        return Observing(self, seam, policy, instead=instead) if instead else over_bus

    def _without_body(self, seam: Seam, policy: Policy) -> Policy:
        """``policy`` for a call site without a body: at the bus whatever the stage, and it never falls back."""
        if policy.fallback == "legacy":
            report.count("policy-ignored", seam=seam.name, reason="fallback")
            self.warn_once(seam.name, "fallback", "fallback legacy is ignored: this call site has no body to run")
        return replace(policy, stage=Stage.BUS, fallback="raise")

    def _obstacle(self, seam: Seam, policy: Policy) -> str:
        """Why this process cannot send commands of ``seam``, so that it stays at observe; empty when it can."""
        if seam.binding == "instance" and seam.bind is None and not self.registry.handler(seam.name):
            self.warn_once(seam.name, "method", "the body answers: self cannot cross; say bind=, or register a handler")
            return "method"
        if not storage_holds_claims(policy, self._info):
            self.warn_once(
                seam.name,
                "storage",
                "the body answers: it is unsafe, and this broker could lose a claim in a power cut",
            )
            return "storage"
        return ""

    # -- helpers of the routes ---------------------------------------------------------------------------------

    def skip(self, seam: str, reason: str, text: str) -> None:
        """Count a call that stays legacy although its stage says otherwise; say so once per seam and reason."""
        report.count("skipped", seam=seam, reason=reason)
        self.warn_once(seam, reason, f"the body answers: {text}")

    def warn_once(self, seam: str, reason: str, text: str) -> None:
        """Say something of a seam in the log, once per reason; whoever says it counts every time."""
        if f"{seam}:{reason}" not in self._complained:
            self._complained.add(f"{seam}:{reason}")
            _log.warning("seam %s: %s (said once, counted from now on)", seam, self.redactor.text(text))

    def block(self, seam: Seam, blocker: str) -> None:
        """Something was seen that forbids moving ``seam`` past shadow.

        The bus is told again once a minute, in case somebody cleared it too early.
        """
        known = self._blockers.setdefault(seam.name, {})
        if blocker not in known:
            _log.warning("seam %s must not go over the bus: %s", seam.name, blocker)
        elif time.monotonic() - known[blocker] < _TELL_AGAIN:
            return
        known[blocker] = time.monotonic()
        self.thread.loop.call_soon_threadsafe(lambda: self.spawn(self._announce(seam, (blocker,))))

    @property
    def build(self) -> dict[str, str]:
        """The attribute with which what handlers say names their build; none where nobody has named it."""
        return {"build": self.config.build} if self.config.build else {}

    def run_legacy(
        self, seam: Seam, policy: Policy, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the body where commands are the rule."""
        self.hit(seam, policy)
        return body(*args, **kwargs)

    def hit(self, seam: Seam, policy: Policy) -> None:
        """Count that legacy answers where commands are the rule: the way to retirement asks for none of it."""
        self._legacy_hits[seam.name] = self._legacy_hits.get(seam.name, 0) + 1
        report.count("legacy-hit", seam=seam.name)
        if policy.stage is Stage.RETIRED:
            _log.error("seam %s is retired, and its legacy body was called", seam.name)
            self.thread.loop.call_soon_threadsafe(self._raise_alarm, seam.name, policy)

    def miss(self, seam: Seam, policy: Policy, answer: Answer) -> None:
        """Count that the bus left a call without an answer, and tell it in a second: somebody may have to go back.

        Only what no result tells of: where no worker is, nobody but callers knows that the bus fails.
        """
        if answer.kind in ("value", "error") or answer.logged or answer.reason in _NO_FAILURES:
            return
        self.observer.tally.miss(seam.name, f"{answer.kind}:{answer.reason}", revision=policy.revision)
        if not self._missed:
            self._missed = True
            self.thread.loop.call_soon_threadsafe(self._counts_anew.set)

    def _raise_alarm(self, seam: str, policy: Policy) -> None:
        """One event for all hits that come before it is on its way."""
        if seam not in self._alarms:
            self.spawn(self._alarm(seam, policy))
        self._alarms[seam] = self._alarms.get(seam, 0) + 1

    async def _alarm(self, seam: str, policy: Policy) -> None:
        payload = {
            "seam": seam,
            "reason": "legacy-hit",
            "instance": self.instance,
            "build": self.config.build,
            "count": self._alarms.pop(seam),
        }
        event = Event(
            type="seam.skipped",
            source=f"urn:crossfade:{self.instance}",
            subject=seam,
            extensions={"seam": seam, "policyrev": str(policy.revision)},
            data=json.dumps(payload).encode(),
        )
        try:
            await self.bus.publish(self.subjects.fact(event.type), event)
        except BusError as error:
            report.count("dropped", seam=seam, reason=type(error).__name__)

    @property
    def sure_of_time(self) -> bool:
        """Whether the broker's time is known within a second."""
        return self.bus.clock_error <= CLOCK_LIMIT

    async def knows_time(self, seam: str) -> bool:
        """Whether the broker's time is known within a second, if need be after measuring it again.

        ``False`` is counted: an unsafe call cannot be judged by its deadline now, so none may be sent or begun.
        """
        if self.sure_of_time:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOCK_PATIENCE):
                await self.bus.check_clock()
        known = self.sure_of_time
        report.count("clock-measured" if known else "clock-uncertain", seam=seam)
        if not known:
            self.warn_once(seam, "clock", "the broker's time is not known within a second, so unsafe calls are refused")
        return known

    def deadline(self, seconds: float) -> datetime:
        """The broker's time ``seconds`` from now."""
        return self.bus.now() + timedelta(seconds=seconds)

    def refuse_clear_secrets(self, arguments: bytes) -> None:
        """Raise ``CrossfadeError`` when clear arguments hold what looks like a credential: it must not be stored.

        Above 256 KiB nobody looks: the redactor's own limits would take size for a secret.
        """
        if len(arguments) > CLAIM_CHECK or self.redactor.passes(arguments):
            return
        values = json.loads(arguments)
        if self.redactor.value(values) != values:
            raise CrossfadeError(
                "an argument holds what looks like a credential: name its parameter in secret=, and it travels sealed"
            )

    def seal(self, seam: str, callid: str, secrets: Mapping[str, bytes]) -> bytes:
        """The ``sealed`` member of a command's payload, with a leading comma; empty when there is no secret."""
        if not secrets:
            return b""
        if self.sealer is None:
            raise CrossfadeError("it has secret parameters and no key to seal them: set CROSSFADE_SEAL_KEY")
        sealed = {
            name: self.sealer.seal(value, context=seal_context(seam, callid, name)) for name, value in secrets.items()
        }
        return b',"sealed":' + json.dumps(sealed).encode()

    def seal_answer(self, seam: str, callid: str, value: Any) -> Any:
        """What a body gave, as it may be stored: a request's answer without its credentials in clear."""
        if not isinstance(value, HttpResponse):
            return value
        return seal_answer(value, self.sealer, context=seal_context(seam, callid, "return"))

    def open_answer(self, seam: str, callid: str, answer: HttpResponse) -> HttpResponse:
        """``seal_answer`` undone. Raises ``CrossfadeError`` for what this process cannot open."""
        return open_answer(answer, self.sealer, context=seal_context(seam, callid, "return"))


def _unforeseen(error: Exception) -> BusError:
    failure = BusError(f"connecting failed in a way nobody foresaw: {error!r}")
    failure.__cause__ = error
    return failure


def seal_context(seam: str, callid: str, name: str) -> bytes:
    """What a sealed value is bound to, so that it cannot be moved to another call."""
    return f"{seam}\x1f{callid}\x1f{name}".encode()
