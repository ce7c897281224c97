"""An operator's word replaces ``unknown`` and nothing else, and never shuts out what really happened."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from crossfade.shim import schemas
from crossfade.shim.errors import BusAmbiguousError, CallMissingError, ConfigurationError, ResolutionRefusedError
from crossfade.shim.ledger import read_call
from crossfade.shim.outcomes import read_answer, rebuild_error
from crossfade.shim.resolving import Resolution, resolve
from support.ledgers import OWNER, Ledgers


def said(outcome="value", **more):
    value = {"value": '"paid"'} if outcome == "value" else {}
    return Resolution(**{"outcome": outcome, "actor": "ann", "reason": "receipt 17", **value, **more})


async def answer(calls, callid):
    """What a caller gets who asks for the outcome."""
    stored = await calls.bus.last(calls.subjects.of_call(callid, "result"))
    return read_answer(stored.event.data)


async def test_a_value_is_what_callers_get_from_then_on(calls):
    """The outcome of the call is the operator's value, and who said so is kept beside it."""
    callid = await calls.lost()

    written = await resolve(calls.bus, calls.subjects, callid, said(value='{"id": 12345678901234567890.10}'))

    assert (written.kind, written.by, written.actor, written.why) == ("value", "operator", "ann", "receipt 17")
    stored = await calls.bus.last(calls.subjects.of_call(callid, "result"))
    assert b'"value": {"id": 12345678901234567890.10}' in stored.event.data
    assert json.loads(stored.event.data)["operator"]["replaces"]
    assert stored.event.get("path") == "operator"
    assert stored.event.get("correlationid") == f"run-{callid}"


async def test_an_error_is_raised_at_callers(calls):
    """It arrives as text, whatever class the operator had in mind."""
    callid = await calls.lost()

    await resolve(calls.bus, calls.subjects, callid, said("error", reason="card refused"))

    assert str(rebuild_error((await answer(calls, callid)).error)) == "ResolvedByOperator: card refused"


async def test_not_executed_needs_a_dead_owner(calls):
    """It lets others run the call again, so an owner that was only paused must be ruled out."""
    callid = await calls.lost()
    with pytest.raises(ResolutionRefusedError, match=f"worker {OWNER} may only be paused.*--owner-is-dead"):
        await resolve(calls.bus, calls.subjects, callid, said("not-executed"))

    await resolve(calls.bus, calls.subjects, callid, said("not-executed", owner_is_dead=True))

    assert (await answer(calls, callid)).kind == "not-executed"


@pytest.mark.parametrize("outcome", ["value", "error", "not-executed"])
async def test_an_owner_that_reports_is_not_dead(calls, outcome):
    """The bus hears from it, so the reason alone is no proof."""
    callid = await calls.lost()
    await calls.report(OWNER)

    with pytest.raises(ResolutionRefusedError, match="is alive"):
        await resolve(calls.bus, calls.subjects, callid, said(outcome))


async def test_a_silent_claim_becomes_unknown_first(calls):
    """No worker is up to say so; the ledger then tells the same story as ever."""
    callid = await calls.silent()

    await resolve(calls.bus, calls.subjects, callid, said())

    ledger = await read_call(calls.bus, calls.subjects, callid)
    kinds = [json.loads(stored.event.data)["outcome"] for stored in ledger.of_kind("result")]
    assert kinds == ["unknown", "value"]


async def test_the_owners_late_result_still_counts(calls):
    """It knows what happened; the operator's word stays in the ledger, superseded."""
    callid = await calls.silent()
    claim = (await calls.bus.last(calls.place(callid).own)).position
    await resolve(calls.bus, calls.subjects, callid, said("error"))

    await calls.end(callid, claim)

    assert (await answer(calls, callid)).kind == "value"


async def test_a_real_result_cannot_be_overruled(calls):
    """A value, an error and a refusal of the owner's stand."""
    callid = await calls.send()
    await calls.end(callid, await calls.claim(callid))

    with pytest.raises(ResolutionRefusedError, match="ended as 'value', and that is no operator's to change"):
        await resolve(calls.bus, calls.subjects, callid, said("error", owner_is_dead=True))


