"""What was recorded is judged as it was told, and never run again with a mark in a secret's place."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from crossfade.shim.bodies import Ran
from crossfade.shim.comparison import Outcome, Rules
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import Event
from crossfade.shim.judging import Recorded, has_redacted, judge, outcome_of, read_observation, unfit
from crossfade.shim.redaction import Redactor

REDACTOR = Redactor(b"a key of the test's own")


@pytest.mark.parametrize(
    "arguments",
    [{"password": "hunter2"}, {"note": "the password=hunter2 of bob"}, {"in": [{"deep": {"api_key": "abcdef"}}]}],
)
def test_a_mark_is_found_wherever_it_stands(arguments):
    """A whole value, a part of a text, deep inside: a call with any of them cannot be run as it was."""
    assert not has_redacted(arguments)
    assert has_redacted(REDACTOR.value(arguments))


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"arguments": {}, "outcome": "value", "duration_ms": 1}'])
def test_less_than_a_full_observation_is_none(payload):
    """Sampled out, a stream's, or garbage: said, never guessed at."""
    with pytest.raises(MalformedEventError, match="no full observation"):
        read_observation(Event(type="tool.observed", source="urn:x", data=payload))


def test_an_observation_is_read_whole():
    """Arguments as a command carries them, the outcome with its duration in seconds, the key of its marks."""
    payload = {"arguments": {"q": "x"}, "outcome": "value", "value": 3, "duration_ms": 12.0, "redaction": "f"}
    event = Event(
        type="tool.observed", source="urn:x", extensions={"policyrev": "4"}, data=json.dumps(payload).encode()
    )

    recorded = read_observation(event)

    assert json.loads(recorded.arguments) == {"arguments": {"q": "x"}}
    assert (recorded.outcome.value, recorded.outcome.duration) == (3, 0.012)
    assert (recorded.policy_revision, recorded.redaction) == (4, "f")


def ran_stream(*items, **changes):
    return Ran(yielded=tuple(json.dumps({"value": item}).encode() for item in items), items=len(items), **changes)


def test_a_long_stream_without_secrets_is_judged_whole():
    """As many items as are recorded, of more values than redacting would look at."""
    service = SimpleNamespace(kind="generator", domain="tool")
    items = [{"n": [n] * 5} for n in range(10_000)]

    outcome = outcome_of(service, ran_stream(*items), REDACTOR)

    assert outcome.items == tuple(items)


def test_what_cannot_be_redacted_in_time_is_unknown():
    """Its items are not there to be compared, and nobody guesses."""
    service = SimpleNamespace(kind="generator", domain="tool")
    items = [{"password": "hunter2", "n": [n] * 5} for n in range(10_000)]

    assert outcome_of(service, ran_stream(*items), REDACTOR).reason == "stream-limit"
    assert outcome_of(service, ran_stream(items[0]), REDACTOR).items[0]["password"] != "hunter2"


def plain():
    codec = SimpleNamespace(encode_result=lambda value: json.dumps({"value": value}).encode())
    return SimpleNamespace(kind="function", domain="tool", codec=codec)


def test_a_large_answer_without_secrets_is_judged_whole():
    """As it is recorded: of more values than redacting would look at."""
    value = [{"n": [n] * 5} for n in range(20_000)]
    assert outcome_of(plain(), Ran(value=value), REDACTOR).value == value


def test_an_answer_that_cannot_be_redacted_in_time_is_unknown():
    """Neither side of it is there to be compared, and the verdict says why."""
    found = outcome_of(plain(), Ran(value=[{"password": "hunter2", "n": [n] * 5} for n in range(20_000)]), REDACTOR)
    assert (found.kind, found.reason) == ("unknown", "redaction-limit")
    mark = {"$redacted": "limit:nodes:0a0b0c0d"}
    payload = {"arguments": {}, "outcome": "value", **mark, "duration_ms": 1}
    recorded = read_observation(Event(type="tool.observed", source="urn:x", data=json.dumps(payload).encode()))
    assert unfit(recorded.outcome, plain()) == "redaction-limit"


@pytest.mark.parametrize("error", ["asyncio.exceptions.CancelledError", "crossfade.shim.errors.CallCancelledError"])
def test_a_call_that_its_caller_gave_up_is_not_compared(error):
    """The handler would answer what nobody waited for."""
    payload = {"arguments": {}, "outcome": "error", "error": {"type": error, "message": ""}, "duration_ms": 1}
    recorded = read_observation(Event(type="tool.observed", source="urn:x", data=json.dumps(payload).encode()))
    assert unfit(recorded.outcome, plain()) == "cancelled"


@pytest.mark.parametrize("same", [True, False])
def test_marks_of_two_keys_in_items_are_not_compared(same):
    """Equal secrets look different under two keys, as in values."""
    service = SimpleNamespace(kind="generator", domain="tool")
    items = ({"password": "hunter2"},)
    key = REDACTOR if same else Redactor(b"another")
    old = Outcome(kind="value", items=tuple(key.value({"value": list(items)})["value"]))
    recorded = Recorded(arguments=b"{}", outcome=old, policy_revision=0, redaction=key.fingerprint)

    new = outcome_of(service, ran_stream(*items), REDACTOR)
    verdict = judge(recorded, new, Rules(), service=service, comparator=None, redactor=REDACTOR)

    assert verdict.kind == ("match" if same else "inconclusive")
    assert verdict.reason == ("" if same else "redaction-key")
