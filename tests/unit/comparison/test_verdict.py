from __future__ import annotations

import json

import pytest

from crossfade.shim.comparison import Difference, Verdict
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.schemas import SeamCompared, validate_payload

FULL = Verdict(
    kind="mismatch",
    rule="comparator",
    reason="budget",
    detail="one line",
    differences=(
        Difference(path="$.hits[3].score", kind="changed", old="1", new="2"),
        Difference(path="$.a", kind="missing", old='"x"'),
    ),
    more=7,
    signature="0123456789abcdef",
)


@pytest.mark.parametrize(
    "verdict", [FULL, Verdict(kind="match"), Verdict(kind="ignored", rule="$.a")], ids=lambda verdict: verdict.kind
)
def test_a_verdict_survives_the_wire(verdict):
    """What is written in one process is read in another, defaults included."""
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_a_match_costs_one_member():
    """Nearly all verdicts are matches, so what is empty does not travel."""
    assert Verdict(kind="match").to_json() == {"verdict": "match"}


def test_the_payload_of_seam_compared_holds_every_member():
    """No member of a verdict is unknown to the payload's schema, which would drop it silently."""
    call = {"seam": "web.search", "callid": "1"}

    read = validate_payload("seam.compared", json.dumps(call | FULL.to_json()).encode())

    assert set(FULL.to_json()) <= set(SeamCompared.model_fields)
    assert Verdict.from_json(read.model_dump()) == FULL


def test_members_of_a_newer_version_are_passed_over():
    """Both sides live for years."""
    payload = FULL.to_json() | {"confidence": 0.5}
    payload["differences"][0]["weight"] = 1

    assert Verdict.from_json(payload) == FULL


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ([], "a verdict is an object, not list"),
        ({}, "a verdict's verdict is ''"),
        ({"verdict": "maybe"}, "a verdict's verdict is 'maybe'; known are match, mismatch"),
        ({"verdict": ["match"]}, "a verdict's verdict is list"),
        ({"verdict": "match", "rule": None}, "a verdict's rule is NoneType"),
        ({"verdict": "match", "more": True}, "a verdict's more is bool"),
        ({"verdict": "match", "differences": {}}, "a verdict's differences is dict"),
        ({"verdict": "match", "differences": ["$"]}, "a verdict is an object, not str"),
        ({"verdict": "match", "differences": [{"path": "$", "kind": "moved"}]}, "a verdict's kind is 'moved'"),
        ({"verdict": "match", "differences": [{"kind": "type", "legacy": 1}]}, "a verdict's legacy is int"),
    ],
)
def test_what_is_no_verdict_is_refused(payload, said):
    """A payload that cannot be read is a named error that says which member is wrong, never a guess."""
    with pytest.raises(MalformedEventError) as caught:
        Verdict.from_json(payload)

    assert caught.value.reason == "payload"
    assert said in str(caught.value)


def test_a_kind_there_is_not_is_refused():
    """A comparator cannot invent a sixth kind that no gate would count."""
    with pytest.raises(ValueError, match="'equal' is no verdict: use match, mismatch, ignored"):
        Verdict(kind="equal")
