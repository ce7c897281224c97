"""What was recorded is judged as it was told, and never run again with a mark in a secret's place."""

from __future__ import annotations

import json

import pytest

from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import Event
from crossfade.shim.judging import has_redacted, read_observation
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
