"""Dead commands are sent again where nothing can be done twice, and never lost or doubled by the sending itself."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest

from crossfade.adapters.memory._faults import Faults
from crossfade.adapters.nats._streams import definitions
from crossfade.shim._runtime import seal_context
from crossfade.shim.errors import BusAmbiguousError, BusUnavailableError, ConfigurationError
from crossfade.shim.events import Event, new_id
from crossfade.shim.ledger import read_call
from crossfade.shim.outcomes import error_payload, read_answer, record_error
from crossfade.shim.ports import ConsumeOptions
from crossfade.shim.redriving import KEPT, Redriving, Wish
from crossfade.shim.resolving import Resolution, resolve
from crossfade.shim.sealed import Sealer

ANN = Wish(actor="ann")
VOUCHED = Wish(actor="ann", not_done="no charge in the provider's log")


@pytest.fixture
def redriving(bus, subjects):
    return Redriving(bus, subjects)


async def sent(redriving, letter, wish=ANN):
    verdict, mark = await redriving.redrive(letter, wish)
    assert mark is not None, verdict.text
    return mark


async def refused(redriving, letter, wish=ANN):
    verdict, mark = await redriving.redrive(letter, wish)
    assert mark is None
    assert (await redriving.judge(letter, wish)).why == verdict.why
    return verdict.why


async def test_a_read_is_sent_again_as_a_new_call(calls, redriving):
    """A new id, a new deadline, the old arguments and run, and what it goes back to."""
    await calls.declare("none", timeout=7)
    old = await calls.send(left=-60, guarded=False, tenantid="acme", traceparent="00-1", replyto="cfr.gone", pins="x")
    letter = await calls.die()

    mark = await sent(redriving, letter)

    (first, second) = await calls.commands()
    assert second.id == second.get("callid") == mark.callid != old
    assert (second.get("causationid"), second.get("replayof")) == (first.id, first.id)
    assert second.data == first.data
    assert (second.get("correlationid"), second.get("tenantid")) == (f"run-{old}", "acme")
    assert 0 < (datetime.fromisoformat(second.get("expirytime")) - calls.bus.now()).total_seconds() <= 7
    assert not {"replyto", "pins", "guarded"} & second.extensions.keys()


async def test_an_idempotent_call_keeps_its_id(calls, redriving):
    """Its id is the key that makes a second run harmless: under a new one it would be a second effect."""
    await calls.declare("idempotent")
    old = await calls.send(left=-60)
    letter = await calls.die()

    mark = await sent(redriving, letter)

    first, second = await calls.commands()
    assert mark.callid == second.get("callid") == old
    assert second.id != first.id
    assert second.get("guarded") is None


async def test_an_unsafe_call_that_nobody_started_is_closed_first(calls, redriving):
    """No late worker, caller or retry can start the old one beside the new one; who asks is told where it went."""
    await calls.declare("unsafe")
    old = await calls.send(left=-60)
    letter = await calls.die()

    mark = await sent(redriving, letter)

    stored = await calls.bus.last(calls.place(old).everything)
    answer = read_answer(stored.event.data)
    assert (answer.kind, answer.error.message) == ("error", f"sent again as call {mark.callid}")
    assert (await read_call(calls.bus, calls.subjects, old)).claim.role == "operator"
    assert (await calls.commands())[-1].get("guarded") == "1"


async def test_a_seam_that_nobody_declares_is_unsafe(calls, redriving):
    """Running twice what nobody knows is no default."""
    await calls.send(left=-60, guarded=False)
    letter = await calls.die()

    await sent(redriving, letter)

    assert (await calls.commands())[-1].get("guarded") == "1"


async def test_an_unsafe_call_waits_for_its_caller(calls, redriving):
    """Told that it was not executed, a caller that still waits may run the body itself."""
    await calls.declare("unsafe")
    await calls.send(left=5)
    letter = await calls.die()

    assert await refused(redriving, letter, VOUCHED) == "waiting"


@pytest.mark.parametrize(("point", "why"), [("running", "running"), ("silent", "unknown"), ("unknown", "unknown")])
async def test_a_started_unsafe_call_is_never_sent_again(calls, redriving, point, why):
    """Nobody knows whether it was done: whoever finds out resolves it, no word beside that will do."""
    await calls.declare("unsafe")
    left = 30.0 if point == "running" else -60.0
    callid = await calls.send(left=left)
    letter = await calls.die()
    await calls.claim(callid, left=left)
    if point == "unknown":
        await calls.unknown(callid)

    assert await refused(redriving, letter, VOUCHED) == why
    assert len(await calls.commands()) == 1


@pytest.mark.parametrize("payload", [None, error_payload(record_error(ValueError("x")), handler="self", handler_ms=1)])
async def test_an_unsafe_call_that_ran_is_never_sent_again(calls, redriving, payload):
    """It has its effect, or part of it."""
    await calls.declare("unsafe")
    callid = await calls.send(left=-60)
    letter = await calls.die()
    await calls.end(callid, await calls.claim(callid), payload=payload)

    assert await refused(redriving, letter, VOUCHED) == "ran"


async def test_a_refused_unsafe_call_needs_a_word(calls, redriving):
    """Not executed on the bus: but its caller was told so, and may have run the legacy body."""
    await calls.declare("unsafe")
    callid = await calls.send(left=-60)
    letter = await calls.die("arguments")
    await calls.refuse(callid)
    assert await refused(redriving, letter) == "legacy"

    mark = await sent(redriving, letter, VOUCHED)

    assert mark.reason == "no charge in the provider's log"


async def test_a_call_resolved_as_not_executed_is_sent_again(calls, redriving):
    """That was the operator's word already."""
    await calls.declare("unsafe")
    callid = await calls.send(left=-60)
    letter = await calls.die()
    await calls.claim(callid, left=-60)
    said = Resolution(outcome="not-executed", actor="ann", reason="log is empty", owner_is_dead=True)
    await resolve(calls.bus, calls.subjects, callid, said)

    await sent(redriving, letter)


