"""Who starts a call when several could at the same moment, and what a claim's lost answer changes."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from crossfade.shim import claims
from crossfade.shim.claims import CallPlace, ClaimRecord, Nonces, Vanished, Won, take
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusUnavailableError,
    CallCancelledError,
    NotExecutedError,
    ObjectMissingError,
    OutcomeUnknownError,
    WrongPositionError,
)
from crossfade.shim.events import Event
from crossfade.shim.outcomes import type_name
from crossfade.shim.policies import LivePolicy
from integration.ledger.world import SOON, Journal, until

RACES = 320


def losing(append, losses, *, kind=".own"):
    """An append that does happen and whose answer gets lost, ``losses`` times."""
    left = [losses]

    async def lossy(subject, event, **options):
        position = await append(subject, event, **options)
        if subject.endswith(kind) and left[0]:
            left[0] -= 1
            raise BusAmbiguousError("the answer was lost")
        return position

    return lossy


def test_hundreds_of_races(world, note, brokers):
    """A caller whose time is up against two workers that claim at that moment: one start, one terminal, each time."""
    # From less than a claim takes to more, on one server and on three.
    callers = [world.side(timeout=0.01 * 2.2**step) for step in range(8)]
    for _ in range(2):
        world.side().serve(concurrency=32)
    caller, began = callers[0], time.monotonic()
    calls = [world.pool.submit(callers[number % 8].call, f"r{number}") for number in range(RACES)]
    outcomes = Counter()
    for call in calls:
        try:
            outcomes["value" if call.result(SOON).endswith("done") else "wrong"] += 1
        except OutcomeUnknownError:
            outcomes["unknown"] += 1
    starts = Counter(world.journal.lines)
    places = {CallPlace.of(found.subject).stem for found in world.log(caller)}
    until(lambda: ended(world, caller) == places)
    roles = Counter(record.role for record in world.claims(caller))
    took = time.monotonic() - began
    note(
        f"races on {type(brokers).__name__}: {RACES} in {took:.1f} s, told {dict(outcomes)}, claimed by {dict(roles)}, "
        f"{sum(n > 1 for n in starts.values())} double starts, 0 without terminal"
    )
    assert [name for name, n in starts.items() if n > 1] == []
    assert outcomes["wrong"] == 0
    assert outcomes.total() == RACES
    assert roles["caller"] > RACES / 20, "the callers never won: no race"
    assert roles["worker"] > RACES / 20, "the workers never won: no race"


def ended(world, side):
    """The ledgers that have a terminal."""
    return {CallPlace.of(found.subject).stem for found in world.log(side) if found.subject.endswith(".result")}


def test_the_worker_is_first(world):
    """A worker claimed and works; the caller's time is up: it is told "unknown", and nothing starts a second time."""
    caller = world.side(timeout=2)
    worker = world.side(slow(world.journal, 4))
    worker.serve()
    with pytest.raises(OutcomeUnknownError, match="started") as caught:
        caller.call("a")
    until(lambda: "value" in [answer.kind for answer in world.terminals(caller)])
    assert caller.run(caller.runtime.calls.outcome(caught.value.callid)).kind == "value"
    assert world.journal.lines == ["a"]


def slow(journal: Journal, seconds: float):
    def body(arg: str) -> str:
        journal.start(arg)
        time.sleep(seconds)
        return f"{arg} done"

    return body


def test_the_caller_is_first(world, counts):
    """No worker serves: the caller claims at its deadline and runs; a worker that comes later leaves it alone."""
    caller = world.side(timeout=0.3)
    assert caller.call("a") == "a done"
    late = world.side().serve()
    until(lambda: counts.get("redelivered", seam=world.seam) == 1)
    assert world.journal.lines == ["a"]
    assert world.kinds(late) == ["invoke", "own", "result"]


