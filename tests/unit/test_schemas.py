from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import EXTENSIONS, TYPES
from crossfade.shim.outcomes import error_payload, read_answer, record_error, refusal_payload, value_payload
from crossfade.shim.redaction import Redactor
from crossfade.shim.schemas import ATTRIBUTES, MODELS, json_schema, reference_page, validate_payload
from support.project import TOP

ERROR = {"type": "ValueError", "message": "no", "args": ["no"], "traceback": "...", "notes": []}
REQUEST = {"method": "POST", "target": "/v1/reports?x=%20", "headers": [["Accept", "*/*"], ["Accept", "a/b"]]}
RESPONSE = {"status": 200, "headers": [["Set-Cookie", {"$redacted": "0" * 32}]], "body": "e30="}
TIME = "2026-01-02T03:04:05.000006Z"
FINISHED = {"instance": "host-1-abc", "n": 1, "started": TIME, "duration_ms": 1.5}
WORKFLOW = {"workflow": "report", "version": "3", "instance": "r1"}
VALUE = {"outcome": "value", "value": None, "handler": "self", "timings": {"handler_ms": 0.5}}
REFUSED = {"outcome": "not-executed", "reason": "expired", "message": ""}
UNKNOWN = {"outcome": "unknown", "reason": "deadline"}

# At least one payload of every type as it is on the wire, and nothing in it that its schema ignores.
EXAMPLES = {
    "tool.invoke": [{"arguments": {}}, {"arguments": {"query": "events"}, "sealed": {"password": "v1.k.AAAA"}}],
    "tool.result": [VALUE, {"outcome": "error", "error": ERROR}, REFUSED, UNKNOWN],
    "tool.progress": [{}, {"fraction": 0.4, "message": "reading", "data": [1]}],
    "tool.observed": [
        FINISHED | {"outcome": "value"},
        FINISHED | {"outcome": "error", "error": ERROR, "arguments": {}},
    ],
    "agent.task.started": [{"arguments": {"topic": "events"}}],
    "agent.task.completed": [VALUE],
    "agent.task.failed": [{"outcome": "error", "error": ERROR | {"retryable": True}}, REFUSED],
    "agent.task.cancelled": [REFUSED, UNKNOWN],
    "agent.task.progress": [{"fraction": None}],
    "agent.task.observed": [FINISHED | {"outcome": "value", "value": {"a": 1}, "arguments": {"p": {"$redacted": "1"}}}],
    "http.request": [{"arguments": REQUEST, "sealed": {"Authorization": "v1.k.AAAA"}}],
    "http.response": [{"outcome": "value", "value": RESPONSE}, {"outcome": "error", "error": ERROR}],
    "http.chunk": [{"n": 0, "body": "e30="}, {"n": 1, "last": True}],
    "http.observed": [FINISHED | {"outcome": "value", "arguments": REQUEST, "value": RESPONSE}],
    "email.received": [{"sender": "a@b.c", "recipients": ["d@e.f"], "attachments": [{"size": 1}], "date": TIME}],
    "webhook.received": [{"endpoint": "github", "headers": [["X-Event", "push"]], "body": "e30="}],
    "schedule.fired": [{"schedule": "nightly", "due": TIME}],
    "file.created": [{"path": "/in/a.csv", "size": 0, "modified": TIME}],
    "device.reported": [{"topic": "plant/1", "data": {"t": 21.5}, "retained": True}],
    "workflow.started": [WORKFLOW | {"data": {"topic": "x"}}],
    "workflow.advanced": [WORKFLOW | {"step": "fetch", "state": "done", "revision": 2}],
    "workflow.completed": [WORKFLOW | {"value": 1}],
    "workflow.failed": [WORKFLOW | {"error": ERROR, "compensated": ["book"]}],
    "workflow.shown": [WORKFLOW | {"step": "tell", "data": {"text": "hello"}}],
    "workflow.signalled": [{"instance": "1", "action": "approve", "step": "publish", "by": "ann"}],
    "seam.compared": [
        {"seam": "web.search", "callid": "1", "verdict": "mismatch", "legacy_ms": 1, "bus_ms": 2.5, "n": 4}
        | {"differences": [{"path": "$[0]", "kind": "changed", "legacy": "1", "bus": "2"}], "replay": True}
    ],
    "seam.unblocked": [
        {"seam": "web.search", "blockers": ["its body changes its arguments"], "actor": "ann", "reason": ""}
    ],
    "seam.stage.changed": [
        {"seam": "web.search", "from": "shadow", "to": "canary", "revision": 3, "evidence": {"n": 9}}
    ],
    "seam.rollback.requested": [
        {"seam": "web.search", "revision": 3, "instance": "host_1_a", "failing": "calls", "reason": "deadline"}
        | {"counts": {"deadline": 4, "expired": 1}}
    ],
    "seam.skipped": [{"seam": "web.search", "reason": "secret", "count": 2}],
    "call.claimed": [
        {"callid": "c1", "seam": "a.b", "nonce": "n", "role": "worker", "expires": "2026-11-22T10:00:00Z"},
    ],
    "call.started": [{"attempt": 1}],
    "call.ended": [{"outcome": "value", "reason": ""}, {"outcome": "error", "reason": "ValueError"}],
    "call.deadlettered": [{"group": "workers", "reason": "payload", "attempts": 5, "origin": "CMD:7"}],
}

