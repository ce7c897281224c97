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
from ._routes import Observing, OverBus
from .buses import hide_credentials
from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .correlate import extensions
from .errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    CrossfadeError,
    MalformedEventError,
)
from .events import Event, new_id
from .hooks import report
from .observations import Observer
from .outcomes import Answer, read_answer
from .policies import Policies, check_effects, read_live
from .stages import TABLE
from .subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import datetime

    from ._routes import Command
    from .config import Config
    from .policies import LivePolicy
    from .policy import Policy
    from .ports import Bus, Change
    from .redaction import Redactor
    from .sealed import Sealer
    from .seam import Registry, Route, Seam

_LOOK_UPS: Final = (0.5, 0.9, 1.0)  # shares of the deadline at which the log is asked for a result
_RETRY: Final = 2.0  # seconds between attempts to connect for the first time
_LAST_LOOK: Final = 1.0  # seconds by which the look-up at the deadline may exceed it
_AGAIN: Final = 0.25  # seconds until a command in doubt is published again
_HERD: Final = 0.5  # seconds over which waiters spread their look-ups after a reconnect

_log = logging.getLogger("crossfade")


class Runtime:
    """Everything one connection of this process owns. Created in any thread; its coroutines run on ``thread``."""

    def __init__(  # noqa: PLR0913 - the composition root of the shim
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
        self.subjects = Subjects(config.prefix)
        self.instance = f"{re.sub('[^A-Za-z0-9]', '_', socket.gethostname())[:32]}_{os.getpid()}_{new_id()[-8:]}"
        self.observer = Observer(bus, self.subjects, redactor, instance=self.instance)
        self.policies = Policies(bus, self.subjects)
        self.ready = asyncio.Event()
        self._settled = asyncio.Event()
        self.failure: CrossfadeError | None = None
        self._live: dict[str, LivePolicy] = {}
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._asked: dict[str, Command] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reply_to = ""
        self._closing = False
        self._complained: set[str] = set()

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
        self.ready.set()
        for seam in self.registry.all():
            self._apply(seam)
        self.failure = None
        self._settled.set()

    # -- policies --------------------------------------------------------------------------------------------

    def declared(self, seam: Seam) -> None:
        """A seam was declared after ``connect``."""
        self.thread.loop.call_soon_threadsafe(self._adopt, seam)

    def _adopt(self, seam: Seam) -> None:
        if self.ready.is_set():
            self._apply(seam)
            self._spawn(self._announce(seam))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _announce(self, seam: Seam) -> None:
        try:
            await self.policies.announce(seam)
        except BusError as error:
            report.count("announce-failed", seam=seam.name, reason=type(error).__name__)

    async def _read_policies(self) -> dict[str, LivePolicy]:
        found: dict[str, LivePolicy] = {}
        for entry in await self.bus.state("policy").entries():
            live = self._read(entry.key, entry.value, entry.revision)
            if live is not None:
                found[entry.key] = live
        return found

    def _read(self, seam: str, value: bytes, revision: int) -> LivePolicy | None:
        try:
            return read_live(seam, value, revision)
        except Exception as error:  # whatever lies in the bucket, the last known policy stays
            self._complain(seam, "policy", str(error))
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
                live = self._read(change.key, change.value, change.revision)
                if live is None:
                    return  # the last known policy stays
                self._live[change.key] = live
            for seam in self.registry.all():
                if seam.name == change.key:
                    self._apply(seam)
        except Exception as error:  # one bad value must not keep the next rollback from arriving
            self._complain(change.key, "policy", f"could not be followed: {error!r}")

    def policy(self, seam: Seam) -> Policy:
        """The policy in force: code, then file, then live state. A live policy that cannot be read changes nothing."""
        base = self.config.policy(seam.name, seam.policy)
        live = self._live.get(seam.name)
        if live is None:
            return base
        try:
            return live.over(base)
        except CrossfadeError as error:
            self._complain(seam.name, "policy", str(error))
            raise

    def _apply(self, seam: Seam) -> None:
        try:
            policy = self.policy(seam)
        except CrossfadeError:
            return  # complained already; the route in force stays
        seam.route = self._route(seam, policy)

    def _route(self, seam: Seam, policy: Policy) -> Route | None:
        row = TABLE[policy.stage]
        if self.off or not (row.observes or row.commands):
            return None
        if not row.available:
            self.skip(seam.name, "unavailable", f"{policy.stage} cannot be run by this version")
        if not (row.commands and row.available):
            return Observing(self, policy)
        try:
            check_effects(seam.name, policy.stage, policy.effects)
        except CrossfadeError as error:
            self.skip(seam.name, "unsafe", str(error))
            return Observing(self, policy)
        return OverBus(self, policy)

    # -- helpers of the routes ---------------------------------------------------------------------------------

    def skip(self, seam: str, reason: str, text: str) -> None:
        """Count a call that stays legacy although its stage says otherwise; say so once per seam and reason."""
        self._complain(seam, reason, f"stays legacy: {text}")

    def _complain(self, seam: str, reason: str, text: str) -> None:
        report.count("skipped", seam=seam, reason=reason)
        if f"{seam}:{reason}" not in self._complained:
            self._complained.add(f"{seam}:{reason}")
            _log.warning("seam %s %s (said once, counted from now on)", seam, self.redactor.text(text))

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
            return await self._answer(command, waiter)
        finally:
            sending.cancel()
            del self._waiting[command.callid], self._asked[command.callid]

    async def _send(self, command: Command, waiter: asyncio.Future[Answer]) -> None:
        """Publish until it is durable or provably not sent; ends the call in the latter case."""
        try:
            await self._publish(command, await self._event(command))
        except CrossfadeError as error:
            _settle(waiter, Answer(kind="not-executed", reason=type(error).__name__))
            report.count("not-sent", seam=command.seam.name, reason=type(error).__name__)
        except Exception:
            _log.exception("seam %s: a command could not be sent", command.seam.name)
            _settle(waiter, Answer(kind="unknown", reason="internal"))

    async def _publish(self, command: Command, event: Event) -> None:
        """Repeat the same event until the answer is clean: a copy that landed is then a duplicate.

        Once one try is in doubt, no later refusal (full, disconnected, forbidden) proves that nothing was sent.
        """
        ambiguous = False
        while True:
            try:
                await self.bus.publish(self._subject(command, "invoke"), event)
            except BusAmbiguousError:
                ambiguous = True
                report.count("publish-ambiguous", seam=command.seam.name)
            except BusError:
                if not ambiguous:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

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
        if command.sealed:
            attributes["sealed"] = "1"
        if len(command.data) > CLAIM_CHECK:
            attributes["dataref"] = format_dataref(await self.bus.put_object(command.data))
            data = None
        return Event(
            type=f"{command.seam.domain}.invoke" if command.seam.domain == "tool" else "agent.task.started",
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
            await asyncio.wait({waiter}, timeout=begun + share * command.policy.timeout - loop.time())
            if waiter.done():
                return waiter.result()
            ends = {waiter, self._spawn(self._look_up(command, waiter))}  # beside: a hanging broker delays no deadline
        await asyncio.wait(ends, timeout=_LAST_LOOK, return_when=asyncio.FIRST_COMPLETED)
        return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")

    async def _look_up(self, command: Command, waiter: asyncio.Future[Answer]) -> None:
        """Ask the log for the result; what it says settles the call, a failure to ask is counted."""
        try:
            async with asyncio.timeout(2):
                stored = await self.bus.last(self._subject(command, "result"))
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

    def _subject(self, command: Command, kind: Any) -> str:
        return self.subjects.call(
            kind,
            domain=command.seam.domain,
            seam=command.seam.name,
            run=command.correlation.run,
            callid=command.callid,
            tenant=command.correlation.tenant,
            user=command.correlation.user,
        )


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
