"""The envelope every event travels in: CloudEvents 1.0, with the attributes crossfade adds.

Source: CloudEvents core specification 1.0.2; attribute names are lower-case letters and digits. Values of
extension attributes are text here and on the wire. Stdlib only, because the observe path builds these.
"""

from __future__ import annotations

import hashlib
import os
import re
import time as _time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from .errors import MalformedEventError

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEC_VERSION: Final = "1.0"

# CloudEvents' own extensions first, then ours (tenantid ...). The wire carries no other.
EXTENSIONS: Final = (
    "correlationid",
    "causationid",
    "partitionkey",
    "dataref",
    "expirytime",
    "recordedtime",
    "traceparent",
    "tracestate",
    "baggage",
    "tenantid",
    "userid",
    "sessionid",
    "seam",
    "callid",
    "attempt",
    "path",
    "policyrev",
    "replyto",
    "guarded",
    "task",
    "pins",
    "depth",
    "obsseq",
    "replayof",
    "sealed",
    "build",
)

Kind = Literal["command", "answer", "progress", "observation", "fact"]

# Only commands are executed; everything else is a fact anyone may subscribe to.
TYPES: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "tool.invoke": "command",
        "tool.result": "answer",
        "tool.progress": "progress",
        "tool.observed": "observation",
        "agent.task.started": "command",
        "agent.task.completed": "answer",
        "agent.task.failed": "answer",
        "agent.task.cancelled": "answer",
        "agent.task.progress": "progress",
        "agent.task.observed": "observation",
        "http.request": "command",
        "http.response": "answer",
        "http.chunk": "progress",
        "http.observed": "observation",
        "email.received": "fact",
        "webhook.received": "fact",
        "schedule.fired": "fact",
        "file.created": "fact",
        "device.reported": "fact",
        "workflow.started": "fact",
        "workflow.advanced": "fact",
        "workflow.completed": "fact",
        "workflow.failed": "fact",
        "workflow.shown": "fact",
        "workflow.signalled": "fact",
        "seam.compared": "fact",
        "seam.stage.changed": "fact",
        "seam.unblocked": "fact",
        "seam.rollback.requested": "fact",
        "seam.skipped": "fact",
        "call.claimed": "fact",
        "call.started": "fact",
        "call.ended": "fact",
        "call.deadlettered": "fact",
    }
)

_NO_EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType({})
_KNOWN: Final = frozenset(EXTENSIONS)
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}\Z")
_CORE: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"}
)


def new_id() -> str:
    """A fresh event or call id: UUID version 7 (RFC 9562) as 32 hex digits, so ids sort by time."""
    milliseconds = _time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | tail
    value = value & ~(0xF000 << 64) | 0x7000 << 64
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    return f"{value:032x}"


_NAMESPACE: Final = uuid.UUID("6f0e3c52-3f5b-5d6e-9c1d-0d9f5a6b7c81")


def derived_id(*parts: str) -> str:
    """The id of an event that a retry must not double: UUID version 5 of ``parts``, as 32 hex digits.

    The same parts give the same id in every process; parts are separated and may be any text, so ``("a", "bc")``
    and ``("ab", "c")`` differ.
    """
    name = "\x1f".join(part.replace("\x1e", "\x1e\x1e").replace("\x1f", "\x1e_") for part in parts)
    # uuid.uuid5 itself refuses half a surrogate pair, which an outside key may hold.
    digest = hashlib.sha1(_NAMESPACE.bytes + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5).hex


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event. ``data`` is the encoded payload (JSON text as UTF-8 bytes) or ``None`` for none.

    Raises ``MalformedEventError`` (reason ``attributes``) when a required attribute is empty, a name is not a
    CloudEvents name, or ``time`` has no zone.
    """

    type: str
    source: str
    id: str = field(default_factory=new_id)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    subject: str | None = None
    datacontenttype: str = "application/json"
    dataschema: str | None = None
    extensions: Mapping[str, str] = field(default_factory=lambda: _NO_EXTENSIONS)
    data: bytes | None = None

    def __post_init__(self) -> None:
        for name in ("type", "source", "id"):
            if not getattr(self, name):
                raise MalformedEventError(f"attribute {name!r} is empty", reason="attributes")
        if self.time.tzinfo is None:
            raise MalformedEventError("attribute 'time' has no zone", reason="attributes")
        for name in self.extensions:
            if name not in _KNOWN and (name in _CORE or not _ATTRIBUTE.match(name)):
                raise MalformedEventError(
                    f"{name!r} is no extension attribute name: use a-z and 0-9, 20 at most",
                    reason="attributes",
                )

    def get(self, name: str) -> str | None:
        """The extension attribute ``name``, or ``None``."""
        return self.extensions.get(name)

    def with_extensions(self, **changes: str) -> Event:
        """A copy with these extension attributes set."""
        return replace(self, extensions={**self.extensions, **changes})