async def test_a_call_whose_ledger_is_gone_needs_a_word(calls, redriving):
    """Absence never means free: older than commands are kept, nobody can tell whether it ran."""
    await calls.declare("unsafe")
    await calls.send(left=-60)
    letter = await calls.die()
    old = new_id()
    gone = replace(letter, subject=calls.place(old).invoke, event=letter.event.with_extensions(callid=old))
    assert await refused(redriving, gone) == "gone"

    await sent(redriving, gone, VOUCHED)

    stored = await calls.bus.last(calls.place(old).everything)
    assert read_answer(stored.event.data).kind == "error"  # a late retry of its key finds it closed


async def test_what_was_sent_again_is_not_sent_by_accident(calls, redriving, bus, subjects):
    """Another operator, later: only --again does it once more, as another call."""
    await calls.declare("none")
    await calls.send(guarded=False)
    letter = await calls.die()
    first = await sent(redriving, letter)
    later = Redriving(bus, subjects)
    assert await refused(later, letter) == "redriven"

    second = await sent(later, letter, Wish(actor="bob", again=True))

    assert (second.n, first.n) == (2, 1)
    assert second.callid != first.callid
    assert len(await calls.commands()) == 3


async def test_again_does_not_double_an_unsafe_call(calls, redriving):
    """The copy may have run; if it died, it has a dead letter of its own."""
    await calls.declare("unsafe")
    await calls.send(left=-60)
    letter = await calls.die()
    await sent(redriving, letter)

    assert await refused(redriving, letter, Wish(actor="ann", again=True, not_done="sure")) == "redriven"


@pytest.mark.parametrize("effects", ["none", "idempotent", "unsafe"])
@pytest.mark.parametrize("operation", ["append", "publish", "create"])
@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_redrive_that_fails_in_the_middle_is_repeated(  # noqa: PLR0917
    calls, bus, subjects, effects, operation, landed, nth
):
    """Whatever step fails, done or not: run again it sends the command once, and marks it once."""
    await calls.declare(effects)
    await calls.send(left=-60)
    letter = await calls.die()
    fail(bus, operation, nth, landed=landed)

    verdict = None
    while verdict is None:
        with suppress(BusUnavailableError):
            verdict, mark = await Redriving(bus, subjects).redrive(letter, ANN)

    assert mark is not None or verdict.why == "redriven"
    assert len(await calls.commands()) == 2
    assert len(await bus.state("redriven").entries()) == 1


def fail(bus, operation, nth, *, landed):
    """Let the nth call of ``operation`` raise; with ``landed`` it happens nevertheless."""
    counted = {"n": 0}
    target = bus.state("redriven") if operation == "create" else bus
    kept = getattr(target, operation)

    async def failing(*arguments, **options):
        counted["n"] += 1
        hit = counted["n"] == nth
        result = await kept(*arguments, **options) if landed or not hit else None
        if hit:
            raise BusUnavailableError("gone")
        return result

    if operation == "create":
        make = bus.state
        bus.state = lambda bucket: _Failing(make(bucket), failing) if bucket == "redriven" else make(bucket)
    else:
        setattr(bus, operation, failing)


class _Failing:
    def __init__(self, state, create):
        self._state = state
        self.create = create

    def __getattr__(self, name):
        return getattr(self._state, name)