# What must not pass, with the field that the error names.
BROKEN = [
    ("tool.invoke", {}, "arguments"),
    ("tool.invoke", {"arguments": [1]}, "arguments"),
    ("tool.result", {"outcome": "value"}, "value.value"),
    ("tool.result", {"outcome": "maybe"}, "the payload"),
    ("tool.result", {"value": 1}, "the payload"),
    ("tool.result", {"outcome": "error"}, "error.error"),
    ("tool.result", {"outcome": "unknown"}, "unknown.reason"),
    ("agent.task.completed", REFUSED, "outcome"),
    ("agent.task.cancelled", VALUE, "the payload"),
    ("tool.progress", {"fraction": 1.5}, "fraction"),
    ("tool.observed", FINISHED | {"outcome": "value", "n": 0}, "n"),
    ("tool.observed", FINISHED | {"outcome": "value", "started": "2026-01-02T03:04:05"}, "started"),
    ("http.response", {"outcome": "value", "value": {"status": 99}}, "value.value.status"),
    ("http.request", {"arguments": REQUEST | {"headers": [["a"]]}}, "arguments.headers.0.1"),
    ("seam.compared", {"seam": "a", "callid": "1", "verdict": "yes"}, "verdict"),
    ("seam.stage.changed", {"seam": "a", "was": 1, "to": "bus", "revision": 1}, "from"),
    ("tool.invoke", None, "the payload"),
]

each_example = pytest.mark.parametrize(
    ("event_type", "payload"), [(name, payload) for name, payloads in EXAMPLES.items() for payload in payloads]
)


def validator(event_type):
    schema = json_schema(event_type)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_type_has_a_payload_and_an_example():
    """A type that nobody described is found here."""
    assert list(MODELS) == list(TYPES)
    assert set(EXAMPLES) == set(TYPES)


@pytest.mark.parametrize("event_type", TYPES)
def test_schemas_follow_the_specification(event_type):
    """Each is a valid JSON Schema of draft 2020-12 with an identity of its own."""
    validator(event_type)
    schema = json_schema(event_type)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:crossfade:{event_type}:1"


@each_example
def test_the_model_and_the_schema_accept_what_is_on_the_wire(event_type, payload):
    """Other languages validate by the schema, we by the model; both take the payload, and no field is lost."""
    validator(event_type).validate(payload)
    model = validate_payload(event_type, json.dumps(payload).encode())
    assert json.loads(model.model_dump_json(by_alias=True, exclude_unset=True)) == payload


@each_example
def test_fields_of_a_newer_version_are_ignored(event_type, payload):
    """Version n-1 reads what version n writes."""
    newer = payload | {"a_new_field": {"x": 1}}
    validator(event_type).validate(newer)
    assert validate_payload(event_type, json.dumps(newer).encode()) == validate_payload(
        event_type, json.dumps(payload).encode()
    )


