"""How a call ended, as far as a page may know it."""

from __future__ import annotations

import json

import pytest

from crossfade.shim.errors import CallCancelledError
from crossfade.shim.outcomes import error_payload, record_error, refusal_payload, value_payload
from crossfade.shim.projection import ending

SECRET = "4111 1111 1111 1111"

ENDINGS = [
    (value_payload(json.dumps({"value": SECRET}).encode(), handler="self", handler_ms=1.0), ("value", "")),
    (error_payload(record_error(ValueError(SECRET)), handler="self", handler_ms=1.0), ("error", "ValueError")),
    (
        error_payload(record_error(CallCancelledError("it", callid="c")), handler="self", handler_ms=1.0),
        ("cancelled", ""),
    ),
    (refusal_payload("not-executed", reason="cancelled"), ("cancelled", "")),
    (refusal_payload("not-executed", reason="expired", message=SECRET), ("not-executed", "expired")),
    (refusal_payload("unknown", reason="owner-silent"), ("unknown", "")),
    (b"no json", ("unknown", "unreadable")),
    (b'{"outcome": "maybe"}', ("unknown", "")),
    (b'{"outcome": "error", "error": 3}', ("unknown", "unreadable")),
]


@pytest.mark.parametrize(("payload", "expected"), ENDINGS)
def test_an_ending_is_an_outcome_and_a_token(payload, expected):
    """Neither a value nor an error's text is in it, whatever the result holds."""
    assert ending(payload) == expected
