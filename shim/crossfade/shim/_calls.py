"""The callers of this process that wait for answers: commands sent, replies taken, results looked up, claims made.

A reply is a hint, the log is the truth: the log is asked at half and at nine tenths of a call's deadline, at its end,
and after each reconnect.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .claims import GRACE, CallPlace, Claim, ClaimRecord, Held, Won, find_terminal, fingerprint, log_result, take
from .correlate import extensions
from .domains import Ended, answer_type, command_type
from .errors import (
    BusAmbiguousError,
    BusError,
    BusUnavailableError,
    CrossfadeError,
    MalformedEventError,
    WrongPositionError,
)
from .events import TYPES, Event, derived_id
from .hooks import report
from .outcomes import (
    Answer,
    NoAnswerError,
    error_payload,
    read_answer,
    record_error,
    refusal_payload,
    value_payload,
)
from .slots import current_slot
from .watching import Step, begin, sent, watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._routes import Command
    from ._runtime import Runtime
    from .ports import Position
    from .slots import Slot
    from .watching import Watch

_LOOK_UPS: Final = (0.5, 0.9, 1.0)  # shares of the deadline at which the log is asked for a result
_LAST_LOOK: Final = 1.0  # seconds by which the look-up at the deadline may exceed it
_DOUBT: Final = 0.05  # seconds until a command is appended again whose answer was unclear: it may come at once
_AGAIN: Final = 0.25  # seconds until a command in doubt is published again
_HERD: Final = 0.5  # seconds over which waiters spread their look-ups after a reconnect
_POLLS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between look-ups of a submitted call's result
_CLAIM_PATIENCE: Final = 5.0  # seconds past its deadline that a caller asks the ledger who may run

_JOINED: Final = (0.02, 0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.5)  # seconds between look-ups of another caller's call

_log = logging.getLogger("crossfade")


@dataclass(slots=True, eq=False)
class _Asked:
    """A call that waits here. ``sent`` is where its command lies, once the broker has said so.

    ``joined``: the call had a ledger before its command was sent.
    """

    command: Command
    waiter: asyncio.Future[Answer]
    sent: Position | None = None
    joined: bool = False


class _Clock:
    """Has the log asked for a call's result at its times, and ends the call as unknown shortly after its deadline.

    One timer, and no task until the first is due: most calls are answered long before.
    """

    def __init__(self, asked: _Asked, look_up: Callable[[], asyncio.Task[Any]]) -> None:
        self._asked = asked
        self._look_up = look_up
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._shares = iter(_LOOK_UPS)
        self._timer = self._next()

    def _next(self) -> asyncio.TimerHandle:
        share = next(self._shares, None)
        if share is None:  # the last look is under way
            return self._loop.call_later(_LAST_LOOK, self._end)
        return self._loop.call_at(self._begun + share * self._asked.command.policy.timeout, self._due, share)

    def _due(self, share: float) -> None:
        looking = self._look_up()  # beside: a hanging broker delays no deadline
        if share == _LOOK_UPS[-1]:
            looking.add_done_callback(self._end)
        self._timer = self._next()

    def _end(self, _looked: object = None) -> None:
        _settle(self._asked.waiter, Answer(kind="unknown", reason="deadline"))

    def stop(self) -> None:
        self._timer.cancel()


class Calls:
    """The calls under way over one connection. ``listeners`` hear every reply of their call, progress included."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.reply_to = ""
        self.listeners: dict[str, Callable[[Event], None]] = {}
        self._asked: dict[str, list[_Asked]] = {}  # several of one id are retries with one key
        self._closing = False

    async def listen(self) -> None:
        """Hear replies and reconnects; once, however often connecting is tried."""
        if not self.reply_to:
            self.reply_to = await self._runtime.bus.listen(self._runtime.instance, self.receive)
            self._runtime.bus.on_reconnect(self.look_up_all)

    async def close(self) -> None:
        """Every call ends in a terminal, and "cancelled" is none: nobody here will hear how these end."""
        self._closing = True
        for asked in self._under_way():
            _settle(asked.waiter, Answer(kind="unknown", reason="closed"))
        while self._asked:  # noqa: ASYNC110 - until each has told its caller
            await asyncio.sleep(0)

    def while_lent(
        self, wait: Callable[[Command], Coroutine[Any, Any, Answer]], command: Command
    ) -> Coroutine[Any, Any, Answer]:
        """``wait``, with the slot of the handler that makes this call lent to others; elsewhere as it is."""
        slot = current_slot()
        if slot is None or slot.loop is not self._runtime.thread.loop:
            return wait(command)
        return self._while_lent(slot, wait, command)

    async def _while_lent(
        self, slot: Slot, wait: Callable[[Command], Coroutine[Any, Any, Answer]], command: Command
    ) -> Answer:
        slot.lend()
        try:
            answer = await wait(command)
        except asyncio.CancelledError:
            slot.resume()
            raise
        except BaseException:
            await slot.take_back()
            raise
        try:
            await slot.take_back()
        except asyncio.CancelledError:
            if not self._closing:
                self._runtime.spawn(self.refuse_abandoned(command, answer))
            raise
        return answer

    async def ask(self, command: Command) -> Answer:
        """Send a command and wait for its terminal: a reply, or the log, which is the truth."""
        if self._closing:
            return Answer(kind="not-executed", reason="closed")
        if command.guarded and not self._runtime.sure_of_time:
            dated = await self._dated(command)
            if dated is None:
                return await self._once(command, Answer(kind="not-executed", reason="clock"))
            command = dated
        asked = self._remember(command)
        sending = asyncio.create_task(self._send_and_poll(asked))
        clock = _Clock(asked, lambda: self._runtime.spawn(self._look_up(asked)))
        try:
            answer = await asked.waiter
            if answer.kind == "unknown" and command.guarded and answer.reason == "deadline":
                answer = await self._claim_late(asked, answer)
            return await self._once(command, answer)
        except asyncio.CancelledError:
            if not self._closing:
                self._runtime.spawn(self._give_up(asked))
            raise
        finally:
            clock.stop()
            sending.cancel()
            self._forget(asked)

    async def _give_up(self, asked: _Asked) -> None:
        """Nobody waits for the call any more: keep it from starting, or tell the worker that runs it; fail-open.

        A key from outside stands for one execution, whoever waits for it: the next caller with it finds its result.
        """
        command = asked.command
        if command.keyed and not command.seam.streams:
            return
        report.count("given-up", seam=command.seam.name)
        if command.guarded:
            gone = Answer(kind="unknown", reason="cancelled")
            if (await self._claim_late(asked, gone, reason="cancelled", runs=False)).kind == "not-executed":
                return
        self.broadcast_cancel(command)

    async def refuse_abandoned(self, command: Command, answer: Answer) -> None:
        """The call is ours and its caller was cancelled before it heard so: say that it never runs."""
        if answer.claim is not None:
            try:
                await self.log_refusal(command, answer.claim, reason="cancelled")
            except (BusError, TimeoutError) as error:  # it ends as unknown, then
                report.count("claim-given-up", seam=command.seam.name, reason=type(error).__name__)

    async def send(self, command: Command) -> Answer | None:
        """Send a command and return when it is durable; an answer only when it was not sent, or known already."""
        if command.guarded and not self._runtime.sure_of_time and await self._dated(command) is None:
            return await self._once(command, Answer(kind="not-executed", reason="clock"))
        asked = _Asked(command, asyncio.get_running_loop().create_future())
        await self._send(asked)
        return await self._once(command, asked.waiter.result()) if asked.waiter.done() else None

    async def _dated(self, command: Command) -> Command | None:
        """The command with its deadline by a time that we are sure of; ``None`` when the broker's is not to be had."""
        if not await self._runtime.knows_time(command.seam.name):
            return None
        return replace(command, deadline=self._runtime.deadline(command.policy.timeout))

    def _remember(self, command: Command) -> _Asked:
        asked = _Asked(command, asyncio.get_running_loop().create_future())
        self._asked.setdefault(command.callid, []).append(asked)
        return asked

    def _forget(self, asked: _Asked) -> None:
        same = self._asked[asked.command.callid]
        same.remove(asked)
        if not same:
            del self._asked[asked.command.callid]

    def _under_way(self, callid: str | None = None) -> list[_Asked]:
        """Those that still wait, of one call or all."""
        found = self._asked.values() if callid is None else [self._asked.get(callid, [])]
        return [asked for same in found for asked in same if not asked.waiter.done()]

    async def _send_and_poll(self, asked: _Asked) -> None:
        """Send; when an earlier call of this key is under way its owner replies to others, so ask the log for it."""
        await self._send(asked)
        if asked.joined:
            await self._poll(asked)

    async def _poll(self, asked: _Asked) -> None:
        """Ask the log ever more rarely until there is a result; whoever waits has the deadline."""
        polls = 0
        while not asked.waiter.done():
            await self._look_up(asked)
            await asyncio.wait({asked.waiter}, timeout=_JOINED[min(polls, len(_JOINED) - 1)])
            polls += 1

    async def _send(self, asked: _Asked) -> None:
        """Publish until it is durable or provably not sent; ends the call in the latter case."""
        command = asked.command
        watch = self._watch(command) if watchers.all else None
        failure: BaseException | None = None
        try:
            event = await self._event(command)
            if watch is not None and (carried := watch.context()):
                event = event.with_extensions(**carried)
            if command.guarded:
                await self._append_command(asked, event)
            else:
                await self._publish_command(command, event)
        except CrossfadeError as error:
            failure = error
            _settle(asked.waiter, Answer(kind="not-executed", reason=type(error).__name__))
            report.count("not-sent", seam=command.seam.name, reason=type(error).__name__)
        except Exception as error:
            failure = error
            _log.exception("seam %s: a command could not be sent", command.seam.name)
            _settle(asked.waiter, Answer(kind="unknown", reason="internal"))
        finally:
            if watch is not None:
                watch.end(failure)

    def _watch(self, command: Command) -> Watch | None:
        """Tell the watchers that a command is about to be sent."""
        if not command.detached:
            sent(command.seam.name, command.callid)
        return begin(
            Step(
                kind="send",
                seam=command.seam.name,
                domain=command.seam.domain,
                bus=self._runtime.scheme,
                address=self._runtime.subjects.commands(command.seam.domain, command.seam.name),
                callid=command.callid,
                size=len(command.data),
                correlation=command.correlation,
            )
        )

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

    async def _append_command(self, asked: _Asked, event: Event) -> None:
        """Send under the condition that the call has no ledger yet, so that a late copy cannot follow a claim.

        Once one try is in doubt, or met a ledger, no later refusal proves that nothing was sent.
        """
        command, doubt = asked.command, False
        place = self.place(command)
        while not (doubt and self._runtime.bus.now() > command.deadline):
            try:
                asked.sent = await self._runtime.bus.append(place.invoke, event, last=place.everything, at=None)
            except BusAmbiguousError:
                doubt = True
                report.count("publish-ambiguous", seam=command.seam.name)
                await asyncio.sleep(_DOUBT)
            except WrongPositionError:
                doubt = True
                if await self._joined(asked):
                    asked.joined = True
                    return
            except BusError:
                if not doubt:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return
        _settle(asked.waiter, Answer(kind="unknown", reason="deadline"))

    async def _joined(self, asked: _Asked) -> bool:
        """The call has a ledger: our own earlier copy, or an earlier call of this key, whose result is ours.

        ``False``, after a pause: it could not be read now.
        """
        command, place = asked.command, self.place(asked.command)
        try:
            arguments = await self._arguments(asked, place)
            stored = await find_terminal(self._runtime.bus, place)
            if arguments not in ("", fingerprint(command.data, domain=command.seam.domain)):
                _settle(asked.waiter, Answer(kind="not-executed", reason="key-reused"))
            elif stored is not None:
                _settle(asked.waiter, await self.read_result(stored.event))
        except (BusAmbiguousError, BusUnavailableError) as error:
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)
            await asyncio.sleep(0.1)
            return False
        except (BusError, MalformedEventError) as error:  # it is there and cannot be read: anything may have happened
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)
            _settle(asked.waiter, Answer(kind="unknown", reason=type(error).__name__))
        return True

    async def _arguments(self, asked: _Asked, place: CallPlace) -> str:
        """The fingerprint of the arguments that the ledger at ``place`` is about; empty when it does not say."""
        command, earlier = asked.command, await self._runtime.bus.last(place.invoke)
        if earlier is not None:
            asked.sent = earlier.position
            return fingerprint(await load_data(self._runtime.bus, earlier.event), domain=command.seam.domain)
        claim = await self._runtime.bus.last(place.own)
        return ClaimRecord.read(claim.event).arguments if claim is not None else ""

    async def _event(self, command: Command) -> Event:
        data: bytes | None = command.data
        attributes = {
            **extensions(command.correlation),
            "seam": command.seam.name,
            "callid": command.callid,
            "path": "bus",
            "policyrev": str(command.policy.revision),
            "expirytime": command.deadline.isoformat(),
            "partitionkey": command.partition or command.correlation.run,
            "replyto": self.reply_to,
        }
        pins = self._runtime.pins.to_text(command.correlation.run)
        if pins:
            attributes["pins"] = pins
        if command.guarded:
            attributes["guarded"] = "1"
        elif command.detached:
            attributes["cancellable"] = "1"
        if command.detached or command.seam.domain == "agent":
            attributes["task"] = "1"
        if command.sealed:
            attributes["sealed"] = "1"
        if command.depth:
            attributes["depth"] = str(command.depth)
        if len(command.data) > CLAIM_CHECK:
            attributes["dataref"] = format_dataref(await self._runtime.bus.put_object(command.data))
            data = None
        return Event(
            type=command_type(command.seam.domain),
            source=f"urn:crossfade:{self._runtime.instance}",
            id=command.callid,
            subject=command.seam.name,
            extensions=attributes,
            data=data,
        )

    async def _look_up(self, asked: _Asked) -> None:
        """Ask the log for the result; what it says settles the call, a failure to ask is counted."""
        command = asked.command
        try:
            async with asyncio.timeout(2):
                stored = await find_terminal(self._runtime.bus, self.place(command))
                if stored is not None:
                    report.count("looked-up", seam=command.seam.name)
                    _settle(asked.waiter, await self.read_result(stored.event))
        except (BusError, MalformedEventError, TimeoutError) as error:
            report.count("look-up-failed", seam=command.seam.name, reason=type(error).__name__)

    async def look_up_all(self) -> None:
        """Ask the log for every call under way: replies may have been missed."""
        await asyncio.gather(*(self._look_up_later(asked) for asked in self._under_way()))

    async def _look_up_later(self, asked: _Asked) -> None:
        await asyncio.sleep(random.random() * _HERD)  # noqa: S311 - spreads load, hides nothing
        if not asked.waiter.done():
            await self._look_up(asked)

    def receive(self, event: Event) -> None:
        listener = self.listeners.get(event.get("callid") or "")
        if listener is not None:
            listener(event)
        if TYPES.get(event.type) == "progress":
            return
        waiting = self._under_way(event.get("callid") or "")
        if not waiting:
            report.count("late", seam=event.get("seam") or "-")
        for asked in waiting:
            self._take_reply(asked, event)

    def _take_reply(self, asked: _Asked, event: Event) -> None:
        if event.data is None and event.get("dataref"):
            self._runtime.spawn(self._fetch(event, asked))  # too large for a reply
            return
        try:
            _settle(asked.waiter, read_answer(event.data))
        except MalformedEventError as error:
            report.count("malformed-reply", seam=event.get("seam") or "-", reason=error.reason)

    async def _fetch(self, event: Event, asked: _Asked) -> None:
        try:
            _settle(asked.waiter, await self.read_result(event))
        except (BusError, MalformedEventError) as error:  # the look-up will try again
            report.count("look-up-failed", seam=event.get("seam") or "-", reason=type(error).__name__)

    async def read_result(self, event: Event) -> Answer:
        """The answer in a result event, fetched from the object store when it is a claim check."""
        return read_answer(await load_data(self._runtime.bus, event))

    async def follow(self, command: Command) -> Answer:
        """Wait for the terminal of a command that was sent already, until its deadline and the grace have passed.

        One that nobody has started by then is claimed, and never runs.
        """
        asked = self._remember(command)
        waiter, end = asked.waiter, command.deadline + GRACE
        polls = 0
        try:
            while not waiter.done() and self._runtime.bus.now() < end:
                await self._look_up(asked)
                await asyncio.wait({waiter}, timeout=_POLLS[min(polls, len(_POLLS) - 1)])
                polls += 1
            if waiter.done():
                return waiter.result()
            unknown = Answer(kind="unknown", reason="deadline")
            return await self._claim_late(asked, unknown) if command.guarded else unknown
        finally:
            self._forget(asked)

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
        stored = await self._runtime.bus.last(self._runtime.subjects.of_call(callid))
        if stored is None or not stored.subject.endswith(".result"):
            return None
        return await self.read_result(stored.event)

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
                shard=command.shard,
            )
        )

    # -- the caller as owner -----------------------------------------------------------------------------------

    async def _claim_late(
        self, asked: _Asked, unknown: Answer, *, reason: str = "claimed-back", runs: bool = True
    ) -> Answer:
        """Take the call away from workers that have not started it, or say that nobody knows."""
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                return await self._claim_unstarted(asked, reason, runs=runs)
        except (TimeoutError, BusError, MalformedEventError) as error:
            report.count("claim-given-up", seam=asked.command.seam.name, reason=type(error).__name__)
            return unknown

    async def _claim_unstarted(self, asked: _Asked, reason: str, *, runs: bool) -> Answer:
        command, place = asked.command, self.place(asked.command)
        if asked.sent is None:  # where it is known, a command that is gone since must not look like one never sent
            sent = await self._runtime.bus.last(place.invoke)
            asked.sent = sent.position if sent else None
        claim = await self.take(command, at=asked.sent)
        if isinstance(claim, Won):
            return await self._owned(command, claim, reason=reason, runs=runs and not command.detached)
        stored = await find_terminal(self._runtime.bus, place)
        if stored is not None:
            return await self.read_result(stored.event)
        return Answer(kind="unknown", reason="started" if isinstance(claim, Held) else "vanished")

    async def _owned(self, command: Command, claim: Won, *, reason: str, runs: bool = True) -> Answer:
        """The call is ours: its body will run, or never, and then the ledger says so."""
        report.count("claimed", seam=command.seam.name, reason="caller")
        answer = Answer(kind="not-executed", reason=reason, claim=claim.position, expires=claim.expires)
        if runs and command.policy.runs_legacy:
            return answer
        await self.log_refusal(command, claim.position, reason=reason)
        return replace(answer, claim=None, expires=None)

    async def own(self, command: Command) -> Answer:
        """Claim a keyed call for its legacy body; the earlier call's answer when its key was used already."""
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                claim = await self.take(command, at=None)
        except (TimeoutError, BusError, MalformedEventError) as error:
            return self._ledger_down(command, error)
        if isinstance(claim, Won):
            return Answer(kind="not-executed", reason="owned", claim=claim.position, expires=claim.expires)
        return await self._once(command, await self._wait_for_other(command))

    def _ledger_down(self, command: Command, error: Exception) -> Answer:
        """Nobody can say whether an earlier call of this key ran."""
        report.count("ledger-down", seam=command.seam.name, reason=type(error).__name__)
        return Answer(kind="unknown", reason="ledger-down")

    async def _once(self, command: Command, answer: Answer) -> Answer:
        """A keyed unsafe call that did not run may run here once, whoever retries it: that takes a claim, too."""
        if not command.once or answer.kind != "not-executed" or answer.claim or answer.reason == "key-reused":
            return answer
        try:
            async with asyncio.timeout(_CLAIM_PATIENCE):
                last = await self._runtime.bus.last(self.place(command).everything)
                refused = last is not None and last.subject.endswith(".result")
                if last is not None and refused:
                    answer = await self.read_result(last.event)
                if refused and (answer.kind != "not-executed" or not command.policy.runs_legacy):
                    return answer
                claim = await self.take(command, at=last.position if last else None)
                if isinstance(claim, Won):
                    return await self._owned(command, claim, reason=answer.reason)
        except (TimeoutError, BusError, MalformedEventError) as error:
            return self._ledger_down(command, error)
        return await self._wait_for_other(command)

    async def _wait_for_other(self, command: Command) -> Answer:
        """Another call of this key is under way, or done: its answer is ours. One that nobody starts, we claim."""
        asked = _Asked(command, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(command.policy.timeout):
                while not await self._joined(asked):
                    continue
                await self._poll(asked)
        except TimeoutError:
            return await self._claim_late(asked, Answer(kind="unknown", reason="deadline"))
        return asked.waiter.result()

    async def take(self, command: Command, *, at: Position | None) -> Claim:
        """Claim ``command`` for its legacy body, or to cancel it."""
        record = self._claim_record(command)
        return await take(self._runtime.bus, self.place(command), record, at=at, nonces=self._runtime.nonces)

    def _claim_record(self, command: Command) -> ClaimRecord:
        return ClaimRecord(
            callid=command.callid,
            seam=command.seam.name,
            role="caller",
            instance=self._runtime.instance,
            attempt=1,
            policyrev=command.policy.revision,
            arguments=fingerprint(command.data, domain=command.seam.domain),
            expires=self._runtime.deadline(command.policy.timeout),  # the body has its time from here
        )

    async def log_own(
        self, command: Command, answer: Answer, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Log how the body ended that ran as the call's owner. A failure leaves the call to become ``unknown``."""
        try:
            if isinstance(error, NoAnswerError):
                data = refusal_payload(error.kind, reason=error.reason)
                await self._log_until_clean(command, data, answer.claim, ended=error.kind)
                return
            data = self._own_payload(command, value, error)
            await self._log_until_clean(command, data, answer.claim, ended="value" if error is None else "error")
        except Exception as failure:  # what the body did is its caller's, whatever becomes of our record
            report.count("result-lost", seam=command.seam.name, reason=type(failure).__name__)
            _log.error(
                "seam %s: call %s ran here and its result could not be logged: %s",
                command.seam.name,
                command.callid,
                type(failure).__name__,
            )

    async def log_refusal(self, command: Command, claim: Position, *, reason: str) -> None:
        """Log that the call, which is ours, never runs. Raises ``BusError``, ``TimeoutError``."""
        data = refusal_payload("not-executed", reason=reason)
        await self._log_until_clean(command, data, claim, ended="cancelled")

    async def _log_until_clean(self, command: Command, data: bytes, claim: Position | None, *, ended: Ended) -> None:
        """Log ``data`` as the call's terminal, fenced by our claim."""
        if claim is None:
            return None
        async with asyncio.timeout(_CLAIM_PATIENCE):
            while True:
                try:
                    event = await self._own_result(command, data, claim, ended)
                    return await log_result(self._runtime.bus, self.place(command), event, claim=claim)
                except (BusAmbiguousError, BusUnavailableError):
                    await asyncio.sleep(0.1)

    async def _own_result(self, command: Command, data: bytes, claim: Position, ended: Ended) -> Event:
        attributes = {
            **extensions(command.correlation),
            "callid": command.callid,
            "seam": command.seam.name,
            "path": "legacy",
        }
        if len(data) > CLAIM_CHECK:
            attributes["dataref"] = format_dataref(await self._runtime.bus.put_object(data))
        return Event(
            type=answer_type(command.seam.domain, ended),
            source=f"urn:crossfade:{self._runtime.instance}",
            id=derived_id(command.callid, "result", claim),
            subject=command.seam.name,
            extensions=attributes,
            data=None if "dataref" in attributes else data,
        )

    def _own_payload(self, command: Command, value: Any, error: BaseException | None) -> bytes:
        if error is not None:
            record = record_error(error, redact=self._runtime.redactor.text)
            return error_payload(record, handler="legacy", handler_ms=0.0)
        try:
            value = self._runtime.seal_answer(command.seam.name, command.callid, value)
            return value_payload(command.seam.codec.encode_result(value), handler="legacy", handler_ms=0.0)
        except CrossfadeError as failure:
            return error_payload(
                record_error(failure, redact=self._runtime.redactor.text), handler="legacy", handler_ms=0.0
            )


def _settle(waiter: asyncio.Future[Answer], answer: Answer) -> None:
    if not waiter.done():
        waiter.set_result(answer)
