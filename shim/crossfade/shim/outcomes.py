"""How a call ended, and how an error crosses the bus: as text and data, never as a class name to import.

An error is raised as its own class at the caller only when that class is registered there, or is one of
Python's own exceptions; any other arrives as ``RemoteError``. (Rebuilding classes by name from the wire is
remote code execution: CVE-2021-23727.)
"""

from __future__ import annotations

import builtins
import json
import traceback
from dataclasses import dataclass, field, replace
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from .errors import (
    CallCancelledError,
    CrossfadeError,
    MalformedEventError,
    RemoteError,
    Retry,
    SeamDefinitionError,
    UnserialisableError,
)
from .redaction import between_marks, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType

    from .ports import Position

E = TypeVar("E", bound=type[Exception])
X = TypeVar("X", bound=BaseException)

OutcomeKind = Literal["value", "error", "not-executed", "unknown"]
"""The four terminals of a call."""

EFFECTS_DIFFER: Final = "effects-differ"
"""Why a worker refuses a call that is unsafe there and was sent by somebody who says that it is not."""

_MESSAGE_LIMIT: Final = 16 * 1024
_TRACEBACK_LIMIT: Final = 64 * 1024
_FRAMES: Final = 64  # the innermost: a deep recursion passes every level's seam, and all of each would be quadratic
_ATTRIBUTES_LIMIT: Final = 64 * 1024
_MAX_BITS: Final = 4096  # of an integer; Python itself refuses to write or read more than 4,300 digits

_registered: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(builtins).items()
    # Groups carry live exceptions, and unicode errors need bytes that JSON has not: both arrive as RemoteError.
    if isinstance(value, type)
    and issubclass(value, Exception)
    and not issubclass(value, ExceptionGroup | UnicodeError | StopIteration | StopAsyncIteration)
}


def register_error(cls: E) -> E:
    """Let handlers' errors of this class be raised here as themselves. Usable as a decorator.

    Its constructor is not called: arguments, attributes and text are what the handler's error had. Where JSON cannot
    hold one of them, or the text comes out different, the caller gets ``RemoteError`` with the reason as a note.
    Raises ``SeamDefinitionError`` for what is no subclass of ``Exception``.
    """
    if not (isinstance(cast("object", cls), type) and issubclass(cls, Exception)):
        raise SeamDefinitionError(
            f"{cls!r} cannot be registered: only subclasses of Exception are raised as themselves"
        )
    _registered[type_name(cls)] = cls
    return cls


def type_name(cls: type[BaseException]) -> str:
    """The name an error travels under: ``ValueError`` for Python's own, else ``package.module.Class``."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


GIVEN_UP: Final = "cancelled"
"""Why a call is not compared whose caller wanted no answer any more: the handler's would be one nobody waited for."""

_GIVEN_UP: Final = frozenset({"asyncio.exceptions.CancelledError", type_name(CallCancelledError)})


def is_given_up(error: object) -> bool:
    """Whether a payload's ``error`` says no more than that whoever called wanted no answer any more."""
    return isinstance(error, dict) and cast("dict[str, Any]", error).get("type") in _GIVEN_UP