async def test_a_call_is_resolved_once(calls):
    """Whoever comes second is told what the first one said, and why."""
    callid = await calls.lost()
    await resolve(calls.bus, calls.subjects, callid, said())

    with pytest.raises(ResolutionRefusedError, match="ann has resolved it already, as 'value': receipt 17"):
        await resolve(calls.bus, calls.subjects, callid, said("error", actor="bob"))


async def test_a_running_call_is_left_to_its_owner(calls):
    """Its result may come; the text says how long to wait."""
    callid = await calls.send()
    await calls.claim(callid)

    with pytest.raises(ResolutionRefusedError, match=r"may still log its result: wait \d+ s"):
        await resolve(calls.bus, calls.subjects, callid, said(owner_is_dead=True))


@pytest.mark.parametrize("left", [30, -60])
async def test_a_call_nobody_started_needs_no_word(calls, left):
    """Nobody knows nothing here: it did not run."""
    callid = await calls.send(left=left)

    with pytest.raises(ResolutionRefusedError, match="nobody has started it"):
        await resolve(calls.bus, calls.subjects, callid, said(owner_is_dead=True))


async def test_a_result_that_comes_between_wins(calls, monkeypatch):
    """The owner logs while the operator types: nothing is overwritten, and the operator is told."""
    callid = await calls.lost()
    claim = (await calls.bus.last(calls.place(callid).own)).position
    append = calls.bus.append

    async def overtaken(subject, event, **options):
        monkeypatch.undo()
        await calls.end(callid, claim)
        return await append(subject, event, **options)

    monkeypatch.setattr(calls.bus, "append", overtaken)

    with pytest.raises(ResolutionRefusedError, match="somebody else's result arrived"):
        await resolve(calls.bus, calls.subjects, callid, said())
    assert (await answer(calls, callid)).kind == "value"


async def test_a_lost_acknowledgement_is_no_refusal(calls, broker):
    """The terminal landed and its answer was lost: repeated, it is recognised as our own."""
    callid = await calls.lost()
    broker.fail_next("append", BusAmbiguousError("lost"), after=True)

    written = await resolve(calls.bus, calls.subjects, callid, said())

    assert written.by == "operator"
    results = (await read_call(calls.bus, calls.subjects, callid)).of_kind("result")
    assert len(results) == 2


@pytest.mark.parametrize(
    ("outcome", "model"),
    [("value", schemas.ValueResult), ("error", schemas.ErrorResult), ("not-executed", schemas.NotExecutedResult)],
)
def test_what_is_written_is_what_the_reference_says(outcome, model):
    """A reader in another language finds the operator where the schema has them."""
    payload = said(outcome).payload(replaces="7", now=datetime.now(UTC))

    read = model.model_validate_json(payload)

    assert (read.operator.actor, read.operator.reason, read.operator.replaces) == ("ann", "receipt 17", "7")


async def test_a_call_that_is_not_there(calls):
    """Nothing is written for a mistyped id."""
    with pytest.raises(CallMissingError):
        await resolve(calls.bus, calls.subjects, "0" * 32, said())


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"reason": " "}, "reason"),
        ({"actor": ""}, "actor"),
        ({"value": None}, "value"),
        ({"value": "paid"}, "value"),
        ({"value": "NaN"}, "value"),
        ({"value": "[" * 100_000}, "value"),
        ({"value": "\udcff"}, "value"),
        ({"outcome": "error"}, "value"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_read(wrong, place):
    """The setting at fault is named."""
    with pytest.raises(ConfigurationError) as error:
        Resolution(**{"outcome": "value", "actor": "ann", "reason": "receipt", "value": "1", **wrong})
    assert error.value.where == place


async def test_an_agents_call_ends_in_an_agents_event(bus, subjects):
    """Who follows tasks by type sees it."""
    calls = Ledgers(bus, subjects, seam="research", domain="agent")
    callid = await calls.lost()

    written = await resolve(bus, subjects, callid, said())

    assert written.stored.event.type == "agent.task.completed"