@pytest.mark.parametrize("losses", [1, 3])
@pytest.mark.parametrize("loser", ["worker", "caller"])
def test_a_lost_claim_reply(world, counts, monkeypatch, loser, losses):
    """The claim is stored and its answer is lost: the claim is repeated, recognised by its nonce, and runs once."""
    caller = world.side(timeout=0.5 if loser == "caller" else 10)
    side = caller if loser == "caller" else world.side()
    monkeypatch.setattr(side.bus, "append", losing(side.bus.append, losses))
    if loser == "worker":
        side.serve()
    assert caller.call("a") == "a done"
    assert world.journal.lines == ["a"]
    assert counts.get("claim-repeated", seam=world.seam, reason="BusAmbiguousError") >= 1
    assert world.kinds(caller) == ["invoke", "own", "result"]


def test_two_deliveries_of_one_call_in_one_worker(world, counts, monkeypatch):
    """A redelivery while the first claim is still in doubt: the second finds the call taken, by ourselves."""
    caller, worker = world.side(timeout=8), world.side(slow(world.journal, 0.5))
    append = worker.bus.append
    until_then = time.monotonic() + 2.5

    async def silent(subject, event, **options):
        if subject.endswith(".own") and time.monotonic() < until_then:
            await append(subject, event, **options)
            raise BusAmbiguousError("the answer was lost")
        return await append(subject, event, **options)

    async def no_heart(self, *args):
        await worker.runtime.ready.wait()

    monkeypatch.setattr(worker.bus, "append", silent)
    monkeypatch.setattr("crossfade.shim.worker.Worker._beat", no_heart)
    monkeypatch.setattr(worker.bus, "last", never_reads(worker.bus.last, until_then))
    worker.serve(ack_wait=1.0)
    assert caller.call("a") == "a done"
    until(lambda: worker.in_flight == 0)
    assert world.journal.lines == ["a"]


def never_reads(last, until_then):
    async def read(pattern):
        if time.monotonic() < until_then:
            raise BusUnavailableError("cut off")
        return await last(pattern)

    return read


def test_a_command_that_lands_late(world, monkeypatch, counts):
    """The command's publish is in doubt and lands after the caller claimed: it is refused, and no worker gets it."""
    caller = world.side(timeout=0.4)
    append, held = caller.bus.append, []

    async def delayed(subject, event, **options):
        if subject.endswith(".invoke"):
            held.append((subject, event, options))
            raise BusAmbiguousError("on its way")
        return await append(subject, event, **options)

    monkeypatch.setattr(caller.bus, "append", delayed)
    world.side().serve()
    assert caller.call("a") == "a done"
    assert len(held) < 20, "it is repeated without a pause"
    for subject, event, options in held:
        with pytest.raises(WrongPositionError):
            caller.run(append(subject, event, **options))
    assert world.journal.lines == ["a"]
    assert world.kinds(caller) == ["own", "result"]


@pytest.mark.parametrize("gone", [".invoke", "everything"])
def test_a_vanished_command(world, gone):
    """The command was stored and is deleted: its caller cannot claim it, nor can a worker; nobody runs."""
    caller = world.side(timeout=1.0)
    call = world.pool.submit(caller.call, "a")
    place = world.place(caller)
    world.delete(caller, ".invoke")
    with pytest.raises(OutcomeUnknownError, match="vanished"):
        call.result(SOON)
    world.side().serve()
    assert world.journal.lines == []
    record = ClaimRecord(
        callid="x", seam=world.seam, role="worker", instance="i", attempt=1, policyrev=0, arguments="",
        expires=caller.bus.now(),
    )  # fmt: skip
    claim = caller.run(take(caller.bus, place, record, at="1", nonces=Nonces()))
    assert isinstance(claim, Vanished)


def test_a_started_call_whose_ledger_vanished(world):
    """Everything about a running call is deleted: absence never means free, so its caller does not run it again."""
    caller, worker = world.side(timeout=1.0), world.side(slow(world.journal, 2.0))
    worker.serve()
    call = world.pool.submit(caller.call, "a")
    until(lambda: world.journal.lines)
    world.delete(caller, ".invoke")
    world.delete(caller, ".own")
    with pytest.raises(OutcomeUnknownError, match="vanished"):
        call.result(SOON)
    assert world.journal.lines == ["a"]


