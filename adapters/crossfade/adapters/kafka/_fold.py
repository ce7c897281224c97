"""Which records of a topic count: every process folds the same rules over the same order, so all agree.

Rules
- A record whose event id was there within ``WINDOW`` is a duplicate of the first one.
- A record that was appended on a condition counts when the condition held at its own place in the order. So of
  several writers one wins, and nobody need ask who: the first record that meets the condition is the winner.
- The condition is judged before the id, and an append without ``unique`` is never a duplicate.
- Only what lies within ``HORIZON`` before a record decides about it, by the broker's time in the records themselves:
  what retention deletes or when a process began to read makes no difference to who has won.
- Who begins late judges what is ``RECENT``, and first collects the ids of some time before. A record that asks for more
  (``lacks``) is judged when the rest of the horizon was folded, too (``learn``).

What does not count is never shown to anybody: not read, not handed out, not last. No clock is read and nothing is
awaited here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.subjects import matches

if TYPE_CHECKING:
    from ._wire import Record

WINDOW: Final = 600_000  # milliseconds for which ids are remembered, as on NATS
RECENT: Final = 1_800_000  # milliseconds that a process judges when it begins; the horizon's rest it reads when asked
HORIZON: Final = 24 * 3_600_000  # milliseconds for which a call's ledger is known, as long as NATS keeps commands

SUBJECT: Final = "cf_subject"
LAST: Final = "cf_last"
AT: Final = "cf_at"
UNIQUE: Final = "cf_unique"
ID: Final = "cf_id"  # by which a record is recognised; without it its event's
_EVENT_ID: Final = "ce_id"

_CALL: Final = 7  # the token of a call's subject that is its id


@dataclass(frozen=True, slots=True)
class Hidden:
    """A record that does not count. ``original``: where the same event lies, ``None`` for an append that lost."""

    original: int | None


class Fold:
    """The state of the rules after the records up to here; ``calls``: whether to keep an index of calls."""

    def __init__(self, start: int, *, calls: bool, whole: bool = True) -> None:
        self.start = start  # what lies before is not judged: of what is added of it, only the ids matter
        self.whole = whole  # whether the index reaches back as far as the horizon, or what lies there
        self.hidden: dict[int, Hidden] = {}
        self._ids: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._doubtful: set[str] = set()  # those of a record whose condition is not judged
        self._calls: OrderedDict[str, list[tuple[str, int, int]]] | None = OrderedDict() if calls else None
        self._began = 0  # milliseconds: the time of the first record

    def add(self, record: Record) -> Hidden | None:
        """Judge the next record in order; ``None``: it counts."""
        self._forget(record.time)
        if record.offset < self.start:
            self._remember(record)
            return None
        self._began = self._began or record.time
        judged = self._judge(record)
        if judged is not None:
            self.hidden[record.offset] = judged
        return judged

    def _remember(self, record: Record) -> None:
        event = _id(record)
        if event is None or event in self._ids:
            return
        self._ids[event] = record.offset, record.time
        if record.header(LAST) is not None:
            self._doubtful.add(event)

    def _judge(self, record: Record) -> Hidden | None:
        subject = record.header(SUBJECT) or ""
        condition = record.header(LAST)
        if condition is not None and not self._holds(condition, record):
            return Hidden(None)
        event = _id(record)
        if event is not None:
            first = self._ids.get(event)
            if first is not None:
                return Hidden(first[0])
            self._ids[event] = record.offset, record.time
        self._index(subject, record)
        return None

    def _holds(self, condition: str, record: Record) -> bool:
        wanted = record.header(AT) or ""
        found = self.last(condition, record.time)
        if not wanted:
            return found is None
        if found is None and int(wanted) < self.start:
            # Known only to those who began earlier. To them it holds while the event is within the horizon.
            return record.time - self._began < HORIZON
        return found == int(wanted)

    def lacks(self, record: Record) -> bool:
        """Whether to judge ``record`` takes what lies before ``start``."""
        if self.whole or record.offset < self.start or record.time - (self._began or record.time) >= HORIZON:
            return False
        if self._doubtful and _id(record) in self._doubtful:
            return True
        condition = record.header(LAST)
        if condition is None:
            return False
        wanted = record.header(AT) or ""
        return (not wanted or int(wanted) < self.start) and self.last(condition, record.time) is None

    def learn(self, past: Fold) -> None:
        """Know what ``past`` knows of all that lies before ``start``."""
        self.whole = True
        self.hidden = {**past.hidden, **self.hidden}
        start, self.start = self.start, min(self.start, past.start)
        self._began = past._began or self._began
        self._doubtful.clear()
        ids, self._ids = self._ids, past._ids
        for event, (offset, time) in ids.items():
            if offset >= start:
                self._ids.pop(event, None)
                self._ids[event] = offset, time
        if self._calls is None or past._calls is None:
            return
        known, self._calls = self._calls, past._calls  # the older ones first: they are forgotten in this order
        for call, entries in known.items():
            newer = {subject for subject, _, _ in entries}
            older = [entry for entry in self._calls.pop(call, ()) if entry[0] not in newer]
            self._calls[call] = [*older, *entries]

    def last(self, pattern: str, now: int) -> int | None:
        """The offset of the last event under a filter that names its call, at ``now`` (milliseconds)."""
        call = call_of(pattern)
        if self._calls is None or call is None:
            return None
        found = [
            offset
            for subject, offset, time in self._calls.get(call, ())
            if time > now - HORIZON and matches(pattern, subject)
        ]
        return max(found, default=None)

    def _index(self, subject: str, record: Record) -> None:
        call = call_of(subject)
        if self._calls is None or call is None:
            return
        kept = [entry for entry in self._calls.pop(call, ()) if entry[0] != subject]
        self._calls[call] = [*kept, (subject, record.offset, record.time)]

    def _forget(self, now: int) -> None:
        while self._ids:
            event, (_, seen) = next(iter(self._ids.items()))
            if now - seen <= WINDOW:
                break
            del self._ids[event]
            self._doubtful.discard(event)
        while self._calls:
            call, entries = next(iter(self._calls.items()))
            if now - entries[-1][2] <= HORIZON:
                break
            del self._calls[call]


def _id(record: Record) -> str | None:
    """By what a copy of the record is known; ``None`` for those of which copies count as any other."""
    if record.header(LAST) is not None and record.header(UNIQUE) is None:
        return None
    return record.header(ID) or record.header(_EVENT_ID)


def call_of(pattern: str) -> str | None:
    """The call that a subject or filter is about, ``None`` when it does not name one."""
    parts = pattern.split(".", _CALL + 1)
    if len(parts) <= _CALL + 1 or parts[_CALL] in ("*", ">") or ">" in parts[:_CALL]:
        return None
    return parts[_CALL]