async def test_an_unclear_ledger_sends_nothing(calls, redriving, broker, monkeypatch):
    """The claim that closes the dead call gets no clean answer: better late than twice."""
    monkeypatch.setattr("crossfade.shim.redriving._PATIENCE", 0.05)
    await calls.declare("unsafe")
    await calls.send(left=-60)
    letter = await calls.die()
    for _ in range(20):
        broker.fail_next("append", BusAmbiguousError("lost"))

    with pytest.raises(BusAmbiguousError, match="nothing was sent"):
        await redriving.redrive(letter, ANN)
    broker.faults = Faults()
    assert len(await calls.commands()) == 1


async def test_a_worker_that_starts_it_meanwhile_wins(calls, redriving, monkeypatch):
    """Judged, then claimed by somebody else: nothing is sent."""
    await calls.declare("unsafe")
    callid = await calls.send(left=-60)
    letter = await calls.die()
    judge = Redriving.judge

    async def overtaken(self, *arguments):
        verdict = await judge(self, *arguments)
        await calls.claim(callid)
        return verdict

    monkeypatch.setattr(Redriving, "judge", overtaken)
    verdict, mark = await redriving.redrive(letter, ANN)

    assert (verdict.why, mark) == ("running", None)


async def test_only_commands_are_sent_again(calls, redriving, bus, subjects):
    """An observation that a shadow worker gave up is a fact: nobody executes facts."""
    observation = Event(type="tool.observed", source="urn:test", extensions={"seam": "shop.charge"}, data=b"{}")
    await bus.publish(subjects.observation("shop.charge", shadow=True), observation)
    async with bus.consume("shadow", [subjects.observations("shop.charge")], ConsumeOptions()) as deliveries:
        await (await deliveries.next(timeout=5)).reject("stale")

    (letter,) = await calls.dead()
    assert await refused(redriving, letter) == "no-command"


async def test_a_command_without_its_arguments_is_not_sent(calls, redriving):
    """Too large to be kept beside its story, or in an object that is gone: an empty call would be another call."""
    await calls.declare("none")
    await calls.send(dataref="memory://nowhere/x#sha256=00&size=9", guarded=False, data=b" ")
    letter = await calls.die()
    bare = replace(letter, event=replace(letter.event, data=None, extensions={"callid": "a", "seam": "shop.charge"}))

    assert await refused(redriving, bare) == "no-payload"
    assert await refused(redriving, replace(letter, event=None)) == "no-command"
    assert await refused(redriving, replace(letter, event=replace(letter.event, data=None))) == "no-payload"


async def test_secrets_are_sealed_for_the_new_call(calls, redriving, bus, subjects):
    """A sealed value opens for its own call only, so it is opened and sealed again, or the call is not sent."""
    sealer = Sealer.from_environment() or Sealer({"k": os.urandom(32)})
    await calls.declare("none")
    old = await calls.send(guarded=False, sealed="1", data=b'{"arguments":{},"sealed":{}}')
    text = sealer.seal(b'{"password":"x"}', context=seal_context("shop.charge", old, "password"))
    letter = await calls.die()
    data = json.dumps({"arguments": {"who": "ann"}, "sealed": {"password": text}}).encode()
    letter = replace(letter, event=replace(letter.event, data=data))
    assert await refused(redriving, letter) == "sealed"

    mark = await sent(Redriving(bus, subjects, sealer), letter)

    payload = json.loads((await calls.commands())[-1].data)
    context = seal_context("shop.charge", mark.callid, "password")
    assert sealer.open(payload["sealed"]["password"], context=context) == b'{"password":"x"}'
    assert payload["arguments"] == {"who": "ann"}


async def test_the_new_call_has_its_own_time(calls, redriving):
    """What the operator says, else the seam's timeout, else what the dead call was given; nonsense is refused."""
    await calls.send(left=-60, guarded=False)
    await calls.declare("none", timeout=9)
    letter = await calls.die()

    await sent(redriving, letter, Wish(actor="ann", timeout=600))

    left = datetime.fromisoformat((await calls.commands())[-1].get("expirytime")) - calls.bus.now()
    assert 590 < left.total_seconds() <= 600
    for wrong in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigurationError):
            Wish(actor="ann", timeout=wrong)


def test_marks_outlive_dead_letters():
    """A mark that went first would let a dead letter be sent twice by accident."""
    ages = [stream.config["max_age"] for stream in definitions("cf", 1) if stream.config["subjects"] == ["cfdlq.>"]]

    assert [KEPT.total_seconds() * 1e9 > age for age in ages] == [True]