register_error(UnserialisableError)  # a result that cannot be written
register_error(Retry)  # a handler that asked once too often


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRecord:
    """An error as it travels. ``args`` and ``attributes`` are JSON values; ``unsent`` names those that are not."""

    type: str
    message: str
    args: tuple[Any, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unsent: tuple[str, ...] = ()
    traceback: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The payload's ``error`` member."""
        return {
            "type": self.type,
            "message": self.message,
            "args": list(self.args),
            "attributes": dict(self.attributes),
            "unsent": list(self.unsent),
            "traceback": self.traceback,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Any) -> ErrorRecord:
        """Read a payload's ``error`` member. Raises ``MalformedEventError`` (reason ``payload``)."""
        if not isinstance(data, dict):
            raise MalformedEventError("the result says 'error' and carries none", reason="payload")
        record = cast("dict[str, Any]", data)
        return cls(
            type=str(record.get("type", "Exception")),
            message=str(record.get("message", "")),
            args=_items(record.get("args")),
            attributes=_members(record.get("attributes")),
            unsent=tuple(map(str, _items(record.get("unsent")))),
            traceback=str(record.get("traceback", "")),
            notes=tuple(map(str, _items(record.get("notes")))),
        )


class SeenError:
    """What is worth knowing of an error, without the error: holding it would keep its frames' locals alive.

    Taken in the thread that raised it; ``record`` does the slow part (source lines, redaction) anywhere.
    """

    __slots__ = ("_args", "_attributes", "_class", "_message", "_notes", "_trace", "_unsent")

    def __init__(self, error: BaseException) -> None:
        self._class = type(error)
        self._message = _text(error)
        # Through the base class: a subclass may have made something else of the name.
        given: tuple[Any, ...] = cast("Any", BaseException).args.__get__(error)
        held = {name: _cut(value) for name, value in {**_held(error), "args": list(map(_cut, given))}.items()}
        sent = {name: value for name, value in held.items() if not is_secret_name(name) and _is_json(value)}
        self._unsent = tuple(sorted(held.keys() - sent.keys()))
        self._args = tuple(sent.pop("args", ()))
        self._attributes = sent
        self._notes = tuple(map(str, _items(getattr(error, "__notes__", None))))
        innermost = _innermost(error.__traceback__)
        self._trace = traceback.TracebackException(
            type(error), error, innermost, lookup_lines=False, limit=-_FRAMES
        )  # the limit is for causes

    @property
    def given_up(self) -> bool:
        """See ``is_given_up``."""
        return type_name(self._class) in _GIVEN_UP

    def record(self, *, redact: Callable[[str], str] = str) -> ErrorRecord:
        """As ``record_error``."""
        whole = ErrorRecord(
            type=type_name(self._class),
            message=self._message[:_MESSAGE_LIMIT],
            args=self._args,
            attributes=self._attributes,
            unsent=self._unsent,
        )
        redacted = replace(
            whole,
            message=redact(self._message)[:_MESSAGE_LIMIT],
            args=tuple(_redacted(arg, redact) for arg in self._args),
            attributes=_redacted(self._attributes, redact),
            traceback=redact("".join(self._trace.format()))[-_TRACEBACK_LIMIT:],
            notes=tuple(map(redact, self._notes)),
        )
        return replace(redacted, message=self._retold(whole, redacted, redact))

    def _retold(self, whole: ErrorRecord, redacted: ErrorRecord, redact: Callable[[str], str]) -> str:
        """The redacted message; where the class makes its text of its parts, what it makes of the redacted ones.

        Redacting a text and redacting its parts hides other characters, and the caller raises the class only when it
        says there what it says here.
        """
        if redacted.message == whole.message or _told(self._class, whole) != whole.message:
            return redacted.message
        text = _told(self._class, redacted)
        return text if text and all(redact(part) == part for part in between_marks(text)) else redacted.message


def record_error(error: BaseException, *, redact: Callable[[str], str] = str) -> ErrorRecord:
    """Describe ``error`` for the wire; ``redact`` sees every text, which is then cut to 16 KiB (traceback 64)."""
    return SeenError(error).record(redact=redact)


def _innermost(trace: TracebackType | None) -> TracebackType | None:
    """The last ``_FRAMES`` of a traceback, before anybody asks each of its frames for its line."""
    start, length = trace, 0
    while trace is not None:
        length += 1
        if start is not None and length > _FRAMES:
            start = start.tb_next
        trace = trace.tb_next
    return start


def _held(error: BaseException) -> dict[str, Any]:
    """What an error has beside its arguments: attributes of its own, and what Python's classes keep apart."""
    members = {name: getattr(error, name, None) for name in _members_of(type(error))}
    attributes = {**vars(error), **{name: value for name, value in members.items() if value is not None}}
    attributes.pop("__notes__", None)
    return attributes


def rebuild_error(record: ErrorRecord) -> Exception:
    """The exception to raise at the caller."""
    error, why = _as_registered(record)
    if error is None:
        error = RemoteError(record.message, type_name=record.type, remote_traceback=record.traceback)
    for note in (*record.notes, why):
        if note:
            error.add_note(note)
    if record.traceback:
        error.add_note(f"Raised by the handler on the bus:\n{record.traceback}")
    return error


def _as_registered(record: ErrorRecord) -> tuple[Exception | None, str]:
    """The error as an object of its registered class, or why it cannot be one."""
    cls = _registered.get(record.type)
    if cls is None:
        return None, ""
    not_itself = f"not raised as {record.type}, which is registered here: "
    if record.unsent:
        return None, f"{not_itself}JSON cannot hold its {', '.join(record.unsent)}, or it is a secret's name"
    try:
        error = _remade(cls, record)
        text = str(error)[:_MESSAGE_LIMIT]
    except Exception as failure:
        return None, f"{not_itself}making one raised {type(failure).__name__}"
    if text != record.message:
        return None, f"{not_itself}it would say something else than it said there"
    return error, ""


def _told(cls: type[BaseException], record: ErrorRecord) -> str | None:
    """What an error of ``cls`` says that is made of ``record``; ``None`` when none can be made."""
    try:
        return str(_remade(cls, record))[:_MESSAGE_LIMIT]
    except Exception:  # the user's own code, which says its text in the way of its class, or not at all
        return None


def _remade(cls: type[X], record: ErrorRecord) -> X:
    """An error of ``cls`` by Python's own constructor: the class's own may do anything, and wants what we have not."""
    base: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    error: X = base.__new__(cls, *record.args)
    error.args = record.args  # a class of OSError's kind leaves them to its constructor
    members = _members_of(cls)
    for name, value in record.attributes.items():
        if name in members:
            setattr(error, name, value)
        else:
            vars(error)[name] = value  # never setattr: names come from the wire
    return error


def _members_of(cls: type[BaseException]) -> set[str]:
    """Attributes that are not in ``__dict__``: ``OSError.filename``, ``ImportError.name``, a class's ``__slots__``."""
    return {
        name
        for base in cls.__mro__
        if base not in (Exception, BaseException, object)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and (base, name) != (AttributeError, "obj")  # the object itself
    }


def _is_json(value: Any) -> bool:
    """Whether ``value`` comes back from JSON as it is, and is small enough."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return len(text) < _ATTRIBUTES_LIMIT and _is_exact(value)
    except (ValueError, TypeError, RecursionError):
        return False


def _is_exact(value: Any) -> bool:
    kind: Any = cast("Any", type(value))
    if kind is dict:
        return all(type(name) is str and not is_secret_name(name) and _is_exact(each) for name, each in value.items())
    if kind is list:
        return all(map(_is_exact, value))
    return (kind is int and value.bit_length() < _MAX_BITS) or kind in (str, bool, float, type(None))


def _cut(value: Any) -> Any:
    return value[:_MESSAGE_LIMIT] if type(value) is str else value


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Every text in ``value`` redacted and cut."""
    if isinstance(value, str):
        return redact(value)[:_MESSAGE_LIMIT]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {name: _redacted(member, redact) for name, member in members.items()}
    if isinstance(value, list):
        return [_redacted(item, redact) for item in _items(value)]
    return value


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<unprintable: {type(broken).__name__}>"


class NoAnswerError(CrossfadeError):
    """A body that asks somebody else got no answer.

    ``kind``: ``not-executed`` when that one was provably not asked, ``unknown`` when it may have begun. ``reason`` is
    for counting.
    """

    def __init__(self, message: str, *, kind: Literal["not-executed", "unknown"], reason: str) -> None:
        super().__init__(message)
        self.kind: Literal["not-executed", "unknown"] = kind
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One call's terminal as read from its result event. ``value`` is the still encoded ``{"value": ...}``.

    ``claim``: this process owns the call and may run its body, until ``expires`` of the broker's time. ``logged``: it
    was read, so whoever reads results knows of it, too; else only its caller does.
    """

    kind: OutcomeKind
    value: bytes = b""
    error: ErrorRecord | None = None
    reason: str = ""
    claim: Position | None = None
    expires: datetime | None = None
    logged: bool = False


def value_payload(encoded: bytes, *, handler: str, handler_ms: float, queue_ms: float | None = None) -> bytes:
    """The result payload of a value; ``encoded`` is ``{"value": ...}``, spliced in without decoding it."""
    head = json.dumps({"outcome": "value", "handler": handler, "timings": _timings(handler_ms, queue_ms)})
    return head[:-1].encode() + b"," + encoded[1:]


def error_payload(record: ErrorRecord, *, handler: str, handler_ms: float, queue_ms: float | None = None) -> bytes:
    """The result payload of a handler that raised."""
    payload = {
        "outcome": "error",
        "handler": handler,
        "timings": _timings(handler_ms, queue_ms),
        "error": record.to_json(),
    }
    return _dump(payload)


def _timings(handler_ms: float, queue_ms: float | None) -> dict[str, float]:
    timings = {"handler_ms": round(handler_ms, 3)}
    return timings if queue_ms is None else {**timings, "queue_ms": round(queue_ms, 3)}


def refusal_payload(kind: Literal["not-executed", "unknown"], *, reason: str, message: str = "") -> bytes:
    """The result payload of a call that did not run, or of which nobody can know."""
    return _dump({"outcome": kind, "reason": reason, "message": message})


def read_answer(data: bytes | None) -> Answer:
    """Read a result payload. Raises ``MalformedEventError`` (reason ``payload``)."""
    try:
        payload = json.loads(data or b"")
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"the result is no JSON: {error}", reason="payload") from None
    fields = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    kind = fields.get("outcome")
    if kind == "value":
        return Answer(kind="value", value=data or b"")
    if kind == "error":
        return Answer(kind="error", error=ErrorRecord.from_json(fields.get("error")))
    if kind in ("not-executed", "unknown"):
        return Answer(kind=kind, reason=str(fields.get("reason", "")), logged=True)
    raise MalformedEventError(f"the result has no outcome we know: {kind!r}", reason="payload")


def _dump(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace")
