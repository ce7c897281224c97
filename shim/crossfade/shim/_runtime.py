"""A connected process: the bus, the policies as they are now, and the callers that wait for answers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ._loop import LoopThread
from ._routes import Keyed, Observing, OverBus, Split
from .buses import hide_credentials
from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .claims import GRACE, CallPlace, ClaimRecord, Held, Nonces, Vanished, Won, fingerprint, log_result, take
from .correlate import extensions
from .errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    CrossfadeError,
    MalformedEventError,
    WrongPositionError,
)
from .events import Event, derived_id, new_id
from .hooks import report
from .instances import REPORT_EVERY, Instance
from .observations import Observer
from .outcomes import Answer, error_payload, read_answer, record_error, value_payload
from .policies import Policies, read_live
from .routing import Pins
from .stages import TABLE, Stage
from .subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime

    from ._routes import Command
    from .config import Config
    from .policies import LivePolicy
    from .policy import Policy
    from .ports import Bus, Change, Position
    from .redaction import Redactor
    from .sealed import Sealer
    from .seam import Registry, Route, Seam

_LOOK_UPS: Final = (0.5, 0.9, 1.0)  # shares of the deadline at which the log is asked for a result
_RETRY: Final = 2.0  # seconds between attempts to connect for the first time
_LAST_LOOK: Final = 1.0  # seconds by which the look-up at the deadline may exceed it
_AGAIN: Final = 0.25  # seconds until a command in doubt is published again
_HERD: Final = 0.5  # seconds over which waiters spread their look-ups after a reconnect
_POLLS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between look-ups of a submitted call's result
_CLAIM_PATIENCE: Final = 5.0  # seconds past its deadline that a caller asks the ledger who may run

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
        self.shown_url = hide_credentials(url)
        self.config = config
        self.registry = registry
        self.redactor = redactor
        self.sealer = sealer
        self.off = off
        self.role = "caller"
        self.subjects = Subjects(config.prefix)
        self.instance = f"{re.sub('[^A-Za-z0-9]', '_', socket.gethostname())[:32]}_{os.getpid()}_{new_id()[-8:]}"
        self.observer = Observer(bus, self.subjects, redactor, instance=self.instance)
        self.policies = Policies(bus, self.subjects)
        self.pins = Pins()
        self.nonces = Nonces()
        self.ready = asyncio.Event()
        self.failure: CrossfadeError | None = None
        self.listeners: dict[str, Callable[[Event], None]] = {}
        self._settled = asyncio.Event()
        self._live: dict[str, LivePolicy] = {}
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._asked: dict[str, Command] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reply_to = ""
        self._closing = False
        self._complained: set[str] = set()
        self._blockers: dict[str, set[str]] = {}
        self._legacy_hits: dict[str, int] = {}
        self._report_now = asyncio.Event()

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect in the background, for as long as it takes; ``ready`` is set after the first success."""
        self._spawn(self._connect())

    async def settled(self, *, patient: bool) -> None:
        """Return when connected, or when an attempt has failed.

        ``patient``: a broker that cannot be reached is waited for; one that refuses us is not.
        """
        while not self.ready.is_set():
            self._settled.clear()
            await self._settled.wait()
            if not (patient and isinstance(self.failure, BusUnavailableError)):
                return

    async def stop(self, *, flush: float) -> None:
        """Flush observations within ``flush`` seconds, stop every task and disconnect."""
        self._closing = True
        for seam in self.registry.all():
            seam.route = None
        await self._end_calls()
        if self.ready.is_set():
            await self.observer.flush(flush)
            await self._say_goodbye()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.bus.close()

    async def _end_calls(self) -> None:
        """Every call ends in a terminal, and "cancelled" is none: nobody here will hear how these end."""
        for waiter in self._waiting.values():
            _settle(waiter, Answer(kind="unknown", reason="closed"))
        while self._waiting:  # noqa: ASYNC110 - until each has told its caller
            await asyncio.sleep(0)

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self.policies.instances.leave(self.instance)
        except (BusError, TimeoutError) as error:  # it will be taken for gone in ten seconds
            report.count("report-failed", reason=type(error).__name__)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
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
        if not self._reply_to:  # once, however many attempts what follows takes
            self._reply_to = await self.bus.listen(self.instance, self._on_reply)
            self.bus.on_reconnect(self._look_up_all)
        self._live = await self._read_policies()
        for seam in self.registry.all():
            await self._announce(seam)
        self._spawn(self._follow_policies())
        self._spawn(self.observer.run())
        self._spawn(self._report())
        self.ready.set()
        for seam in self.registry.all():
            self._apply(seam)
        self.failure = None
        self._settled.set()

    async def _report(self) -> None:
        """Tell the bus that we live and which revisions we have applied: now and then, and after each change."""
        while True:
            self._report_now.clear()
            instance = Instance(
                instance=self.instance,
                role=self.role,
                seen=self.bus.now(),
                seams={seam.name: self._revision(seam.name) for seam in self.registry.all()},
                legacy_hits=dict(self._legacy_hits),
            )
            try:
                await self.policies.instances.report(instance)
            except BusError as error:
                report.count("report-failed", reason=type(error).__name__)
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._report_now.wait()
            except TimeoutError:
                continue  # nothing changed

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
            self._spawn(self._announce(seam))

    async def _announce(self, seam: Seam) -> None:
        try:
            await self._announce_now(seam)
        except BusError as error:
            report.count("announce-failed", seam=seam.name, reason=type(error).__name__)

    async def _announce_now(self, seam: Seam) -> None:
        if seam.has_body:
            base = self.config.policy(seam.name, seam.policy)
            await self.policies.announce(seam, base, sorted(self._blockers.get(seam.name, ())))

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
        except CrossfadeError as error:
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
            if change.value is None:
                self._live.pop(change.key, None)
            else:
                live = self._read(change.key, change.value)
                if live is None:
                    return  # the last known policy stays
                self._live[change.key] = live
                if live.minrev == live.revision:
                    self.pins.forget(change.key)  # rolled back to abort
            for seam in self.registry.all():
                if seam.name == change.key:
                    self._apply(seam)
            self._report_now.set()
        except Exception as error:  # one bad value must not keep the next rollback from arriving
            self.skip(change.key, "policy", f"could not be followed: {error!r}")

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
        seam.route = self._route(seam, policy)
        live = self._live.get(seam.name)
        later = live.next_change(self.bus.now()) if live else None
        if later is not None:
            seconds = (later - self.bus.now()).total_seconds() + 0.01
            self.thread.loop.call_later(seconds, self._apply, seam)

    def _route(self, seam: Seam, policy: Policy) -> Route | None:
        if self.off and seam.has_body:
            return None
        row = TABLE[policy.stage]
        over_bus = OverBus(self, policy)
        if row.answers == "bus":
            return self._over_bus(seam, over_bus, policy)
        observing: Route | None = Observing(self, policy) if row.observes else None
        legacy = observing
        if policy.effects == "unsafe" and policy.claiming:
            legacy = Keyed(self, policy, inner=observing or Observing(self, policy))
        if row.answers == "split" or policy.draining:
            split = Split(self, policy, legacy=legacy or Observing(self, policy), bus=over_bus)
            return split if self._may_command(seam) else legacy
        return legacy

    def _over_bus(self, seam: Seam, over_bus: OverBus, policy: Policy) -> Route:
        return over_bus if self._may_command(seam) or policy.stage is Stage.RETIRED else Observing(self, policy)

    def _may_command(self, seam: Seam) -> bool:
        """Whether this process can send commands of ``seam``; if not, it stays at observe and says why."""
        reason = ""
        if seam.has_body and seam.binding == "instance" and seam.bind is None and not self.registry.handler(seam.name):
            reason = "it is a method, and self cannot cross: say bind=, or register a handler"
        if reason:
            self.skip(seam.name, "method", reason)
        return not reason

    # -- helpers of the routes ---------------------------------------------------------------------------------

    def skip(self, seam: str, reason: str, text: str) -> None:
        """Count a call that stays legacy although its stage says otherwise; say so once per seam and reason."""
        report.count("skipped", seam=seam, reason=reason)
        if f"{seam}:{reason}" not in self._complained:
            self._complained.add(f"{seam}:{reason}")
            _log.warning("seam %s stays legacy: %s (said once, counted from now on)", seam, self.redactor.text(text))

    def block(self, seam: Seam, blocker: str) -> None:
        """Something was seen that forbids moving ``seam`` past shadow; the bus is told once."""
        known = self._blockers.setdefault(seam.name, set())
        if blocker not in known:
            known.add(blocker)
            _log.warning("seam %s must not go over the bus: %s", seam.name, blocker)
            self.thread.loop.call_soon_threadsafe(lambda: self._spawn(self._announce(seam)))

    def run_legacy(
        self, seam: Seam, policy: Policy, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the body where commands are the rule: a hit that the way to retirement counts."""
        self._legacy_hits[seam.name] = self._legacy_hits.get(seam.name, 0) + 1
        report.count("legacy-hit", seam=seam.name)
        if policy.stage is Stage.RETIRED:
            _log.error("seam %s is retired, and its legacy body was called", seam.name)
            self.thread.loop.call_soon_threadsafe(lambda: self._spawn(self._alarm(seam.name, policy)))
        return body(*args, **kwargs)

    async def _alarm(self, seam: str, policy: Policy) -> None:
        event = Event(
            type="seam.skipped",
            source=f"urn:crossfade:{self.instance}",
            subject=seam,
            extensions={"seam": seam, "policyrev": str(policy.revision)},
            data=json.dumps({"seam": seam, "reason": "legacy-hit", "count": self._legacy_hits[seam]}).encode(),
        )
        try:
            await self.bus.publish(self.subjects.fact(event.type), event)
        except BusError as error:
            report.count("dropped", seam=seam, reason=type(error).__name__)

    def deadline(self, seconds: float) -> datetime:
        """The broker's time ``seconds`` from now."""
        return self.bus.now() + timedelta(seconds=seconds)

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

    # -- calls over the bus ------------------------------------------------------------------------------------

    async def ask(self, command: Command) -> Answer:
        """Send a command and wait for its terminal: a reply, or the log, which is the truth."""
        if self._closing:
            return Answer(kind="not-executed", reason="closed")
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[command.callid] = waiter
        self._asked[command.callid] = command
        sending = asyncio.create_task(self._send(command, waiter))
        try:
            answer = await self._answer(command, waiter)
            if answer.kind == "unknown" and command.guarded and answer.reason == "deadline":
                answer = await self._claim_late(command, answer)
            return answer
        finally:
            sending.cancel()
            self._waiting.pop(command.callid, None)
            self._asked.pop(command.callid, None)

    async def send(self, command: Command) -> Answer | None:
        """Send a command and return when it is durable; an answer only when it was not sent, or known already."""
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._send(command, waiter)
        return waiter.result() if waiter.done() else None

    async def _send(self, command: Command, waiter: asyncio.Future[Answer]) -> None:
        """Publish until it is durable or provably not sent; ends the call in the latter case."""
        try:
            event = await self._event(command)
            if command.guarded:
                await self._append_command(command, event, waiter)
            else:
                await self._publish_command(command, event)
        except CrossfadeError as error:
            _settle(waiter, Answer(kind="not-executed", reason=type(error).__name__))
            report.count("not-sent", seam=command.seam.name, reason=type(error).__name__)
        except Exception:
            _log.exception("seam %s: a command could not be sent", command.seam.name)
            _settle(waiter, Answer(kind="unknown", reason="internal"))

    async def _publish_command(self, command: Command, event: Event) -> None:
        """Repeat the same event until the answer is clean: a copy that landed is then a duplicate.

        Once one try is in doubt, no later refusal (full, disconnected, forbidden) proves that nothing was sent.
        """
        ambiguous = False
        while True:
            try:
                await self.bus.publish(self.place(command).invoke, event)
            except BusAmbiguousError:
                ambiguous = True
                report.count("publish-ambiguous", seam=command.seam.name)
            except BusError:
                if not ambiguous:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _append_command(self, command: Command, event: Event, waiter: asyncio.Future[Answer]) -> None:
        """Send under the condition that the call has no ledger yet, so that a late copy cannot follow a claim."""
        place, ambiguous = self.place(command), False
        while True:
            try:
                await self.bus.append(place.invoke, event, last=place.everything, at=None)
            except BusAmbiguousError:
                ambiguous = True
                report.count("publish-ambiguous", seam=command.seam.name)
            except WrongPositionError:
                if await self._joined(command, place, waiter):
                    return
            except BusError:
                if not ambiguous:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _joined(self, command: Command, place: CallPlace, waiter: asyncio.Future[Answer]) -> bool:
        """The call has a ledger: our own earlier copy, or an earlier call of this key, whose result is ours."""
        try:
            earlier = await self.bus.last(place.invoke)
            stored = await self.bus.last(place.result)
            if earlier is not None and await load_data(self.bus, earlier.event) != command.data and not command.sealed:
                _settle(waiter, Answer(kind="not-executed", reason="key-reused"))
            elif stored is not None:
                _settle(waiter, await self.read_result(stored.event))
        except (BusAmbiguousError, BusUnavailableError) as error:
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)
            await asyncio.sleep(0.1)
            return False
        return True

    async def _event(self, command: Command) -> Event:
        data: bytes | None = command.data
        attributes = {
            **extensions(command.correlation),
            "seam": command.seam.name,
            "callid": command.callid,
            "path": "bus",
            "policyrev": str(command.policy.revision),
            "expirytime": command.deadline.isoformat(),
            "partitionkey": command.correlation.run,
            "replyto": self._reply_to,
        }
        pins = self.pins.to_text(command.correlation.run)
        if pins:
            attributes["pins"] = pins
        if command.guarded:
            attributes["guarded"] = "1"
        if command.sealed:
            attributes["sealed"] = "1"
        if len(command.data) > CLAIM_CHECK:
            attributes["dataref"] = format_dataref(await self.bus.put_object(command.data))
            data = None
        return Event(
            type="tool.invoke" if command.seam.domain == "tool" else "agent.task.started",
            source=f"urn:crossfade:{self.instance}",
            id=command.callid,
            subject=command.seam.name,
            extensions=attributes,
            data=data,
        )

    async def _answer(self, command: Command, waiter: asyncio.Future[Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        ends: set[asyncio.Future[Any]] = {waiter}
        for share in _LOOK_UPS:
            await asyncio.wait({waiter}, timeout=max(0.0, begun + share * command.policy.timeout - loop.time()))
            if waiter.done():
                return waiter.result()
            ends = {waiter, self._spawn(self._look_up(command, waiter))}  # beside: a hanging broker delays no deadline
        await asyncio.wait(ends, timeout=_LAST_LOOK, return_when=asyncio.FIRST_COMPLETED)
        return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")

    async def _look_up(self, command: Command, waiter: asyncio.Future[Answer]) -> None:
        """Ask the log for the result; what it says settles the call, a failure to ask is counted."""
        try:
            async with asyncio.timeout(2):
                stored = await self.bus.last(self.place(command).result)
                if stored is not None:
                    report.count("looked-up", seam=command.seam.name)
                    _settle(waiter, await self.read_result(stored.event))
        except (BusError, MalformedEventError, TimeoutError) as error:
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)

    async def _look_up_all(self) -> None:
        await asyncio.gather(*(self._look_up_later(command) for command in list(self._asked.values())))

    async def _look_up_later(self, command: Command) -> None:
        await asyncio.sleep(random.random() * _HERD)  # noqa: S311 - spreads load, hides nothing
        waiter = self._waiting.get(command.callid)
        if waiter is not None and not waiter.done():
            await self._look_up(command, waiter)

    def _on_reply(self, event: Event) -> None:
        listener = self.listeners.get(event.get("callid") or "")
        if listener is not None:
            listener(event)
        if event.type.endswith("progress"):
            return
        waiter = self._waiting.get(event.get("callid") or "")
        if waiter is None or waiter.done():
            report.count("late", seam=event.get("seam") or "-")
            return
        if event.data is None and event.get("dataref"):
            self._spawn(self._fetch(event, waiter))  # too large for a reply
            return
        try:
            _settle(waiter, read_answer(event.data))
        except MalformedEventError as error:
            report.count("malformed-reply", seam=event.get("seam") or "-", reason=error.reason)

    async def _fetch(self, event: Event, waiter: asyncio.Future[Answer]) -> None:
        try:
            _settle(waiter, await self.read_result(event))
        except (BusError, MalformedEventError) as error:  # the look-up will try again
            report.count("look-up-failed", seam=event.get("seam") or "-", reason=type(error).__name__)

    async def read_result(self, event: Event) -> Answer:
        """The answer in a result event, fetched from the object store when it is a claim check."""
        return read_answer(await load_data(self.bus, event))

    async def follow(self, command: Command) -> Answer:
        """Wait for the terminal of a command that was sent already, until its deadline and the grace have passed."""
        waiter = self._waiting.setdefault(command.callid, asyncio.get_running_loop().create_future())
        end = command.deadline + GRACE
        polls = 0
        try:
            while not waiter.done() and self.bus.now() < end:
                await self._look_up(command, waiter)
                await asyncio.wait({waiter}, timeout=_POLLS[min(polls, len(_POLLS) - 1)])
                polls += 1
            return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")
        finally:
            self._waiting.pop(command.callid, None)

    def broadcast_cancel(self, command: Command) -> None:
        """Tell every worker that nobody waits for this call any more; fail-open."""
        event = Event(
            type="tool.progress",
            source=f"urn:crossfade:{self.instance}",
            subject=command.seam.name,
            extensions={"callid": command.callid, "seam": command.seam.name},
        )
        try:
            self.bus.reply(self.subjects.reply("cancel"), event)
        except BusError as error:
            report.count("dropped", seam=command.seam.name, reason=type(error).__name__)

    async def outcome(self, callid: str) -> Answer | None:
        """What the log says of a call of which only the id is known."""
        stored = await self.bus.last(self.subjects.of_call(callid, "result"))
        return None if stored is None else await self.read_result(stored.event)

    def place(self, command: Command) -> CallPlace:
        """Where a call's ledger lies. A keyed call's place follows from its key, whoever retries it in whatever run."""
        return CallPlace.of(
            self.subjects.call(
                "invoke",
                domain=command.seam.domain,
                seam=command.seam.name,
                run=command.callid if command.keyed else command.correlation.run,
                callid=command.callid,
                tenant=command.correlation.tenant,
                user=None if command.keyed else command.correlation.user,
            )
        )

    # -- the caller as owner -----------------------------------------------------------------------------------

    async def _claim_late(self, command: Command, unknown: Answer) -> Answer:
        """At the deadline: take the call away from workers that have not started it, or say that nobody knows."""
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                return await self._claim_as_caller(command)
        except (TimeoutError, BusError, MalformedEventError) as error:
            report.count("claim-given-up", seam=command.seam.name, reason=type(error).__name__)
            return unknown

    async def _claim_as_caller(self, command: Command) -> Answer:
        place = self.place(command)
        sent = await self.bus.last(place.invoke)
        claim = await take(
            self.bus, place, self.claim_record(command), at=sent.position if sent else None, nonces=self.nonces
        )
        if isinstance(claim, Won):
            report.count("claimed", seam=command.seam.name, reason="caller")
            return Answer(kind="not-executed", reason="claimed-back", claim=claim.position)
        stored = await self.bus.last(place.result)
        if stored is not None:
            return await self.read_result(stored.event)
        return Answer(kind="unknown", reason="started" if isinstance(claim, Held) else "vanished")

    async def own(self, command: Command) -> Answer:
        """Claim a keyed call for its legacy body; the earlier call's answer when its key was used already."""
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                claim = await take(
                    self.bus, self.place(command), self.claim_record(command), at=None, nonces=self.nonces
                )
        except (TimeoutError, BusError, MalformedEventError) as error:
            report.count("ledger-down", seam=command.seam.name, reason=type(error).__name__)
            return Answer(kind="not-executed", reason="ledger-down")
        if isinstance(claim, Won):
            return Answer(kind="not-executed", reason="owned", claim=claim.position)
        if isinstance(claim, Held) and claim.record.arguments != fingerprint(command.data) and not command.sealed:
            return Answer(kind="not-executed", reason="key-reused")
        return await self._wait_for_other(command, claim)

    async def _wait_for_other(self, command: Command, claim: Held | Vanished) -> Answer:
        """Another call of this key is under way, or done: its answer is ours."""
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if isinstance(claim, Vanished) and not await self._joined(command, self.place(command), waiter):
            return Answer(kind="unknown", reason="ledger-down")
        end = self.bus.now() + timedelta(seconds=command.policy.timeout)
        while not waiter.done() and self.bus.now() < end:
            await self._look_up(command, waiter)
            await asyncio.sleep(0.05)
        return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")

    def claim_record(self, command: Command) -> ClaimRecord:
        """What this process says when it claims ``command`` for its legacy body."""
        return ClaimRecord(
            callid=command.callid,
            seam=command.seam.name,
            nonce=self.nonces.of(command.callid, "caller"),
            role="caller",
            instance=self.instance,
            attempt=1,
            policyrev=command.policy.revision,
            arguments=fingerprint(command.data),
            expires=command.deadline,
        )

    async def log_own(
        self, command: Command, answer: Answer, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Log how the body ended that ran as the call's owner. A failure leaves the call to become ``unknown``."""
        event = Event(
            type="tool.result" if command.seam.domain == "tool" else "agent.task.completed",
            source=f"urn:crossfade:{self.instance}",
            id=derived_id(command.callid, "result"),
            subject=command.seam.name,
            extensions={
                **extensions(command.correlation),
                "callid": command.callid,
                "seam": command.seam.name,
                "path": "legacy",
            },
            data=self._own_payload(command, value, error),
        )
        try:
            await self._log_until_clean(self.place(command), event, answer.claim)
        except (BusError, TimeoutError) as failure:
            report.count("result-lost", seam=command.seam.name, reason=type(failure).__name__)
            _log.error(
                "seam %s: call %s ran here and its result could not be logged", command.seam.name, command.callid
            )

    async def _log_until_clean(self, place: CallPlace, event: Event, claim: Position | None) -> None:
        if claim is None:
            return None
        async with asyncio.timeout(_CLAIM_PATIENCE):
            while True:
                try:
                    return await log_result(self.bus, place, event, claim=claim)
                except (BusAmbiguousError, BusUnavailableError):
                    await asyncio.sleep(0.1)

    def _own_payload(self, command: Command, value: Any, error: BaseException | None) -> bytes:
        if error is not None:
            record = record_error(error, redact=self.redactor.text)
            return error_payload(record, handler="legacy", handler_ms=0.0)
        try:
            return value_payload(command.seam.codec.encode_result(value), handler="legacy", handler_ms=0.0)
        except CrossfadeError as failure:
            return error_payload(record_error(failure, redact=self.redactor.text), handler="legacy", handler_ms=0.0)


def _unforeseen(error: Exception) -> BusError:
    failure = BusError(f"connecting failed in a way nobody foresaw: {error!r}")
    failure.__cause__ = error
    return failure


def _settle(waiter: asyncio.Future[Answer], answer: Answer) -> None:
    if not waiter.done():
        waiter.set_result(answer)


def seal_context(seam: str, callid: str, name: str) -> bytes:
    """What a sealed value is bound to, so that it cannot be moved to another call."""
    return f"{seam}\x1f{callid}\x1f{name}".encode()
