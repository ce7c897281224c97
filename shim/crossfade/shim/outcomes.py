"""How a call ended, and how an error crosses the bus: as text and data, never as a class name to import.

An error is raised as its own class at the caller only when that class is registered there, or is one of
Python's own exceptions; any other arrives as ``RemoteError``. (Rebuilding classes by name from the wire is
remote code execution: CVE-2021-23727.)
"""

from __future__ import annotations

import builtins
import json
import math
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from .errors import MalformedEventError, RemoteError, Retry, UnserialisableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .ports import Position

E = TypeVar("E", bound=type[Exception])

OutcomeKind = Literal["value", "error", "not-executed", "unknown"]
"""The four terminals of a call."""

_MESSAGE_LIMIT: Final = 16 * 1024
_TRACEBACK_LIMIT: Final = 64 * 1024
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

    The class is rebuilt as ``cls(*args)`` with JSON arguments; when that fails the caller gets ``RemoteError``.
    """
    _registered[type_name(cls)] = cls
    return cls


def type_name(cls: type[BaseException]) -> str:
    """The name an error travels under: ``ValueError`` for Python's own, else ``package.module.Class``."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


register_error(UnserialisableError)  # a result that cannot be written
register_error(Retry)  # a handler that asked once too often


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRecord:
    """An error as it travels. ``args`` are JSON values, empty when the error's own were not."""

    type: str
    message: str
    args: tuple[Any, ...] = ()
    traceback: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The payload's ``error`` member."""
        return {
            "type": self.type,
            "message": self.message,
            "args": list(self.args),
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
            traceback=str(record.get("traceback", "")),
            notes=tuple(map(str, _items(record.get("notes")))),
        )


class SeenError:
    """What is worth knowing of an error, without the error: holding it would keep its frames' locals alive.

    Taken in the thread that raised it; ``record`` does the slow part (source lines, redaction) anywhere.
    """

    __slots__ = ("_args", "_message", "_notes", "_trace", "_type")

    def __init__(self, error: BaseException) -> None:
        self._type = type_name(type(error))
        self._message = _text(error)
        self._args: tuple[Any, ...] = error.args if all(map(_is_json, error.args)) else ()
        self._notes = tuple(map(str, getattr(error, "__notes__", ())))
        self._trace = traceback.TracebackException.from_exception(error, lookup_lines=False)

    def record(self, *, redact: Callable[[str], str] = str) -> ErrorRecord:
        """As ``record_error``."""
        return ErrorRecord(
            type=self._type,
            message=redact(self._message)[:_MESSAGE_LIMIT],
            args=tuple(redact(arg)[:_MESSAGE_LIMIT] if isinstance(arg, str) else arg for arg in self._args),
            traceback=redact("".join(self._trace.format()))[-_TRACEBACK_LIMIT:],
            notes=tuple(map(redact, self._notes)),
        )


def record_error(error: BaseException, *, redact: Callable[[str], str] = str) -> ErrorRecord:
    """Describe ``error`` for the wire; ``redact`` sees every text, which is then cut to 16 KiB (traceback 64)."""
    return SeenError(error).record(redact=redact)


def _is_json(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() < _MAX_BITS
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def rebuild_error(record: ErrorRecord) -> Exception:
    """The exception to raise at the caller."""
    error = _as_registered(record) or RemoteError(
        record.message, type_name=record.type, remote_traceback=record.traceback
    )
    for note in record.notes:
        error.add_note(note)
    if record.traceback:
        error.add_note(f"Raised by the handler on the bus:\n{record.traceback}")
    return error


def _as_registered(record: ErrorRecord) -> Exception | None:
    cls = _registered.get(record.type)
    if cls is None:
        return None
    try:
        error = cls(*record.args)
    except Exception:
        return None  # the caller gets RemoteError, which carries everything
    # A class whose arguments were not JSON would come back empty: better the generic class with its message.
    return error if record.args or not record.message else None


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<unprintable: {type(broken).__name__}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One call's terminal as read from its result event. ``value`` is the still encoded ``{"value": ...}``.

    ``claim``: this process owns the call and may run its body, until ``expires`` of the broker's time.
    """

    kind: OutcomeKind
    value: bytes = b""
    error: ErrorRecord | None = None
    reason: str = ""
    claim: Position | None = None
    expires: datetime | None = None


def value_payload(encoded: bytes, *, handler: str, handler_ms: float) -> bytes:
    """The result payload of a value; ``encoded`` is ``{"value": ...}``, spliced in without decoding it."""
    head = json.dumps({"outcome": "value", "handler": handler, "timings": {"handler_ms": round(handler_ms, 3)}})
    return head[:-1].encode() + b"," + encoded[1:]


def error_payload(record: ErrorRecord, *, handler: str, handler_ms: float) -> bytes:
    """The result payload of a handler that raised."""
    payload = {
        "outcome": "error",
        "handler": handler,
        "timings": {"handler_ms": round(handler_ms, 3)},
        "error": record.to_json(),
    }
    return _dump(payload)


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
        return Answer(kind=kind, reason=str(fields.get("reason", "")))
    raise MalformedEventError(f"the result has no outcome we know: {kind!r}", reason="payload")


def _dump(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace")
