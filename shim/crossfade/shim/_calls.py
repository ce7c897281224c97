"""The callers of this process that wait for answers: commands sent, replies taken, results looked up, claims made.

A reply is a hint, the log is the truth: the log is asked at half and at nine tenths of a call's deadline, at its end,
and after each reconnect.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .claims import GRACE, CallPlace, Claim, ClaimRecord, Held, Vanished, Won, fingerprint, log_result, take
from .correlate import extensions
from .errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    CrossfadeError,
    MalformedEventError,
    WrongPositionError,
)
from .events import Event, derived_id
from .hooks import report
from .outcomes import Answer, error_payload, read_answer, record_error, value_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._routes import Command
    from ._runtime import Runtime
    from .ports import Position

_LOOK_UPS: Final = (0.5, 0.9, 1.0)  # shares of the deadline at which the log is asked for a result
_LAST_LOOK: Final = 1.0  # seconds by which the look-up at the deadline may exceed it
_AGAIN: Final = 0.25  # seconds until a command in doubt is published again
_HERD: Final = 0.5  # seconds over which waiters spread their look-ups after a reconnect
_POLLS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between look-ups of a submitted call's result
_CLAIM_PATIENCE: Final = 5.0  # seconds past its deadline that a caller asks the ledger who may run

_log = logging.getLogger("crossfade")


class Calls:
    """The calls under way over one connection. ``listeners`` hear every reply of their call, progress included."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.reply_to = ""
        self.listeners: dict[str, Callable[[Event], None]] = {}
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._asked: dict[str, Command] = {}
        self._closing = False

    async def listen(self) -> None:
        """Hear replies and reconnects; once, however often connecting is tried."""
        if not self.reply_to:
            self.reply_to = await self._runtime.bus.listen(self._runtime.instance, self.receive)
            self._runtime.bus.on_reconnect(self.look_up_all)

    async def close(self) -> None:
        """Every call ends in a terminal, and "cancelled" is none: nobody here will hear how these end."""
        self._closing = True
        for waiter in self._waiting.values():
            _settle(waiter, Answer(kind="unknown", reason="closed"))
        while self._waiting:  # noqa: ASYNC110 - until each has told its caller
            await asyncio.sleep(0)

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
                await self._runtime.bus.publish(self.place(command).invoke, event)
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
                await self._runtime.bus.append(place.invoke, event, last=place.everything, at=None)
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
            earlier = await self._runtime.bus.last(place.invoke)
            stored = await self._runtime.bus.last(place.result)
            if (
                earlier is not None
                and await load_data(self._runtime.bus, earlier.event) != command.data
                and not command.sealed
            ):
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
            "replyto": self.reply_to,
        }
        pins = self._runtime.pins.to_text(command.correlation.run)
        if pins:
            attributes["pins"] = pins
        if command.guarded:
            attributes["guarded"] = "1"
        if command.sealed:
            attributes["sealed"] = "1"
        if len(command.data) > CLAIM_CHECK:
            attributes["dataref"] = format_dataref(await self._runtime.bus.put_object(command.data))
            data = None
        return Event(
            type="tool.invoke" if command.seam.domain == "tool" else "agent.task.started",
            source=f"urn:crossfade:{self._runtime.instance}",
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
            ends = {
                waiter,
                self._runtime.spawn(self._look_up(command, waiter)),
            }  # beside: a hanging broker delays no deadline
        await asyncio.wait(ends, timeout=_LAST_LOOK, return_when=asyncio.FIRST_COMPLETED)
        return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")

    async def _look_up(self, command: Command, waiter: asyncio.Future[Answer]) -> None:
        """Ask the log for the result; what it says settles the call, a failure to ask is counted."""
        try:
            async with asyncio.timeout(2):
                stored = await self._runtime.bus.last(self.place(command).result)
                if stored is not None:
                    report.count("looked-up", seam=command.seam.name)
                    _settle(waiter, await self.read_result(stored.event))
        except (BusError, MalformedEventError, TimeoutError) as error:
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)

    async def look_up_all(self) -> None:
        await asyncio.gather(*(self._look_up_later(command) for command in list(self._asked.values())))

    async def _look_up_later(self, command: Command) -> None:
        await asyncio.sleep(random.random() * _HERD)  # noqa: S311 - spreads load, hides nothing
        waiter = self._waiting.get(command.callid)
        if waiter is not None and not waiter.done():
            await self._look_up(command, waiter)

    def receive(self, event: Event) -> None:
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
            self._runtime.spawn(self._fetch(event, waiter))  # too large for a reply
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
        return read_answer(await load_data(self._runtime.bus, event))

    async def follow(self, command: Command) -> Answer:
        """Wait for the terminal of a command that was sent already, until its deadline and the grace have passed."""
        waiter = self._waiting.setdefault(command.callid, asyncio.get_running_loop().create_future())
        end = command.deadline + GRACE
        polls = 0
        try:
            while not waiter.done() and self._runtime.bus.now() < end:
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
            source=f"urn:crossfade:{self._runtime.instance}",
            subject=command.seam.name,
            extensions={"callid": command.callid, "seam": command.seam.name},
        )
        try:
            self._runtime.bus.reply(self._runtime.subjects.reply("cancel"), event)
        except BusError as error:
            report.count("dropped", seam=command.seam.name, reason=type(error).__name__)

    async def outcome(self, callid: str) -> Answer | None:
        """What the log says of a call of which only the id is known."""
        stored = await self._runtime.bus.last(self._runtime.subjects.of_call(callid, "result"))
        return None if stored is None else await self.read_result(stored.event)

    def place(self, command: Command) -> CallPlace:
        """Where a call's ledger lies. A keyed call's place follows from its key, whoever retries it in whatever run."""
        return CallPlace.of(
            self._runtime.subjects.call(
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
        sent = await self._runtime.bus.last(place.invoke)
        claim = await self.take(command, at=sent.position if sent else None)
        if isinstance(claim, Won):
            report.count("claimed", seam=command.seam.name, reason="caller")
            return Answer(kind="not-executed", reason="claimed-back", claim=claim.position)
        stored = await self._runtime.bus.last(place.result)
        if stored is not None:
            return await self.read_result(stored.event)
        return Answer(kind="unknown", reason="started" if isinstance(claim, Held) else "vanished")

    async def own(self, command: Command) -> Answer:
        """Claim a keyed call for its legacy body; the earlier call's answer when its key was used already."""
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                claim = await self.take(command, at=None)
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
        end = self._runtime.bus.now() + timedelta(seconds=command.policy.timeout)
        while not waiter.done() and self._runtime.bus.now() < end:
            await self._look_up(command, waiter)
            await asyncio.sleep(0.05)
        return waiter.result() if waiter.done() else Answer(kind="unknown", reason="deadline")

    async def take(self, command: Command, *, at: Position | None) -> Claim:
        """Claim ``command`` for its legacy body, or to cancel it."""
        record = self._claim_record(command)
        return await take(self._runtime.bus, self.place(command), record, at=at, nonces=self._runtime.nonces)

    def _claim_record(self, command: Command) -> ClaimRecord:
        return ClaimRecord(
            callid=command.callid,
            seam=command.seam.name,
            nonce=self._runtime.nonces.of(command.callid, "caller"),
            role="caller",
            instance=self._runtime.instance,
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
            source=f"urn:crossfade:{self._runtime.instance}",
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
                    return await log_result(self._runtime.bus, place, event, claim=claim)
                except (BusAmbiguousError, BusUnavailableError):
                    await asyncio.sleep(0.1)

    def _own_payload(self, command: Command, value: Any, error: BaseException | None) -> bytes:
        if error is not None:
            record = record_error(error, redact=self._runtime.redactor.text)
            return error_payload(record, handler="legacy", handler_ms=0.0)
        try:
            return value_payload(command.seam.codec.encode_result(value), handler="legacy", handler_ms=0.0)
        except CrossfadeError as failure:
            return error_payload(
                record_error(failure, redact=self._runtime.redactor.text), handler="legacy", handler_ms=0.0
            )


def _settle(waiter: asyncio.Future[Answer], answer: Answer) -> None:
    if not waiter.done():
        waiter.set_result(answer)