def test_stale_policy(world):
    """A command older than the rolled back policy is refused under claim: not executed, so the body may run."""
    worker = world.side()
    worker.runtime._live[world.seam] = LivePolicy(seam=world.seam, revision=9, minrev=9)
    worker.serve()
    assert world.side(timeout=10).call("a") == "a done"
    with pytest.raises(NotExecutedError, match="stale-policy"):
        world.side(timeout=10, fallback="raise").call("b")
    assert world.journal.lines == ["a"]
    assert [answer.reason for answer in world.terminals(worker)] == ["stale-policy"] * 2


def test_an_expired_command(world):
    """A submitted call that waited past its deadline is refused under claim, and says so to whoever asks."""
    caller = world.side(timeout=0.2, fallback="raise")
    task = caller.call.submit("a")
    until(lambda: caller.bus.now() > task._command.deadline)
    world.side().serve()
    with pytest.raises(NotExecutedError, match="expired"):
        task.result(SOON)
    assert world.journal.lines == []


def test_a_submitted_call_that_nobody_started(world):
    """No worker ever comes: after deadline and grace whoever asks claims it, and it provably never runs."""
    caller = world.side(timeout=0.2)
    task = caller.call.submit("a")
    with pytest.raises(NotExecutedError, match="claimed-back"):
        task.result(SOON)
    world.side().serve()
    assert [answer.kind for answer in world.terminals(caller)] == ["not-executed"]
    assert world.journal.lines == []


def test_the_last_delivery_of_a_call_that_somebody_owns(world, monkeypatch):
    """Deliveries run out while the owner works: that is no dead letter, and the owner's result counts."""
    monkeypatch.setattr("crossfade.shim.worker.MAX_DELIVER", 2)

    async def no_heart(self, *args):
        await caller.runtime.ready.wait()

    monkeypatch.setattr("crossfade.shim.worker.Worker._beat", no_heart)
    caller = world.side(timeout=15)
    world.side(slow(world.journal, 2.5)).serve(ack_wait=1.0)
    world.side(slow(world.journal, 2.5)).serve(ack_wait=1.0)
    assert caller.call("a") == "a done"
    assert world.journal.lines == ["a"]
    assert world.dead_letters(caller) == []


def test_no_fallback_leaves_a_terminal(world):
    """Who may not fall back and claims its call back says in the ledger that it never ran."""
    caller = world.side(timeout=0.3, fallback="raise")
    with pytest.raises(NotExecutedError, match="claimed-back") as caught:
        caller.call("a")
    world.side().serve()
    assert [answer.kind for answer in world.terminals(caller)] == ["not-executed"]
    assert caller.run(caller.runtime.calls.outcome(caught.value.callid)).reason == "claimed-back"


def test_a_dropped_reply(world, counts, monkeypatch):
    """No reply ever comes: the log is the truth, and is asked before the deadline."""
    caller, worker = world.side(timeout=2), world.side()
    monkeypatch.setattr(worker.bus, "reply", lambda address, event: None)
    worker.serve()
    assert caller.call("a") == "a done"
    assert counts.get("looked-up", seam=world.seam) == 1


def test_cancelling_at_the_moment_of_the_claim(world):
    """Of a cancel and a worker that claims at the same moment one wins: cancelled calls never start.

    One that a worker has claimed and not begun when the word arrives need not start either: refused, or stopped on its
    way to a thread.
    """
    caller = world.side(timeout=60, fallback="raise")  # no deadline has a part in it
    world.side(slow(world.journal, 0.02)).serve(concurrency=1)
    cancelled, ran = [], []
    for burst in range(10):  # more than the worker has places for, so that some of each have not begun
        tasks = [(f"c{burst}x{number}", caller.call.submit(f"c{burst}x{number}")) for number in range(4)]
        time.sleep(burst / 1000)
        for name, task in tasks:
            (cancelled if task.cancel() else ran).append(name)
    until(lambda: len(world.terminals(caller)) == 40)
    ends = Counter(answer.error.type if answer.error else answer.kind for answer in world.terminals(caller))
    assert set(world.journal.lines) <= set(ran)
    assert ends["value"] == len(world.journal.lines)
    assert ends["value"] + ends["not-executed"] + ends[type_name(CallCancelledError)] == 40, ends
    assert ends["not-executed"] >= len(cancelled)
    assert cancelled


