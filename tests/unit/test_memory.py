"""The memory bus: what is its own, failures on demand and sharing; what it has in common is in tests/contract."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from crossfade.adapters import memory
from crossfade.adapters.memory._group import Group
from crossfade.adapters.memory._stream import DUPLICATE_WINDOW, Stream
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusFullError,
    BusRefusedError,
    BusUnavailableError,
    ConfigurationError,
    EventTooLargeError,
    ObjectMissingError,
)
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings, ConsumeOptions
from crossfade.shim.subjects import Subjects

SUBJECT = Subjects().fact("webhook.received")


def event(**extensions):
    return Event(type="webhook.received", source="urn:test", extensions=extensions)


@pytest.fixture
def broker():
    return memory.MemoryBroker()


@pytest.fixture
def hooks():
    return Counters()


@pytest.fixture
async def bus(broker, hooks):
    bus = memory.MemoryBus(BusSettings(), hooks, broker=broker)
    await bus.open()
    yield bus
    await bus.close()


# -- finding a broker --


async def test_a_name_is_one_broker():
    """memory://NAME is the same broker wherever it is opened, until it is forgotten; memory:// is private."""
    buses = [memory.open_bus(url, BusSettings(), Counters()) for url in ("memory://a", "memory://a", "memory://")]
    assert buses[0].broker is buses[1].broker is memory.broker("a")
    assert buses[2].broker is not memory.open_bus("memory://", BusSettings(), Counters()).broker
    memory.forget("a")
    memory.forget("a")
    assert memory.broker("a") is not buses[0].broker
    memory.forget("a")


@pytest.mark.parametrize("url", ["nats://a", "memory:a", "memory://a/b", "memory://a?b=1", "memory://a#b", ""])
def test_a_url_that_is_none(url):
    """What cannot be a memory bus is refused, options nobody reads included."""
    with pytest.raises(ConfigurationError):
        memory.open_bus(url, BusSettings(), Counters())


# -- failures on demand --


async def test_a_failure_before_it_happened(broker, bus):
    """fail_next raises the error once and nothing was stored; the next call works."""
    planted = BusUnavailableError("planted")
    broker.fail_next("publish", planted)
    with pytest.raises(BusUnavailableError) as caught:
        await bus.publish(SUBJECT, event())
    assert caught.value is planted
    assert await bus.last(SUBJECT) is None
    await bus.publish(SUBJECT, event())


async def test_a_failure_after_it_happened(broker, bus):
    """With after=True the caller sees the error and the event is there, so the repeat is a duplicate."""
    sent = event()
    broker.fail_next("publish", BusAmbiguousError("planted"), after=True)
    with pytest.raises(BusAmbiguousError):
        await bus.publish(SUBJECT, sent)
    assert (await bus.last(SUBJECT)).event == sent
    assert (await bus.publish(SUBJECT, sent)).duplicate


async def test_failures_add_up(broker, bus):
    """Two planned failures fail the next two calls, in order."""
    broker.fail_next("publish", BusFullError("first"))
    broker.fail_next("publish", BusRefusedError("second"))
    for expected in (BusFullError, BusRefusedError):
        with pytest.raises(expected):
            await bus.publish(SUBJECT, event())
    await bus.publish(SUBJECT, event())


async def test_an_ack_that_was_lost(broker, bus):
    """An ack that never arrived leads to a redelivery, one whose answer got lost does not."""
    options = ConsumeOptions(ack_wait=0.1)
    async with bus.consume("workers", [SUBJECT], options) as deliveries:
        await bus.publish(SUBJECT, event())
        for after, again in ((False, True), (True, False)):
            delivery = await deliveries.next(timeout=2)
            broker.fail_next("ack", BusAmbiguousError("planted"), after=after)
            with pytest.raises(BusAmbiguousError):
                await delivery.ack()
            if again:
                continue
            assert await deliveries.next(timeout=0.2) is None


