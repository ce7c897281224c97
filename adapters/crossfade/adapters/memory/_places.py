"""Stored messages as the port shows them: positions, events, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.shim.bindings import from_nats
from crossfade.shim.errors import ConfigurationError, MalformedEventError
from crossfade.shim.ports import DeadLetter, Extent, Position, Stored

if TYPE_CHECKING:
    from ._stream import Message, Rejection, Stream


def position(stream: Stream, sequence: int) -> Position:
    """Where a message lies: ``stream:sequence``."""
    return Position(f"{stream.name}:{sequence}")


def sequence_of(stream: Stream, place: Position) -> int:
    """The inverse of ``position``. Raises ``ConfigurationError`` for a position of another stream."""
    name, _, sequence = place.partition(":")
    if name != stream.name or not sequence.isdecimal():
        raise ConfigurationError(f"{place!r} is no position in {stream.name}", where="after")
    return int(sequence)


def extent(stream: Stream, after: Position | None) -> Extent:
    """How far a stream reaches."""
    try:
        start = sequence_of(stream, after) if after is not None else 0
    except ConfigurationError:
        start = -1
    whole = stream.first_sequence - 1 <= start <= stream.last_sequence
    return Extent(epoch=stream.epoch, last=position(stream, stream.last_sequence), whole=whole)


def stored(stream: Stream, message: Message) -> Stored:
    """What the port hands out. Raises ``MalformedEventError``."""
    return Stored(
        subject=message.subject,
        event=from_nats(message.headers, message.data),
        position=position(stream, message.sequence),
        time=message.time,
    )


def dead_letter(stream: Stream, message: Message, rejection: Rejection) -> DeadLetter:
    """A message of the dead letters' stream as the port hands it out."""
    try:
        event = from_nats(message.headers, message.data)
    except MalformedEventError:
        event = None  # counted and given its reason when it was buried
    return DeadLetter(
        position=position(stream, message.sequence),
        time=message.time,
        subject=rejection.subject,
        group=rejection.group,
        reason=rejection.reason,
        detail=rejection.detail,
        attempts=rejection.attempts,
        origin=Position(rejection.origin),
        event=event,
        headers=message.headers,
        data=message.data,
    )
