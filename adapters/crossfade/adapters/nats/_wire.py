"""The parts of JetStream's wire format that more than one concern reads."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.bindings import from_nats
from crossfade.shim.errors import BusRefusedError
from crossfade.shim.ports import Position, Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._connection import Message

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HEADER_LINE: Final = b"NATS/1.0"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the reply subject of a delivered message says (ADR-15)."""

    stream: str
    consumer: str
    delivered: int
    stream_seq: int
    consumer_seq: int
    time: datetime
    pending: int


def metadata(reply: str) -> Metadata:
    """Read ``$JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.token]``."""
    parts = reply.split(".")
    if len(parts) >= 11:
        parts = parts[4:11]
    elif len(parts) == 9:
        parts = parts[2:]
    else:
        raise BusRefusedError(f"{reply!r} is no acknowledgement address")
    stream, consumer, delivered, stream_seq, consumer_seq, nanoseconds, pending = parts
    return Metadata(
        stream=stream,
        consumer=consumer,
        delivered=int(delivered),
        stream_seq=int(stream_seq),
        consumer_seq=int(consumer_seq),
        time=_EPOCH + timedelta(microseconds=int(nanoseconds) // 1000),
        pending=int(pending),
    )


@dataclass(frozen=True, slots=True)
class Raw:
    """A stored message as STREAM.MSG.GET returns it."""

    subject: str
    sequence: int
    time: datetime
    headers: dict[str, str] | None
    data: bytes


def raw(message: Mapping[str, Any]) -> Raw:
    """Decode the ``message`` object of a STREAM.MSG.GET answer."""
    return Raw(
        subject=message["subject"],
        sequence=int(message["seq"]),
        time=timestamp(message["time"]),
        headers=parse_headers(base64.b64decode(message["hdrs"]).removeprefix(_HEADER_LINE))
        if message.get("hdrs")
        else None,
        data=base64.b64decode(message.get("data") or b""),
    )


def parse_headers(block: bytes) -> dict[str, str]:
    """Read ``name: value`` lines; a name that is none (with a space in it) is left out, as by nats-py."""
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.strip(" \t")
        if colon and name and name.isascii() and " " not in name and "\t" not in name:
            headers[name] = value.strip(" \t")
    return headers


def timestamp(text: str) -> datetime:
    """Read Go's RFC 3339 with up to nine digits of seconds; the last three are cut off."""
    head, dot, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}{dot}{fraction[:6]:0<6}" if dot else head).replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """The form the server reads."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def decode(message: Message, meta: Metadata) -> Stored:
    """A delivered message as a stored event; raises ``MalformedEventError``."""
    return Stored(
        subject=message.subject,
        event=from_nats(message.headers, message.data),
        position=position(meta.stream_seq),
        time=meta.time,
    )


def position(sequence: int) -> Position:
    """A stream sequence as the port's opaque position."""
    return Position(str(sequence))


def status(message: Message) -> tuple[int, str] | None:
    """Code and description of a status message, or ``None`` for one with content of its own."""
    headers = message.headers
    if not headers or message.data or message.reply.startswith("$JS.ACK"):
        return None
    code = headers.get("Status", "")
    return (int(code), headers.get("Description", "")) if code.isdigit() else None
