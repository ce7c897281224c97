"""Who was handed what: the consumer groups of an installation, as a state that all processes agree on.

Kafka's own consumer groups hand out partitions, so one slow handler holds up all events behind it, a silent member
keeps what it has, and more workers than partitions are idle. Here a member *proposes* to take named events, and the
order of the proposals decides: the first one that fits wins. An event is *new* (at or behind the cursor), *out* (with a
member until ``due``), *waiting* (to be handed out again at ``due``) or *ended*.

Rules
- New events are taken in their order: a proposal for one that lies before the cursor comes too late.
- Only new events are held back by ``max_in_flight``; out and waiting ones count.
- What is due may be taken by anybody, with the next attempt's number, up to ``max_deliver``. ``due`` is judged by the
  broker's time in the records. A member judges its own lease from before it asked, so it gives up first.
- An attempt's number fences: a word about an attempt that is not the last one changes nothing.

Times are milliseconds; nothing is awaited here.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._journal import Operation

_SEEN: Final = 30_000  # milliseconds after its last word that a member counts as waiting for work


@dataclass(slots=True)
class Pending:
    """An event that was handed out and has not ended."""

    attempt: int
    due: int
    member: str
    out: bool


@dataclass(slots=True)
class Group:
    """The state of one group."""

    filters: Sequence[str]
    ack_wait: int
    max_in_flight: int
    max_deliver: int
    cursor: int
    pending: dict[int, Pending] = field(default_factory=dict)
    members: dict[str, tuple[int, int]] = field(default_factory=dict)  # places free, and when it said so

    def take(self, member: str, wanted: Iterable[tuple[int, int]], now: int) -> list[tuple[int, int]]:
        """Hand out what of ``wanted`` (offset, attempt) may be; what was."""
        taken: list[tuple[int, int]] = []
        for offset, attempt in wanted:
            if self._is_new(offset, attempt) or self._is_due(offset, attempt, now):
                self.pending[offset] = Pending(attempt, now + self.ack_wait, member, out=True)
                self.cursor = max(self.cursor, offset + 1)
                taken.append((offset, attempt))
        return taken

    def _is_new(self, offset: int, attempt: int) -> bool:
        return attempt == 1 and offset >= self.cursor and len(self.pending) < self.max_in_flight

    def _is_due(self, offset: int, attempt: int, now: int) -> bool:
        pending = self.pending.get(offset)
        return (
            pending is not None
            and pending.attempt == attempt - 1
            and pending.due <= now
            and attempt <= self.max_deliver
        )

    def leave(self, member: str, now: int) -> None:
        """Let others have at once what ``member`` held."""
        self.members.pop(member, None)
        for pending in self.pending.values():
            if pending.out and pending.member == member:
                pending.due, pending.out = now, False

    def exhausted(self, now: int) -> list[tuple[int, int]]:
        """What was handed out as often as it may be, without being ended."""
        return [
            (offset, pending.attempt)
            for offset, pending in sorted(self.pending.items())
            if pending.due <= now and pending.attempt >= self.max_deliver
        ]

    def ready(self, now: int) -> list[tuple[int, int]]:
        """What came back, the longest due first, with the attempt it would be."""
        found = [
            (pending.due, offset, pending.attempt + 1)
            for offset, pending in self.pending.items()
            if pending.due <= now and pending.attempt < self.max_deliver
        ]
        return [(offset, attempt) for _, offset, attempt in sorted(found)]

    def wakes_at(self) -> int | None:
        """When the next one comes back."""
        dues = [pending.due for pending in self.pending.values() if pending.attempt < self.max_deliver]
        return min(dues, default=None)

    def waiting(self, now: int) -> list[str]:
        """The members that have room, as far as they said, in an order that all agree on."""
        return sorted(name for name, (room, seen) in self.members.items() if room > 0 and now - seen < _SEEN)


class Groups:
    """Every group by its topic and name; see ``State`` of the journal."""

    def __init__(self) -> None:
        self.all: dict[str, Group] = {}
        self.words: Counter[str] = Counter()  # by group, as this process heard them: who follows one skips the others'

    def apply(self, operation: Operation, value: bytes, *, offset: int, time: int) -> Any:  # noqa: ARG002 - the journal's
        """See ``State.apply``; an operation nobody knows is of a later version, and changes nothing."""
        name, member, act = operation.get("g", ""), operation.get("m", ""), operation.get("do")
        if act == "join":
            self._join(name, operation)
        group = self.all.get(name)
        if group is None:
            return None
        self.words[name] += 1
        if "room" in operation:
            group.members[member] = (operation["room"], time)
        if act == "take":
            return group.take(member, [(at, attempt) for at, attempt in operation["events"]], time)
        if act == "leave":
            return group.leave(member, time)
        if act == "pass":
            group.cursor = max(group.cursor, operation["to"])
            return None
        return self._word(group, operation, time) if act in ("ack", "retry", "extend") else None

    def _join(self, name: str, operation: Operation) -> None:
        """The last member's filters and options hold for all; where a group began is not changed."""
        known = self.all.get(name)
        group = Group(
            filters=operation["filters"],
            ack_wait=operation["ack_wait"],
            max_in_flight=operation["max_in_flight"],
            max_deliver=operation["max_deliver"],
            cursor=operation["start"],
        )
        if known is not None:
            group.cursor, group.pending, group.members = known.cursor, known.pending, known.members
        self.all[name] = group

    @staticmethod
    def _word(group: Group, operation: Operation, time: int) -> bool:
        """What a member says of an attempt; whether it was still the last one."""
        offset, attempt, act = operation["at"], operation["attempt"], operation["do"]
        pending = group.pending.get(offset)
        if pending is None or pending.attempt != attempt or not (pending.out or operation.get("reaped")):
            return False
        if act == "ack":
            del group.pending[offset]
        elif act == "retry":
            group.pending[offset] = Pending(attempt, time + operation["delay"], "", out=False)
        else:
            pending.due = time + group.ack_wait
        return True

    def dump(self) -> Iterable[tuple[Operation, bytes]]:
        """See ``State.dump``."""
        for name, group in self.all.items():
            yield {"group": name}, json.dumps(asdict(group)).encode()

    def load(self, parts: Iterable[tuple[Operation, bytes]]) -> None:
        """See ``State.load``."""
        for part, value in parts:
            if "group" not in part:
                continue
            found = json.loads(value)
            found["pending"] = {int(offset): Pending(**pending) for offset, pending in found["pending"].items()}
            found["members"] = {name: (room, seen) for name, (room, seen) in found["members"].items()}
            self.all[part["group"]] = Group(**found)
