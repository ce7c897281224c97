"""Failures on demand: which operation fails next, which is slow, how many replies get lost."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from crossfade.shim.errors import BusError

Operation = Literal[
    "append",
    "open", "publish", "emit", "next", "ack", "retry", "reject", "extend", "read", "last", "extent", "get", "create",
    "update", "put", "delete", "entries", "watch", "put_object", "get_object", "listen", "reply",
    "dead_letters", "reap",
]  # fmt: skip
"""The methods of the port, by name."""


class Fault(NamedTuple):
    """One failure to come: ``after``, the operation happens first."""

    error: BusError
    after: bool


class Faults:
    """What is going to go wrong on one broker."""

    def __init__(self) -> None:
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._delays: dict[str, float] = {}
        self.replies_to_lose = 0

    def add(self, operation: Operation, fault: Fault) -> None:
        """Let the operation fail once, behind the failures already planned for it."""
        self._next[operation].append(fault)

    def take(self, operation: Operation) -> Fault | None:
        """The failure planned for this one, which is thereby used up."""
        planned = self._next.get(operation)
        return planned.popleft() if planned else None

    def slow(self, operation: Operation, seconds: float) -> None:
        """Let every answer of the operation take this long; 0 ends it."""
        self._delays[operation] = seconds

    def delay(self, operation: Operation) -> float:
        """Seconds the operation's answer takes."""
        return self._delays.get(operation, 0.0)

    def loses_reply(self) -> bool:
        """Whether this reply is one of those to lose."""
        if not self.replies_to_lose:
            return False
        self.replies_to_lose -= 1
        return True