OPERATIONS = {
    "publish": lambda bus: bus.publish(SUBJECT, event()),
    "last": lambda bus: bus.last(SUBJECT),
    "read": lambda bus: anext(bus.read(SUBJECT)),
    "get": lambda bus: bus.state("b").get("k"),
    "create": lambda bus: bus.state("b").create("k", b""),
    "update": lambda bus: bus.state("b").update("k", b"", revision=1),
    "put": lambda bus: bus.state("b").put("k", b""),
    "delete": lambda bus: bus.state("b").delete("k"),
    "entries": lambda bus: bus.state("b").entries(),
    "watch": lambda bus: anext(bus.state("b").watch()),
    "put_object": lambda bus: bus.put_object(b""),
    "listen": lambda bus: bus.listen("x", print),
    "dead_letters": lambda bus: anext(bus.dead_letters()),
    "reap": lambda bus: bus.reap(),
    "open": lambda bus: bus.open(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_can_fail(broker, bus, operation):
    """Each method of the port raises what was planned for it."""
    planted = BusRefusedError("planted")
    broker.fail_next(operation, planted)
    with pytest.raises(BusRefusedError) as caught:
        await OPERATIONS[operation](bus)
    assert caught.value is planted


async def test_emit_and_reply_can_fail(broker, bus):
    """The methods that do not wait fail on demand, too."""
    for operation, call in (("emit", bus.emit), ("reply", bus.reply)):
        broker.fail_next(operation, BusUnavailableError("planted"))
        with pytest.raises(BusUnavailableError, match="planted"):
            call(SUBJECT, event())


async def test_a_slow_answer_is_ambiguous(broker, bus):
    """A publish whose answer takes longer than its timeout was stored all the same."""
    sent = event()
    broker.delay("publish", 5)
    with pytest.raises(BusAmbiguousError):
        await bus.publish(SUBJECT, sent, timeout=0.05)
    broker.delay("publish", 0)
    assert (await bus.publish(SUBJECT, sent)).duplicate


async def test_a_slow_delivery_is_not_lost(broker, bus):
    """A next that is cancelled while it is slow has taken nothing."""
    await bus.publish(SUBJECT, event())
    broker.delay("next", 5)
    async with bus.consume("workers", [SUBJECT], ConsumeOptions(max_deliver=1)) as deliveries:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deliveries.next(), 0.05)
        broker.delay("next", 0)
        assert (await deliveries.next(timeout=1)).attempt == 1


async def test_replies_can_be_lost_and_late(broker, bus):
    """lose_replies swallows the next ones, delay holds them up."""
    received = asyncio.Queue()
    address = await bus.listen("x", received.put_nowait)
    broker.lose_replies(2)
    sent = [event() for _ in range(3)]
    for reply in sent:
        bus.reply(address, reply)
    assert await asyncio.wait_for(received.get(), 1) == sent[2]
    broker.delay("reply", 0.1)
    started = time.monotonic()
    bus.reply(address, sent[0])
    assert await asyncio.wait_for(received.get(), 1) == sent[0]
    assert time.monotonic() - started >= 0.09


async def test_a_stopped_broker_keeps_what_it_has(broker, bus):
    """stop refuses and pauses, start goes on: state, events and a waiting member."""
    calls = asyncio.Queue()

    async def back():
        calls.put_nowait(bus.connected)

    bus.on_reconnect(back)
    async with bus.consume("workers", [SUBJECT]) as deliveries:
        await bus.publish(SUBJECT, event())
        broker.stop()
        assert not bus.connected
        with pytest.raises(BusUnavailableError):
            await bus.publish(SUBJECT, event())
        assert await deliveries.next(timeout=0.05) is None
        waiting = asyncio.create_task(deliveries.next(timeout=2))
        broker.start()
        broker.start()
        assert (await waiting).attempt == 1
    assert await asyncio.wait_for(calls.get(), 1)
    assert calls.empty()


async def test_a_corrupt_object(broker, bus):
    """Data that changed behind the claim check is missing, not wrong."""
    ref = await bus.put_object(b"data")
    broker.objects[ref.uri] = b"atad"
    with pytest.raises(ObjectMissingError):
        await bus.get_object(ref)


async def test_the_event_limit_can_be_set(broker, bus):
    """max_event_bytes bounds headers and payload together."""
    broker.max_event_bytes = 1000
    with pytest.raises(EventTooLargeError):
        await bus.publish(SUBJECT, event(baggage="v" * 1000))


async def test_discarding_old_is_counted_when_it_was_still_to_come(broker, bus, hooks):
    """An event that was out when its stream discarded it cannot come again, and that is counted."""
    broker.limit("cfe", max_bytes=2000, discard="old")
    async with bus.consume("workers", [SUBJECT], ConsumeOptions(ack_wait=0.05)) as deliveries:
        await bus.publish(SUBJECT, event())
        await deliveries.next(timeout=1)
        for _ in range(20):
            await bus.publish(SUBJECT, event())
        deliveries.want(50)
        await asyncio.sleep(0.06)
        assert (await deliveries.next(timeout=1)).attempt == 1
    assert hooks.get("dropped", reason="discarded") == 1


async def test_what_emit_could_not_store_is_counted(broker, bus, hooks):
    """emit to a full stream loses the event, as on NATS, but the memory bus can tell."""
    broker.limit("cfe", max_bytes=10, discard="new")
    bus.emit(SUBJECT, event())
    assert hooks.get("dropped", reason="full") == 1


# -- sharing it between loops and threads --


def test_a_broker_between_loops():
    """One broker serves buses on several loops in several threads: every event arrives once, nobody sleeps through."""
    name, total, got, lock = "threads", 200, [], threading.Lock()

    async def work():
        bus = memory.open_bus(f"memory://{name}", BusSettings(), Counters())
        await bus.open()
        async with bus.consume("workers", [SUBJECT]) as deliveries:
            while (delivery := await deliveries.next(timeout=20)) is not None:
                await delivery.ack()
                if delivery.stored.event.type == "over":
                    break
                with lock:
                    got.append(delivery.stored.event.id)
        await bus.close()

    async def produce(n=total // 2, **changes):
        bus = memory.open_bus(f"memory://{name}", BusSettings(), Counters())
        await bus.open()
        for _ in range(n):
            await bus.publish(SUBJECT, replace(event(), **changes))
        await bus.close()

    runs = [threading.Thread(target=asyncio.run, args=(step(),)) for step in (produce, produce, work, work)]
    for run in runs:
        run.start()
    for run in runs[:2]:
        run.join(20)
    asyncio.run(produce(2, type="over"))  # in order of storage: one for each that works
    for run in runs[2:]:
        run.join(20)
    memory.forget(name)
    assert len(got) == len(set(got)) == total


def test_a_loop_that_was_closed_under_its_bus(broker):
    """A bus whose loop ended without close harms nobody else, and is counted."""
    hooks = Counters()
    asyncio.run(memory.MemoryBus(BusSettings(), hooks, broker=broker).open())

    async def other():
        bus = memory.MemoryBus(BusSettings(), Counters(), broker=broker)
        await bus.open()
        await bus.publish(SUBJECT, event())
        await bus.close()

    asyncio.run(other())
    assert hooks.get("dropped", reason="loop-closed") == 1
    assert broker.clients == []


# -- laws --


def test_ids_are_forgotten_after_their_window():
    """A repeat within the window is a duplicate and does not extend it; after the window it is a new event."""
    stream, start = Stream("s"), datetime(2026, 1, 1, tzinfo=UTC)

    def append(after):
        return stream.append("s.a", {}, b"", message_id="1", now=start + after)

    assert append(timedelta()) == (1, False)
    assert append(DUPLICATE_WINDOW) == (1, True)
    assert append(DUPLICATE_WINDOW + timedelta(seconds=1)) == (2, False)


class Deliveries(RuleBasedStateMachine):
    """Random interleavings: at each moment every event is new, under way, acknowledged once, or given up once."""

    held = Bundle("held")
    OPTIONS = ConsumeOptions(max_in_flight=3, ack_wait=10.0, max_deliver=3)

    def __init__(self):
        super().__init__()
        self.stream = Stream("s")
        self.group = Group(self.stream, ["s.>"], self.OPTIONS)
        self.now = 0.0
        self.acked, self.dead = [], []
        self.attempts = {}
        self.firsts = []
        self.holders = {}  # sequence -> (attempt, due)
        self.delayed = {}  # sequence -> not before

    @rule()
    def publish(self):
        n = self.stream.last_sequence + 1
        self.stream.append("s.a", {}, b"", message_id=str(n), now=datetime(2026, 1, 1, tzinfo=UTC))

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 10.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(target=held)
    def take(self):
        taken = self.group.take(self.now)
        if taken is None:
            return None
        sequence, attempt = taken[0].sequence, taken[1]
        assert sequence not in self.acked + self.dead
        assert attempt == self.attempts.get(sequence, 0) + 1 <= self.OPTIONS.max_deliver
        assert self.now >= self.holders.get(sequence, (0, 0.0))[1], "handed out while another holds it"
        assert self.now >= self.delayed.pop(sequence, 0.0), "came before its delay was over"
        if attempt == 1:
            self.firsts.append(sequence)
        self.attempts[sequence] = attempt
        self.holders[sequence] = attempt, self.now + self.OPTIONS.ack_wait
        return sequence, attempt

    @rule(delivery=held)
    def ack(self, delivery):
        if self._holds(delivery):
            self.group.end(delivery[0])
            self.holders.pop(delivery[0])
            self.acked.append(delivery[0])

    @rule(delivery=held)
    def extend(self, delivery):
        if self._holds(delivery):
            self.group.extend(delivery[0], self.now)
            self.holders[delivery[0]] = delivery[1], self.now + self.OPTIONS.ack_wait

    @rule(delivery=held, delay=st.sampled_from([0.0, 2.0, 20.0]))
    def retry(self, delivery, delay):
        if self._holds(delivery):
            self.group.give_back(delivery[0], due=self.now + delay)
            self.holders.pop(delivery[0])
            self.delayed[delivery[0]] = self.now + delay

    @rule()
    def reap(self):
        for message, attempts in self.group.give_up(self.now):
            assert attempts == self.OPTIONS.max_deliver
            self.dead.append(message.sequence)

    def _holds(self, delivery):
        if delivery is None:
            return False
        sequence, attempt = delivery
        expected = sequence in self.holders and self.holders[sequence][0] == attempt
        expected = expected and self.now < self.holders[sequence][1]
        assert self.group.holds(sequence, attempt, self.now) == expected
        return expected

    @invariant()
    def ended_once(self):
        assert len(self.acked) == len(set(self.acked))
        assert len(self.dead) == len(set(self.dead))
        assert not set(self.acked) & set(self.dead)

    @invariant()
    def first_deliveries_are_in_order(self):
        assert self.firsts == sorted(set(self.firsts))

    @invariant()
    def the_bound_holds(self):
        assert sum(due > self.now for _, due in self.holders.values()) <= self.OPTIONS.max_in_flight

    def teardown(self):
        """Given time and a worker that acknowledges, everything ends: nothing is lost."""
        for _ in range(4):
            self.now += 100
            while (taken := self.group.take(self.now)) is not None:
                self.group.end(taken[0].sequence)
                self.acked.append(taken[0].sequence)
            self.reap()
        assert sorted(self.acked + self.dead) == list(range(1, self.stream.last_sequence + 1))


TestDeliveries = Deliveries.TestCase
