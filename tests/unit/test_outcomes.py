"""Errors cross as text and data; what comes back is a known class with its own arguments, or RemoteError."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim import outcomes
from crossfade.shim.errors import MalformedEventError, RemoteError
from crossfade.shim.outcomes import (
    ErrorRecord,
    SeenError,
    error_payload,
    read_answer,
    rebuild_error,
    record_error,
    refusal_payload,
    register_error,
    type_name,
    value_payload,
)

json_scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
records = st.builds(
    ErrorRecord,
    type=st.text(),
    message=st.text(),
    args=st.lists(json_scalars).map(tuple),
    traceback=st.text(),
    notes=st.lists(st.text()).map(tuple),
)


class UpstreamError(Exception):
    def __init__(self, code: int, *, why: str = "") -> None:
        super().__init__(code)
        self.why = why


class FormattedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}", code)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(outcomes, "_registered", dict(outcomes._registered))


def travelled(error):
    """What the caller raises for an error of the handler."""
    answer = read_answer(error_payload(record_error(error), handler="self", handler_ms=1.0))
    return rebuild_error(answer.error)


@given(records)
def test_a_record_survives_its_json(record):
    """from_json is the inverse of to_json, over the wire's own bytes, half surrogate pairs included."""
    payload = error_payload(record, handler="self", handler_ms=0.5)
    assert read_answer(payload).error == record


@given(st.recursive(json_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_any_json_is_read_or_refused(value):
    """A stranger's error member never raises anything but its named refusal."""
    try:
        record = ErrorRecord.from_json(value)
    except MalformedEventError as error:
        assert error.reason == "payload"  # noqa: PT017 - or no error
    else:
        assert isinstance(rebuild_error(record), Exception)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data):
    """The same for a whole result."""
    try:
        read_answer(data)
    except MalformedEventError as error:
        assert error.reason == "payload"  # noqa: PT017 - or no error


@pytest.mark.parametrize("data", [None, b"", b"[]", b"1", b'{"outcome": ["value"]}', b'{"outcome": "error"}'])
def test_a_result_that_says_nothing_is_refused(data):
    """No outcome, no guess."""
    with pytest.raises(MalformedEventError):
        read_answer(data)


def test_a_value_is_spliced_in_undecoded():
    """The payload of a value is what the codec wrote, byte for byte."""
    payload = value_payload(b'{"value":[1.50]}', handler="self", handler_ms=1)
    assert b'"value":[1.50]}' in payload
    assert read_answer(payload).value == payload


@pytest.mark.parametrize("kind", ["not-executed", "unknown"])
def test_a_refusal_keeps_kind_and_reason(kind):
    """The two terminals without a handler's word."""
    answer = read_answer(refusal_payload(kind, reason="expired", message="m"))
    assert (answer.kind, answer.reason) == (kind, "expired")


@pytest.mark.parametrize(
    "error",
    [ValueError("x", 3), KeyError("k"), OSError(2, "gone"), ZeroDivisionError(), TimeoutError("t"), AssertionError()],
)
def test_pythons_own_errors_arrive_as_themselves(error):
    """Class and arguments, with the remote traceback as a note."""
    try:
        raise error
    except type(error) as raised:
        again = travelled(raised)
    assert type(again) is type(error)
    assert again.args == error.args
    assert "raise error" in again.__notes__[-1]


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        asyncio.CancelledError(),
        ExceptionGroup("many", [ValueError("one")]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        UpstreamError(500),
        ValueError(object()),
        ValueError(10**5000),
        ValueError(float("nan")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_rebuilt_whole_arrives_as_remote_error(error):
    """Exits, groups, unregistered classes and arguments that JSON cannot hold, by name and text."""
    again = travelled(error)
    assert type(again) is RemoteError
    assert again.type_name == type_name(type(error))


def test_a_registered_error_arrives_as_itself():
    """Once registered here, whatever module raised it there."""
    assert type(travelled(UpstreamError(500))) is RemoteError
    register_error(UpstreamError)
    again = travelled(UpstreamError(500))
    assert type(again) is UpstreamError
    assert again.args == (500,)


def test_a_class_that_does_not_take_its_own_args_arrives_as_remote_error():
    """``cls(*args)`` fails: the generic class, never another exception."""
    register_error(FormattedError)
    again = travelled(FormattedError(5))
    assert type(again) is RemoteError
    assert "code 5" in str(again)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "eval", "type", "object", "Exception.__subclasses__"])
def test_a_type_name_is_never_resolved(name):
    """Celery's CVE-2021-23727: a name on the wire is text."""
    again = rebuild_error(ErrorRecord(type=name, message="m", args=("touch x",)))
    assert type(again) is RemoteError


def test_secrets_are_redacted_everywhere():
    """Message, arguments, traceback and notes pass through ``redact``."""

    def redact(text):
        return text.replace("tiger", "***")

    error = ValueError("tiger", 1)
    error.add_note("note tiger")
    error.__cause__ = KeyError("cause tiger")
    record = record_error(error, redact=redact)
    assert "tiger" not in json.dumps(record.to_json())
    assert record.args == ("***", 1)


def test_long_texts_are_cut():
    """A megabyte of message does not travel; the traceback keeps its end."""
    record = record_error(ValueError("x" * 1_000_000))
    assert len(record.message) <= 16 * 1024
    assert len(record.traceback) <= 64 * 1024
    assert len(error_payload(record, handler="self", handler_ms=1)) < 200_000


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def test_an_error_that_cannot_be_printed_is_said_so():
    """Its class still is known."""
    record = record_error(UnprintableError())
    assert "unprintable" in record.message
    assert record.type.endswith("UnprintableError")


def test_a_seen_error_holds_no_frame():
    """What was seen can be kept without keeping what the frames held."""
    import gc
    import weakref

    class Held:
        pass

    def fail():
        held = Held()
        alive.append(weakref.ref(held))
        raise ValueError("x")

    alive = []
    try:
        fail()
    except ValueError as error:
        seen = SeenError(error)
    gc.collect()
    assert alive[0]() is None
    assert 'raise ValueError("x")' in seen.record().traceback
