"""W3C Trace Context and Baggage: what links an event to the trace of the call that caused it.

Text from outside is read as the recommendations say: an unreadable ``traceparent`` or ``tracestate`` counts as
absent, an unreadable member of ``baggage`` is left out. What is written is always valid and within the limits.

Sources: W3C Trace Context level 1 (2021-11-23) 3.2 and 3.3; W3C Baggage (2024) 3.3. Stdlib only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TRACESTATE: Final = 512  # characters every hop must be able to carry (3.3.1.5)
MAX_TRACESTATE_MEMBERS: Final = 32
MAX_BAGGAGE: Final = 8192  # bytes, and
MAX_BAGGAGE_MEMBERS: Final = 64  # what every hop must be able to carry (Baggage 3.3.2)

_LARGE_MEMBER: Final = 128  # tracestate members above this go first when it is too long (3.3.1.5)
_SAMPLED: Final = 0x01

_parent = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.DOTALL).match
_state_key = re.compile(r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})\Z").match
_state_value = re.compile(r"[ -+\--<>-~]{0,255}[!-+\--<>-~]\Z").match
_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z").match
_octets = re.compile(r"[!#-+\--:<-\[\]-~]*\Z").match
_SAFE_OCTETS: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"  # baggage-octet without %


# -- traceparent -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Where in which trace we are: 32 and 16 lower-case hex digits, neither all zero."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(text: str) -> TraceParent | None:
    """The parent in ``text``, or ``None`` when it is not valid; a higher version is read as far as we know it."""
    found = _parent(text)
    if not found:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, sampled=bool(int(flags, 16) & _SAMPLED))


def new_trace(*, sampled: bool = True) -> TraceParent:
    """The start of a trace of its own."""
    return TraceParent(_random_hex(16), _random_hex(8), sampled=sampled)


def child(parent: TraceParent) -> TraceParent:
    """A new span in the parent's trace, sampled as the parent is."""
    return replace(parent, span_id=_random_hex(8))


def _random_hex(size: int) -> str:
    value = os.urandom(size).hex()
    return value if value.strip("0") else _random_hex(size)


# -- tracestate --------------------------------------------------------------------------------------------------


def parse_tracestate(text: str) -> tuple[tuple[str, str], ...]:
    """The vendors' members, newest first; empty when anything in it is not valid (3.3.1: discard it whole)."""
    members: dict[str, str] = {}
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        key, _, value = member.partition("=")
        if key in members or not _state_key(key) or not _state_value(value):
            return ()
        members[key] = value
    return tuple(members.items()) if len(members) <= MAX_TRACESTATE_MEMBERS else ()


def format_tracestate(members: Sequence[tuple[str, str]]) -> str:
    """``members`` as one header, within 512 characters: large members go first, then the oldest."""
    parts = [f"{key}={value}" for key, value in members][:MAX_TRACESTATE_MEMBERS]
    if len(",".join(parts)) > MAX_TRACESTATE:
        parts = [part for part in parts if len(part) <= _LARGE_MEMBER]
    while len(",".join(parts)) > MAX_TRACESTATE:
        parts.pop()
    return ",".join(parts)


# -- baggage -----------------------------------------------------------------------------------------------------


def parse_baggage(text: str) -> tuple[dict[str, str], int]:
    """The members in ``text`` with decoded values, and how many were left out.

    Left out: members that are not valid, members beyond the limits, and members' properties (each counts one),
    which nothing here could carry on. Of two members with one name the last wins.
    """
    members: dict[str, str] = {}
    lost = size = 0
    for part in text.split(","):
        member, _, properties = part.partition(";")
        key, equals, raw = member.partition("=")
        value = _decode(raw.strip(" \t"))
        size += len(part) + 1
        if not equals or value is None or not _token(key.strip(" \t")) or not _fits(members, size):
            lost += 1 if part.strip(" \t") else 0
            continue
        lost += 1 if properties.strip(" \t") else 0
        members[key.strip(" \t")] = value
    return members, lost


def format_baggage(members: Mapping[str, str]) -> str:
    """``members`` as one header. Raises ``ValueError`` naming what does not fit in one."""
    if len(members) > MAX_BAGGAGE_MEMBERS:
        raise ValueError(f"baggage has {len(members)} members, {MAX_BAGGAGE_MEMBERS} at most")
    for key, value in members.items():
        if not _token(key):
            raise ValueError(f"{key!r} is no baggage name: use letters, digits and -_.~")
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass numbers
            raise ValueError(f"baggage {key!r} must be text, not {type(value).__name__}")  # noqa: TRY004
    text = ",".join(f"{key}={quote(value, safe=_SAFE_OCTETS)}" for key, value in members.items())
    if len(text) > MAX_BAGGAGE:
        raise ValueError(f"baggage takes {len(text)} bytes, {MAX_BAGGAGE} at most")
    return text


def _decode(raw: str) -> str | None:
    if not _octets(raw):
        return None
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None


def _fits(members: Mapping[str, str], size: int) -> bool:
    return len(members) < MAX_BAGGAGE_MEMBERS and size - 1 <= MAX_BAGGAGE