@pytest.mark.parametrize(("event_type", "payload", "place"), BROKEN)
def test_what_does_not_fit_is_refused_by_both(event_type, payload, place):
    """The model names the field, and the schema refuses it, too."""
    with pytest.raises(MalformedEventError) as caught:
        validate_payload(event_type, json.dumps(payload).encode())
    assert caught.value.reason == "payload"
    assert str(caught.value).startswith(f"{event_type}: {place}: ")
    if place != "started":  # a zone cannot be demanded by format alone
        assert not validator(event_type).is_valid(payload)


@given(st.binary(max_size=60), st.sampled_from(sorted(TYPES)))
def test_hostile_bytes_are_refused_by_name(data, event_type):
    """Nothing but MalformedEventError comes out of a payload that cannot be read."""
    with pytest.raises(MalformedEventError) as caught:
        validate_payload(event_type, b"\xff" + data)
    assert caught.value.reason == "payload"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 100_000, b'{"arguments":' * 5000, b"\xff", b'{"arguments":{"a":"\\ud800"}}']
)
def test_broken_json_is_refused_by_name(data):
    """Deep, cut, or half a character."""
    with pytest.raises(MalformedEventError):
        validate_payload("tool.invoke", data)


def test_an_error_never_shows_the_value():
    """A payload that does not fit may still hold a password."""
    with pytest.raises(MalformedEventError) as caught:
        validate_payload("tool.invoke", b'{"arguments": "hunter2"}')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("read", [json_schema, lambda name: validate_payload(name, b"{}")])
def test_an_unknown_type_is_refused_by_name(read):
    """Another major version, or somebody else's event."""
    with pytest.raises(MalformedEventError) as caught:
        read("tool.exploded")
    assert caught.value.reason == "type"


def test_what_the_outcomes_write_fits():
    """Results as workers build them are results as the schema describes them, and are read as such."""
    try:
        raise ValueError("token=abc")  # noqa: TRY301 - the error to record
    except ValueError as error:
        failed = error_payload(record_error(error), handler="self", handler_ms=1.0)
    payloads = {
        "value": value_payload(b'{"value":null}', handler="self", handler_ms=1.0),
        "error": failed,
        "not-executed": refusal_payload("not-executed", reason="expired"),
        "unknown": refusal_payload("unknown", reason="deadline"),
    }
    for kind, payload in payloads.items():
        validator("tool.result").validate(json.loads(payload))
        assert validate_payload("tool.result", payload).outcome == kind == read_answer(payload).kind


@each_example
def test_a_redacted_observation_still_fits(event_type, payload):
    """Redaction replaces values, and the payload keeps its shape."""
    if TYPES[event_type] != "observation":
        return
    secret = json.loads(json.dumps(payload).replace('"Accept"', '"Cookie"').replace('"query"', '"password"'))
    shown = Redactor(b"k").encoded(json.dumps(secret).encode())
    validator(event_type).validate(json.loads(shown))
    validate_payload(event_type, shown)


def test_every_attribute_is_described():
    """An attribute that nobody explained is found here: add it to ``ATTRIBUTES`` and write the page again."""
    assert list(ATTRIBUTES) == list(EXTENSIONS)


def test_the_reference_page_is_written_from_the_code():
    """The committed page is what ``python -m crossfade.shim.schemas`` writes."""
    assert (TOP / "docs" / "reference" / "events.md").read_text() == reference_page()
    ran = subprocess.run([sys.executable, "-m", "crossfade.shim.schemas"], capture_output=True, text=True, check=True)
    assert ran.stdout == reference_page()


def test_every_payload_has_a_section():
    """Each link on the page leads to a heading, and no heading stands twice."""
    page = reference_page()
    headings = [line[4:].lower() for line in page.splitlines() if line.startswith("### ")]
    links = {part.split(")")[0] for part in page.split("](#")[1:]}
    assert len(set(headings)) == len(headings)
    assert links <= set(headings)