@pytest.mark.parametrize("effects", ["none", "idempotent"])
def test_cancelling_what_may_run_twice(world, effects):
    """A submitted call that runs cannot be cancelled as "never started"; one that is queued can, and never runs."""
    caller = world.side(timeout=10, fallback="raise", effects=effects)
    queued = caller.call.submit("queued")
    assert queued.cancel() is True
    worker = world.side(slow(world.journal, 0.6), effects=effects)
    worker.serve()
    running = caller.call.submit("running")
    until(lambda: "running" in world.journal.lines)
    assert running.cancel() is False
    assert running.result(SOON) == "running done"
    assert world.journal.lines == ["running"]


def test_a_ledger_that_cannot_be_read(world, monkeypatch):
    """The command met its own earlier copy and the ledger is unreadable: that is unknown, never "not executed"."""
    caller = world.side(timeout=1)
    monkeypatch.setattr(caller.bus, "append", losing(caller.bus.append, 1, kind=".invoke"))
    last = caller.bus.last

    async def missing(pattern):
        if pattern.endswith(".invoke"):
            raise ObjectMissingError("gone")
        return await last(pattern)

    monkeypatch.setattr(caller.bus, "last", missing)
    world.side(slow(world.journal, 0.5)).serve()
    with pytest.raises(OutcomeUnknownError):
        caller.call("a")
    until(lambda: world.terminals(caller))
    assert world.journal.lines == ["a"]


def test_a_body_that_ran_after_the_connection_closed(world):
    """The connection is closed while a claimed body runs: its caller gets what the body returned."""
    caller = None

    def body(arg: str) -> str:
        world.journal.start(arg)
        caller.run(caller.runtime.stop(flush=0.1))
        caller.runtime.thread.stop()
        world._sides.remove(caller)
        return f"{arg} done"

    caller = world.side(body, timeout=0.3)
    assert caller.call("a") == "a done"


def test_a_large_result_of_an_owner_is_logged(world):
    """The claimed body returns more than an event may carry: the ledger still says how it ended."""
    caller = world.side(lambda arg: arg * 2_000_000, timeout=0.3)
    assert len(caller.call("a")) == 2_000_000
    (stored,) = [found for found in world.log(caller) if found.subject.endswith(".result")]
    assert len(caller.run(caller.runtime.calls.read_result(stored.event)).value) > 2_000_000


def test_a_hostile_result_does_not_end_the_reaper(world, monkeypatch):
    """A message that is no event lies where a result should: other silent owners are still given up."""
    worker = world.side()
    worker.serve(ack_wait=1.0)
    claimed = [claim_for_nobody(world, worker, name) for name in ("first", "second")]
    world.store_junk(worker, claimed[0].result)
    until(lambda: worker.run(claims.find_terminal(worker.bus, claimed[1])))


def claim_for_nobody(world, side, name):
    """A claim whose owner is dead already."""
    stem = side.runtime.subjects.call("invoke", domain="agent", seam=world.seam, run=name, callid=name)
    place = CallPlace.of(stem)
    command = Event(type="tool.invoke", source="urn:t", subject=world.seam, extensions={"callid": name})
    at = side.run(side.bus.append(place.invoke, command, last=place.everything, at=None))
    record = ClaimRecord(
        callid=name, seam=world.seam, role="worker", instance="dead", attempt=1, policyrev=0, arguments="",
        expires=side.bus.now(),
    )  # fmt: skip
    assert isinstance(side.run(take(side.bus, place, record, at=at, nonces=Nonces())), Won)
    return place
