"""Errors cross as text and data; what comes back is a known class with its own arguments, or RemoteError."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from crossfade.shim import outcomes
from crossfade.shim.errors import MalformedEventError, RemoteError, SeamDefinitionError
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
from crossfade.shim.redaction import Redactor

SECRET = "abcdef0123456789"

json_scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
records = st.builds(
    ErrorRecord,
    type=st.text(),
    message=st.text(),
    args=st.lists(json_scalars).map(tuple),
    attributes=st.dictionaries(st.text(), json_scalars),
    unsent=st.lists(st.text()).map(tuple),
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
        ValueError((1,)),
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


class DetailedError(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class OptionalError(ValueError):
    def __init__(self, message, code=1):
        super().__init__(message)
        self.code = code


class SilentError(Exception):
    def __init__(self, *, hint):
        self.hint = hint

    def __str__(self):
        return f"try {self.hint}"


class LocatedError(OSError):
    def __init__(self, *args, where=""):
        super().__init__(*args)
        self.where = where


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__()
        self.code = code


class KillingError(Exception):
    def __init__(self, code):
        if isinstance(code, str):
            raise KeyboardInterrupt
        super().__init__(str(code))


class ManyError(ExceptionGroup):
    pass


def told(error):
    """What can be seen of an error but its notes and traceback."""
    names = ("filename", "filename2", "errno", "strerror", "name", "path", "code")
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return type(error), error.args, str(error), attributes, [getattr(error, name, None) for name in names]


def raised(make):
    """What Python itself raises, with everything that it says of it."""
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "error",
    [
        FormattedError(5),
        DetailedError(1, detail="x"),
        OptionalError("m", code=7),
        SilentError(hint="again"),
        LocatedError(2, "gone", "a.txt", where="here"),
        SlottedError(3),
        KillingError(5),
        raised(lambda: open("/nowhere/at/all")),  # noqa: PTH123, SIM115
        raised(lambda: __import__("no_such_module")),
        raised(lambda: no_such_name),  # noqa: F821
        OSError(18, "cross-device", "a", None, "b"),
        ValueError([1, {"a": None}]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_whole_whatever_its_constructor_takes(error):
    """Class, arguments, text and attributes; the constructor is not called, so it can neither fail nor differ."""
    register_error(type(error))
    assert told(travelled(error)) == told(error)


def having(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class Status(int):
    pass


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (having(UpstreamError(500), response=object()), "hold its response"),
        (having(UpstreamError(500), pair=(1, 2)), "hold its pair"),
        (having(UpstreamError(500), api_key="k"), "hold its api_key"),
        (having(UpstreamError(500), context={"password": "tiger"}), "hold its context"),
        (UpstreamError(Status(500)), "hold its args"),
        (having(UpstreamError(500), rows=list(range(50_000))), "hold its rows"),
        (ManyError("many", [ValueError(1)]), "hold its args"),
        (raised(lambda: TypeAdapter(int).validate_python("x")), "making one raised TypeError"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_error_that_would_be_half_of_itself_arrives_as_remote_error_that_says_why(error, why):
    """Never an object without what its class promises; nothing with a secret's name travels."""
    register_error(type(error))
    again = travelled(error)
    assert type(again) is RemoteError
    assert again.type_name == type_name(type(error))
    assert any(why in note for note in again.__notes__)
    assert "tiger" not in repr(record_error(error).to_json()["attributes"])


class TreacherousError(Exception):
    def __str__(self):
        if not self.args:
            raise SystemError("no")
        return f"{self.args} {id(self) if self.args == (0,) else ''}"


@given(
    st.sampled_from([TreacherousError, SilentError, LocatedError, SlottedError, KillingError, OSError, KeyError]),
    st.lists(json_scalars).map(tuple),
    st.dictionaries(st.text() | st.sampled_from(["__class__", "__dict__", "__cause__", "args", "code"]), json_scalars),
    st.text(),
)
def test_no_record_makes_anything_but_an_exception(cls, args, attributes, message):
    """Whatever a stranger claims of a registered class, the caller gets an exception and nothing is run or replaced."""
    known = dict(outcomes._registered)
    try:
        register_error(cls)
        record = ErrorRecord(type=type_name(cls), message=message, args=args, attributes=attributes)
        again = rebuild_error(record)
    finally:
        outcomes._registered.clear()
        outcomes._registered.update(known)
    assert type(again) is RemoteError or (isinstance(again, cls) and str(again) == message)
    assert again.__cause__ is None


@pytest.mark.parametrize("cls", [KeyboardInterrupt, SystemExit, int, "ValueError", ValueError("x")])
def test_only_exceptions_can_be_registered(cls):
    """What would end the caller's process is never made from the wire."""
    with pytest.raises(SeamDefinitionError, match="only subclasses of Exception"):
        register_error(cls)


@pytest.mark.parametrize("notes", [None, 5, "text", [1, "a"]])
def test_odd_notes_do_not_end_the_worker(notes):
    """``__notes__`` may be anything; only a list of them is."""
    error = having(ValueError("x"), __notes__=notes)
    assert type(travelled(error)) is ValueError


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


@pytest.mark.parametrize(
    "error",
    [
        KeyError(f"canary Authorization: Bearer {SECRET}"),
        SilentError(hint=f"Authorization: Bearer {SECRET}"),
        DetailedError(401, detail=f"Bearer {SECRET}"),
        OSError(2, f"Bearer {SECRET}", "a.txt"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_redacted_error_arrives_as_its_class(error):
    """That we hid a secret in it makes it no other error: who catches its class catches it, and sees a mark."""
    register_error(type(error))
    record = record_error(error, redact=Redactor(key=b"k" * 16).text)
    again = rebuild_error(record)
    assert type(again) is type(error)
    assert "[redacted:" in str(again)
    assert SECRET not in json.dumps(record.to_json())


def test_a_secret_told_only_by_an_errors_whole_text_stays_hidden():
    """Whatever its parts look like alone, the text is redacted as a whole; then it is not itself any more."""

    class JoinedError(Exception):
        def __str__(self):
            return " ".join(self.args)

    register_error(JoinedError)
    record = record_error(JoinedError("sees", "Bearer", SECRET), redact=Redactor(key=b"k" * 16).text)
    assert SECRET not in record.message
    assert type(rebuild_error(record)) is RemoteError


def test_long_texts_are_cut():
    """A megabyte of message does not travel; the traceback keeps its end."""
    record = record_error(ValueError("x" * 1_000_000))
    assert len(record.message) <= 16 * 1024
    assert len(record.traceback) <= 64 * 1024
    assert len(error_payload(record, handler="self", handler_ms=1)) < 200_000


def test_a_deep_recursion_keeps_its_innermost_frames():
    """An error that passes 500 frames is told by its last 64; to hold all, at each seam it passes, takes seconds."""

    def down(n):
        if n:
            down(n - 1)
        raise ValueError("innermost")

    with pytest.raises(ValueError, match="innermost") as caught:
        down(500)
    trace = SeenError(caught.value)._trace
    assert len(trace.stack) == 64
    assert trace.stack[-1].line == 'raise ValueError("innermost")'
    assert len(caught.traceback) > 500, "the caller's own is whole"


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
