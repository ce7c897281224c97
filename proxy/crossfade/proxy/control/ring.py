"""The last events of every user, in memory, in the order of the bus: what live tails and short absences read.

Numbers grow by one with each event and belong to this process; positions are the bus's. Bounded by count and bytes:
the oldest go first, and ``floor`` says how far back the ring reaches.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade.shim.ports import Position

Owner = tuple[str, str]
"""Tenant and user, as subject tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One event as it is shown. ``data`` is the JSON that browsers get."""

    number: int
    position: Position
    kind: str
    callid: str
    data: bytes


class Ring:
    """Holds at most ``events`` entries and ``size`` bytes of data."""

    def __init__(self, *, events: int = 20_000, size: int = 32 * 1024 * 1024) -> None:
        self._limit, self._size_limit = events, size
        self._of: dict[Owner, deque[Entry]] = {}
        self._order: deque[Owner] = deque()
        self._numbers: dict[Position, int] = {}
        self._bytes = 0
        self.last = 0
        self.floor = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, owner: Owner, position: Position, *, kind: str, callid: str, data: bytes) -> None:
        """Keep an event, and forget the oldest when there are too many."""
        self.last += 1
        entry = Entry(number=self.last, position=position, kind=kind, callid=callid, data=data)
        self._of.setdefault(owner, deque()).append(entry)
        self._order.append(owner)
        self._numbers[position] = entry.number
        self._bytes += len(data)
        while len(self._order) > self._limit or (self._bytes > self._size_limit and len(self._order) > 1):
            self._forget()

    def after(self, owner: Owner, number: int) -> list[Entry]:
        """The owner's events behind ``number``, oldest first."""
        newest = takewhile(lambda entry: entry.number > number, reversed(self._of.get(owner, ())))
        return list(newest)[::-1]

    def number_of(self, position: Position) -> int | None:
        """Where an event of this position stands here; ``None`` when it is not here."""
        return self._numbers.get(position)

    def clear(self) -> None:
        """Forget everything; numbers go on."""
        while self._order:
            self._forget()

    def _forget(self) -> None:
        owner = self._order.popleft()
        entries = self._of[owner]
        entry = entries.popleft()
        if not entries:
            del self._of[owner]
        del self._numbers[entry.position]
        self._bytes -= len(entry.data)
        self.floor = entry.number
