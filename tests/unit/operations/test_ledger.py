"""Reading ledgers: how a call stands at every point of its life, and which calls nobody knows."""

from __future__ import annotations

import json

import pytest

from crossfade.shim.errors import CallMissingError
from crossfade.shim.events import Event
from crossfade.shim.ledger import find_dead, find_open, read_call


async def state_of(calls, callid):
    ledger = await read_call(calls.bus, calls.subjects, callid)
    return ledger.state(calls.bus.now())


async def test_a_call_is_named_by_its_last_event(calls):
    """waiting, running, value: each as its ledger grows."""
    callid = await calls.send()
    assert await state_of(calls, callid) == "waiting"

    claim = await calls.claim(callid)
    assert await state_of(calls, callid) == "running"

    await calls.end(callid, claim)
    assert await state_of(calls, callid) == "value"


async def test_a_call_nobody_took_in_time_is_expired(calls):
    """Past its deadline without a claim, it is no secret that nobody ran it."""
    assert await state_of(calls, await calls.send(left=-1)) == "expired"


async def test_an_owner_past_deadline_and_grace_is_silent(calls):
    """Only after the grace, since a result may still be on its way at the deadline itself."""
    late = await calls.send(left=-1)
    await calls.claim(late, left=-1)

    assert await state_of(calls, late) == "running"
    assert await state_of(calls, await calls.silent()) == "silent"


async def test_a_late_result_of_the_owner_supersedes_unknown(calls):
    """Both are shown, the last one counts."""
    callid = await calls.send(left=-60)
    claim = await calls.claim(callid, left=-60)
    await calls.unknown(callid)
    await calls.end(callid, claim)

    ledger = await read_call(calls.bus, calls.subjects, callid)

    assert len(ledger.of_kind("result")) == 2
    assert ledger.terminal.kind == "value"
    assert ledger.terminal.handler_ms == 12.5


async def test_a_claim_after_not_executed_reopens_the_call(calls):
    """A retry with the same key may claim again; the refusal before it is no terminal any more."""
    callid = await calls.send()
    await calls.refuse(callid)
    assert await state_of(calls, callid) == "not-executed"

    await calls.claim(callid)

    assert await state_of(calls, callid) == "running"


@pytest.mark.parametrize("callid", ["nothing", "a.*.>", "", "x" * 5000, "ä b"])
async def test_a_call_that_is_not_there_is_said_to_be_missing(calls, callid):
    """An id that cannot exist is treated like one that does not, and selects no other call."""
    await calls.send()
    with pytest.raises(CallMissingError, match="no call"):
        await read_call(calls.bus, calls.subjects, callid)


async def test_unknown_and_silent_calls_are_found_and_no_others(calls):
    """What ended, what still runs and what nobody started is left out; the oldest comes first."""
    lost, silent = await calls.lost(), await calls.silent()
    await calls.send(left=-60)
    await calls.claim(await calls.send())
    done = await calls.send(left=-60)
    claim = await calls.claim(done, left=-60)
    await calls.unknown(done)
    await calls.end(done, claim)

    found = await find_open(calls.bus, calls.subjects)

    assert [(call.callid, call.state, call.claim.instance) for call in found] == [
        (lost, "unknown", "host_1_worker"),
        (silent, "silent", "host_1_worker"),
    ]


async def test_unknown_calls_of_one_seam(calls):
    """Another seam's are not shown."""
    await calls.lost()

    assert await find_open(calls.bus, calls.subjects, seam="shop.refund") == []
    assert len(await find_open(calls.bus, calls.subjects, seam="shop.charge")) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 5000, b'{"outcome":"value","timings":7}', b'{"outcome":["x"]}'],
)
async def test_a_hostile_result_is_shown_as_one_that_cannot_be_read(calls, payload):
    """Whatever lies in a ledger, looking at it does not fail, and it is never taken for unknown."""
    callid = await calls.send()
    claim = await calls.claim(callid)
    await calls.end(callid, claim, payload=payload or b" ")

    ledger = await read_call(calls.bus, calls.subjects, callid)

    assert ledger.terminal.kind in ("error", "value")
    assert await find_open(calls.bus, calls.subjects) == []


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b"[" * 5000, b'{"expires":"2026-01-01"}'])
async def test_a_hostile_claim_owns_its_call_for_ever(calls, counts, record):
    """A claim that cannot be read is listed: somebody may have started the call."""
    callid = await calls.send(left=-60)
    place = calls.place(callid)
    event = Event(type="call.claimed", source="urn:test", extensions={"callid": callid}, data=record)
    command = await calls.bus.last(place.invoke)
    await calls.bus.append(place.own, event, last=place.everything, at=command.position)

    (found,) = await find_open(calls.bus, calls.subjects)

    assert (found.callid, found.state, found.claim) == (callid, "silent", None)
    assert counts.get("skipped", reason="claim-payload")


async def test_a_claim_whose_expiry_has_no_zone_is_no_claim(calls):
    """No clock could be held against it, and comparing it would end a reaper."""
    callid = await calls.send(left=-60)
    await calls.claim(callid, left=-60)
    stored = await calls.bus.last(calls.place(callid).own)
    fields = {**json.loads(stored.event.data), "expires": "2026-01-01T00:00:00"}
    event = Event(
        type="call.claimed", source="urn:test", extensions={"callid": callid}, data=json.dumps(fields).encode()
    )
    await calls.bus.append(calls.place(callid).own, event, last=calls.place(callid).everything, at=stored.position)

    (found,) = await find_open(calls.bus, calls.subjects)

    assert found.claim is None


async def test_a_calls_dead_letters_are_its_own(calls):
    """Another call's are not shown with it."""
    callid = await calls.send()
    letter = await calls.die()
    await calls.send()
    await calls.die()

    assert [found.position for found in await find_dead(calls.bus, callid)] == [letter.position]
