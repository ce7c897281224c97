"""Consuming: a member of a group takes events by proposals to the groups' journal, one word per act.

A member proposes only when somebody waits for an event and it has room. Of several members with room the one whose
turn it is by the event's offset proposes at once, the others a little later, so that an event is rarely asked for
twice; who is not there any more is passed over after a few milliseconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusRefusedError,
    BusUnavailableError,
    MalformedEventError,
)
from crossfade.shim.events import new_id
from crossfade.shim.subjects import check_group, matches

from ._deadletters import EXHAUSTED
from ._fold import SUBJECT
from ._log import BEGINNING, END, wait
from ._logs import milliseconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from crossfade.adapters._clock import BrokerClock
    from crossfade.shim.ports import ConsumeOptions, Delivery, Stored

    from ._answers import Answers
    from ._cluster import Cluster
    from ._deadletters import Graves
    from ._groups import Group, Groups
    from ._journal import Journal
    from ._logs import EventLog
    from ._read import Reading
    from ._wire import Record

_CONFIRM: Final = 5.0  # seconds for the confirmation of a word
_TURN: Final = 0.005  # seconds by which members that have room ask one after the other
_EARLY: Final = 0.01  # seconds before asking again for what was not due yet by the broker's clock
_PASS: Final = 1000  # events nobody wants, after which the group's cursor is moved over them
_BURYING: Final = 16  # events that nobody can read, on their way to dead letters at once
_AHEAD: Final = 64  # events looked ahead


@dataclass(frozen=True, kw_only=True, slots=True)
class Consuming:
    """What members need of their bus."""

    cluster: Cluster
    journal: Journal
    groups: Groups
    graves: Graves
    answers: Answers
    reading: Reading
    clock: BrokerClock


class _Delivery:
    """See ``Delivery``."""

    def __init__(self, member: Member, record: Record, stored: Stored, attempt: int, lease_from: float) -> None:
        self.record = record
        self._member = member
        self._stored = stored
        self._attempt = attempt
        self.deadline = lease_from + member.options.ack_wait
        self._state: Literal["held", "ended", "lost"] = "held"

    @property
    def stored(self) -> Stored:
        """See ``Delivery.stored``."""
        return self._stored

    @property
    def attempt(self) -> int:
        """See ``Delivery.attempt``."""
        return self._attempt

    @property
    def held(self) -> bool:
        """Whether it is still ours: not ended, and nobody else may have the event by now."""
        return self._state == "held" and self._member.time() < self.deadline

    async def ack(self) -> None:
        """See ``Delivery.ack``."""
        self._own("ack")
        try:
            await self._tell("ack")
        finally:
            self._end("ended")

    async def retry(self, delay: float, *, reason: str) -> None:
        """See ``Delivery.retry``; the last attempt goes to dead letters at once."""
        if self._attempt >= self._member.options.max_deliver:
            await self.reject(EXHAUSTED, detail=reason)
            return
        self._own("retry")
        self._member.hooks.count("retried", reason=reason)
        try:
            await self._tell("retry", delay=max(0, int(delay * 1000)))
        finally:
            self._end("ended")

    async def reject(self, reason: str, *, detail: str = "") -> None:
        """See ``Delivery.reject``; when dead letters cannot be stored, the delivery is still yours."""
        self._own("reject")
        await self._member.bury(self.record, self._attempt, reason, detail)
        try:
            await self._tell("ack")
        finally:
            self._end("ended")

    async def extend(self) -> None:
        """See ``Delivery.extend``."""
        self._own("extend")
        sent = self._member.time()
        await self._tell("extend")
        self.deadline = sent + self._member.options.ack_wait

    def lose(self) -> None:
        """Give it up without a word: the event is delivered again after ``ack_wait``."""
        self._end("lost")

    def _end(self, state: Literal["ended", "lost"]) -> None:
        if self._state == "held":
            self._state = state
            self._member.released(self)

    def _own(self, act: str) -> None:
        """Refuse a word about a delivery that is no longer ours."""
        if self.held:
            return
        if self._state == "ended":
            raise BusRefusedError(f"{act}: this delivery has already ended")
        self._end("lost")
        raise self._late(act)

    def _late(self, act: str) -> BusAmbiguousError:
        self._member.hooks.count("late", reason=act)
        return BusAmbiguousError(
            f"{act}: ack_wait has passed or its member has left, the event may be in other hands: expect a redelivery"
        )

    async def _tell(self, act: str, **more: int) -> None:
        """Say it until the answer is clean; a second time it changes nothing more."""
        member = self._member
        until = min(self.deadline, member.time() + _CONFIRM)
        repeated = False
        while True:
            try:
                done = await member.say(act, self.record.offset, self._attempt, timeout=until - member.time(), **more)
            except (BusUnavailableError, BusAmbiguousError) as error:
                member.cluster.check_open()
                repeated = True
                left = until - member.time()
                if left <= 0 or not await member.cluster.wait_connected(left):
                    raise BusAmbiguousError(f"no confirmation: expect a redelivery ({error})") from error
                await asyncio.sleep(_EARLY)
            else:
                if not done and not repeated:
                    self._end("lost")
                    raise self._late(act)
                return


class Member:
    """One member of a group; see ``Deliveries``."""

    def __init__(
        self, consuming: Consuming, log: EventLog, group: str, filters: Sequence[str], options: ConsumeOptions
    ) -> None:
        self.cluster = consuming.cluster
        self.hooks = consuming.cluster.hooks
        self.options = options
        self.time = asyncio.get_running_loop().time
        self._consuming = consuming
        self._log = log
        self._group_name = group
        self._key = f"{log.topic}|{group}"
        self._name = new_id()
        self._filters = list(filters)
        self._ready: deque[_Delivery] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._out: set[_Delivery] = set()  # held by us, handed out or not yet
        self._lapse = math.inf  # none of them lapses before
        self._burying = 0
        self._want = 1
        self._woken = asyncio.Event()
        self._heard = 0  # words of our group
        self._ahead: deque[Record] = deque()
        self._at = 0  # how far we have looked
        self._old: AsyncIterator[Record] | None = None
        self._looked_for: Sequence[str] = ()
        self._seen: tuple[int, float] = (-1, 0.0)  # the next event, and since when we know of it
        self._task: asyncio.Task[None] | None = None

    # -- Deliveries --------------------------------------------------------------------------------------------

    async def next(self, *, timeout: float | None = None) -> Delivery | None:
        """See ``Deliveries.next``."""
        deadline = None if timeout is None else self.time() + timeout
        while (delivery := self._take()) is None:
            self.cluster.check_open()
            if deadline is not None and self.time() >= deadline:
                return None
            await self._arrival(deadline)
        return delivery

    def _take(self) -> _Delivery | None:
        """One that is still ours; taken in the step that returns it, so a cancelled ``next`` loses nothing."""
        while self._ready:
            delivery = self._ready.popleft()
            if delivery.held:
                return delivery
            self.hooks.count("late", reason="buffered")
            delivery.lose()
        return None

    async def _arrival(self, deadline: float | None) -> None:
        """Wait for a delivery, the deadline, or the end of the bus; each delivery wakes one who waits."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        self._woken.set()
        timer = None if deadline is None else loop.call_at(deadline, _release, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # it was our turn: let another take it
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def want(self, n: int) -> None:
        """See ``Deliveries.want``."""
        self._want = n
        self._woken.set()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _on_words(self) -> None:
        heard = self._consuming.groups.words[self._key]
        if heard != self._heard:  # else of another group
            self._heard = heard
            self._woken.set()

    def _wake_all(self) -> None:
        self._woken.set()
        for waiter in self._waiters:
            _release(waiter)

    # -- life cycle --------------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Enter the group, making it at its first member."""
        self.cluster.check_open()
        await self._log.start()
        start = await self._log.partition.offset(BEGINNING if self.options.start == "first" else END)
        operation = {
            "g": self._key,
            "m": self._name,
            "do": "join",
            "filters": self._filters,
            "ack_wait": int(self.options.ack_wait * 1000),
            "max_in_flight": self.options.max_in_flight,
            "max_deliver": self.options.max_deliver,
            "start": start,
            "room": 0,
        }
        await self._consuming.journal.propose(operation)
        self._log.listeners.add(self._woken.set)
        self._consuming.journal.log.listeners.add(self._on_words)
        self.cluster.listeners.add(self._wake_all)
        self._task = self.cluster.spawn(self._run())

    async def leave(self) -> None:
        """Leave; what was not ended is given back at once."""
        self._log.listeners.discard(self._woken.set)
        self._consuming.journal.log.listeners.discard(self._on_words)
        self.cluster.listeners.discard(self._wake_all)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for delivery in list(self._out):
            delivery.lose()
        try:
            await self._consuming.journal.propose({"g": self._key, "m": self._name, "do": "leave"}, timeout=1.0)
        except BusError:
            self.hooks.count("retried", reason="left-disconnected")  # after ack_wait, then

    # -- taking ------------------------------------------------------------------------------------------------

    @property
    def _group(self) -> Group:
        return self._consuming.groups.all[self._key]

    def _free(self) -> int:
        return self._want - len(self._out) if self._burying < _BURYING else 0

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                pause = await self._step()
            except BusError:
                self.cluster.check_open()
                self.hooks.count("retried", reason="take")
                await self.cluster.wait_connected(1.0)
                pause = _EARLY
            if pause is None or pause > 0:
                await wait(self._woken, pause)

    async def _step(self) -> float | None:
        """Take what there is; seconds until something may be due, ``None`` when only news can change anything."""
        lapsed = self._release_lapsed()
        waiting = sum(not waiter.done() for waiter in self._waiters) > len(self._ready)
        if not waiting or self._free() <= 0:
            return lapsed
        now = milliseconds(self._consuming.clock.now())
        due = self._group.ready(now)[: self._free()]
        new = await self._look(self._free() - len(due))
        wanted = [*due, *((record.offset, 1) for record in new)]
        if not wanted:
            return self._until_due(now, lapsed)
        turn = self._turn(wanted[0][0], now)
        if turn > 0:
            return turn
        taken = await self._propose(wanted)
        return 0.0 if taken else _EARLY

    def _until_due(self, now: int, lapsed: float | None) -> float | None:
        wakes = self._group.wakes_at()
        due = None if wakes is None else max(0.001, (wakes - now) / 1000)
        return min((pause for pause in (due, lapsed) if pause is not None), default=None)

    def _release_lapsed(self) -> float | None:
        """Free the places of deliveries that lapsed; seconds until the next one does."""
        if self.time() >= self._lapse:
            for delivery in [each for each in self._out if not each.held]:
                if delivery not in self._ready:
                    delivery.lose()
            self._lapse = min((each.deadline for each in self._out), default=math.inf)
        return None if self._lapse == math.inf else max(0.001, self._lapse - self.time())

    def _turn(self, offset: int, now: int) -> float:
        """Seconds until it is our turn to ask for the event at ``offset``."""
        if self._seen[0] != offset:
            self._seen = offset, self.time()
        names = self._group.waiting(now)
        if self._name not in names:
            names = sorted([*names, self._name])
        behind = (names.index(self._name) - offset) % len(names)
        return self._seen[1] + behind * _TURN - self.time() if behind else 0.0

    async def _propose(self, wanted: list[tuple[int, int]]) -> bool:
        sent = self.time()
        taken = await self._consuming.journal.propose(
            {
                "g": self._key,
                "m": self._name,
                "do": "take",
                "events": wanted,
                "room": max(0, self._free() - len(wanted)),
            }
        )
        for offset, attempt in taken:
            await self._receive(offset, attempt, sent)
        return bool(taken)

    async def _receive(self, offset: int, attempt: int, sent: float) -> None:
        """Keep a delivery for ``next``."""
        record = await self._log.record(offset)
        if record is None:
            self.hooks.count("dropped", reason="discarded")
            await self.say("ack", offset, attempt, timeout=_CONFIRM)
            return
        try:
            stored = self._log.stored(record)
        except MalformedEventError as error:
            self._burying += 1
            self.cluster.spawn(self._reject_malformed(record, attempt, error))
            return
        delivery = _Delivery(self, record, stored, attempt, sent)
        self._out.add(delivery)
        self._lapse = min(self._lapse, delivery.deadline)
        self._consuming.answers.begin(record)
        self._ready.append(delivery)
        self._wake()

    async def _reject_malformed(self, record: Record, attempt: int, error: MalformedEventError) -> None:
        try:
            await self.bury(record, attempt, error.reason, str(error))
            await self.say("ack", record.offset, attempt, timeout=_CONFIRM)
        except BusError:
            # It comes again after ack_wait; a second dead letter of it is a duplicate.
            self.hooks.count("retried", reason="dead-letter")
        finally:
            self._burying -= 1
            self._woken.set()

    # -- looking for events ------------------------------------------------------------------------------------

    async def _look(self, room: int) -> list[Record]:
        """The next new events, as many as may be taken."""
        group = self._group
        room = min(room, group.max_in_flight - len(group.pending))
        if group.filters != self._looked_for:
            self._looked_for, self._at, self._old = group.filters, group.cursor, None
            self._ahead.clear()
        while self._ahead and self._ahead[0].offset < group.cursor:
            self._ahead.popleft()
        self._at = max(self._at, group.cursor)
        while len(self._ahead) < min(room, _AHEAD) and await self._look_on():
            pass
        if not self._ahead and self._at - group.cursor > _PASS:
            operation = {"g": self._key, "m": self._name, "do": "pass", "to": self._at}
            await self._consuming.journal.propose(operation)
        return [self._ahead[number] for number in range(min(max(0, room), len(self._ahead)))]

    async def _look_on(self) -> bool:
        """Look at some more events; whether there were any."""
        if self._at < self._log.start_offset:
            await self._log.reach_back()
        if self._at < self._log.start_offset:
            return await self._look_back()
        records, following = await self._log.records(self._at)
        self._keep(self._log.visible(records))
        looked, self._at = following > self._at, following
        return looked

    async def _look_back(self) -> bool:
        """The same, for what lies before the point from which the log is folded."""
        if self._old is None:
            self._old = self._consuming.reading.history(self._log, self._at, self._log.start_offset)
        async for record in self._old:
            self._keep([record])
            self._at = record.offset + 1
            return True
        self._old, self._at = None, self._log.start_offset
        return True

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            subject = record.header(SUBJECT) or ""
            if any(matches(pattern, subject) for pattern in self._looked_for):
                self._ahead.append(record)

    # -- words -------------------------------------------------------------------------------------------------

    async def say(self, act: str, offset: int, attempt: int, *, timeout: float, **more: int) -> bool:
        """Say something of an attempt; whether it was still the last one."""
        operation = {
            "g": self._key,
            "m": self._name,
            "do": act,
            "at": offset,
            "attempt": attempt,
            "room": max(0, self._free() + (act != "extend")),
            **more,
        }
        return bool(await self._consuming.journal.propose(operation, timeout=max(0.001, timeout)))

    async def bury(self, record: Record, attempt: int, reason: str, detail: str) -> None:
        """Make the event's dead letter durable."""
        await self._consuming.graves.bury(
            record, topic=self._log.topic, group=self._group_name, reason=reason, detail=detail, attempts=attempt
        )

    def released(self, delivery: _Delivery) -> None:
        """A delivery ended; its place may be used."""
        self._out.discard(delivery)
        self._consuming.answers.end(delivery.record)
        self._woken.set()


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


@asynccontextmanager
async def membership(
    consuming: Consuming, log: EventLog, group: str, filters: Sequence[str], options: ConsumeOptions
) -> AsyncGenerator[Member]:
    """Be a member of ``group`` for the time of the context."""
    check_group(group)
    member = Member(consuming, log, group, filters, options)
    await member.join()
    try:
        yield member
    finally:
        await member.leave()
