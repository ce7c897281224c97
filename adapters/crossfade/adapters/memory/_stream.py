"""One family of subjects: what is stored, in which order, what is a duplicate, what no longer fits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from crossfade.shim.errors import BusFullError
from crossfade.shim.events import new_id
from crossfade.shim.subjects import matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

# Senders of new commands stop here, so that claims and results of what is under way always fit.
_COMMANDS_FULL_AT: Final = 0.8

Discard = Literal["new", "old"]

# As long as the NATS adapter's streams remember ids; counted from the first sight, a repeat does not extend it.
DUPLICATE_WINDOW: Final = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a message lies among the dead letters."""

    subject: str
    group: str
    reason: str
    detail: str
    attempts: int
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One stored message, as it came."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    data: bytes
    time: datetime
    rejection: Rejection | None = None

    @property
    def size(self) -> int:
        """Bytes it counts against the stream's limit."""
        return len(self.subject) + wire_size(self.headers, self.data)


def wire_size(headers: Mapping[str, str], data: bytes) -> int:
    """Bytes of headers and payload as the NATS protocol writes them, so that both buses refuse alike."""
    # "NATS/1.0\r\n", then "name: value\r\n" each, then an empty line
    return 12 + sum(len(name) + len(value) + 4 for name, value in headers.items()) + len(data)


class Stream:
    """An append-only log with a size limit, duplicate detection and an index of last messages by subject."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.max_bytes: int | None = None
        self.discard: Discard = "new"
        self.epoch = new_id()
        self.last_sequence = 0
        self._messages: OrderedDict[int, Message] = OrderedDict()
        self._bytes = 0
        self._last_of: dict[str, int] = {}
        self._ids: OrderedDict[str, tuple[int, datetime]] = OrderedDict()

    def append(
        self,
        subject: str,
        headers: Mapping[str, str],
        data: bytes,
        *,
        message_id: str,
        now: datetime,
        rejection: Rejection | None = None,
    ) -> tuple[int, bool]:
        """Store, and return the sequence and whether it was a duplicate. Raises ``BusFullError``."""
        self._forget_ids(now)
        if message_id in self._ids:
            return self._ids[message_id][0], True
        message = Message(
            sequence=self.last_sequence + 1, subject=subject, headers=headers, data=data, time=now, rejection=rejection
        )
        self._make_room(message)
        self.last_sequence = message.sequence
        self._messages[message.sequence] = message
        self._bytes += message.size
        self._last_of[subject] = message.sequence
        self._ids[message_id] = message.sequence, now
        return message.sequence, False

    @property
    def first_sequence(self) -> int:
        """The oldest message that is still there, or the next one to come."""
        return next(iter(self._messages), self.last_sequence + 1)

    def get(self, sequence: int) -> Message | None:
        """The message, or ``None`` when it was discarded."""
        return self._messages.get(sequence)

    def after(self, sequence: int, filters: Sequence[str]) -> Iterator[Message]:
        """What is stored behind ``sequence`` under any of ``filters``, in order."""
        for number in range(max(sequence + 1, self.first_sequence), self.last_sequence + 1):
            message = self._messages.get(number)
            if message is not None and any(matches(pattern, message.subject) for pattern in filters):
                yield message

    def last(self, pattern: str) -> Message | None:
        """The last message under ``pattern``."""
        found = [sequence for subject, sequence in self._last_of.items() if matches(pattern, subject)]
        return self._messages[max(found)] if found else None

    def _make_room(self, message: Message) -> None:
        if self.max_bytes is None:
            return
        room = self.max_bytes - self._bytes
        if message.subject.endswith(".invoke"):
            room -= int(self.max_bytes * (1 - _COMMANDS_FULL_AT))
        if message.size > room and (self.discard == "new" or message.size > self.max_bytes):
            raise BusFullError(
                f"{self.name} holds {self._bytes} of {self.max_bytes} bytes, {message.size} more do not fit; "
                "nothing was stored"
            )
        while self._bytes + message.size > self.max_bytes:
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        sequence, oldest = self._messages.popitem(last=False)
        self._bytes -= oldest.size
        if self._last_of[oldest.subject] == sequence:
            del self._last_of[oldest.subject]

    def _forget_ids(self, now: datetime) -> None:
        while self._ids:
            message_id, (_, seen) = next(iter(self._ids.items()))
            if now - seen <= DUPLICATE_WINDOW:
                return
            del self._ids[message_id]
