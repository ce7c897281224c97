"""A durable consumer group: what is out with whom, when it comes back, when it is given up.

A message is *new* (behind the cursor), *out* (handed to a member until ``due``), *waiting* (to be handed out
again at ``due``), *exhausted* (handed out ``max_deliver`` times, waits for ``reap``) or *ended*. Out and waiting
ones both count against ``max_in_flight``, and only new ones are held back by it, as on NATS.

Every method takes ``now``, seconds of a monotonic clock: no clock is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.shim.ports import ConsumeOptions

    from ._stream import Message, Stream


@dataclass(slots=True)
class _Pending:
    attempt: int
    due: float
    out: bool


class Group:
    """The state of one group over one stream; an attempt number fences its hand-out against later ones."""

    def __init__(self, stream: Stream, filters: Sequence[str], options: ConsumeOptions) -> None:
        self.stream = stream
        self.filters = tuple(filters)
        self.options = options
        self.cursor = stream.last_sequence if options.start == "new" else 0
        self.lost = 0  # handed out before, then discarded from the stream by its size limit
        self._pending: dict[int, _Pending] = {}
        self._exhausted: dict[int, int] = {}

    def take(self, now: float) -> tuple[Message, int] | None:
        """Hand out the next message with its attempt number: what came back first, else a new one."""
        while (sequence := self._next_due(now)) is not None:
            pending = self._pending[sequence]
            if pending.attempt >= self.options.max_deliver:
                self._exhausted[sequence] = self._pending.pop(sequence).attempt
                continue
            message = self.stream.get(sequence)
            if message is None:
                del self._pending[sequence]
                self.lost += 1
                continue
            self._pending[sequence] = _Pending(pending.attempt + 1, now + self.options.ack_wait, out=True)
            return message, pending.attempt + 1
        if len(self._pending) >= self.options.max_in_flight:
            return None
        return self._take_new(now)

    def holds(self, sequence: int, attempt: int, now: float) -> bool:
        """Whether this hand-out is still its member's: not ended, not overrun, not handed out again."""
        pending = self._pending.get(sequence)
        return pending is not None and pending.out and pending.attempt == attempt and now < pending.due

    def end(self, sequence: int) -> None:
        """Finish a message for this group."""
        del self._pending[sequence]

    def give_back(self, sequence: int, *, due: float) -> None:
        """Hand the message out again from ``due`` on."""
        pending = self._pending[sequence]
        self._pending[sequence] = _Pending(pending.attempt, due, out=False)

    def extend(self, sequence: int, now: float) -> None:
        """Let the member keep the message for another ``ack_wait``."""
        self._pending[sequence].due = now + self.options.ack_wait

    def wakes_at(self, now: float) -> float | None:
        """When the next one comes back behind ``now``, if anything is out or waiting."""
        return min((pending.due for pending in self._pending.values() if pending.due > now), default=None)

    def give_up(self, now: float) -> list[tuple[Message, int]]:
        """Remove and return what was handed out ``max_deliver`` times without being ended, with its attempts."""
        for sequence, pending in list(self._pending.items()):
            if pending.due <= now and pending.attempt >= self.options.max_deliver:
                self._exhausted[sequence] = self._pending.pop(sequence).attempt
        found = [(self.stream.get(sequence), attempts) for sequence, attempts in sorted(self._exhausted.items())]
        self._exhausted.clear()
        self.lost += sum(message is None for message, _ in found)
        return [(message, attempts) for message, attempts in found if message is not None]

    def _next_due(self, now: float) -> int | None:
        due = ((pending.due, sequence) for sequence, pending in self._pending.items() if pending.due <= now)
        return min(due, default=(0.0, None))[1]

    def _take_new(self, now: float) -> tuple[Message, int] | None:
        message = next(self.stream.after(self.cursor, self.filters), None)
        if message is None:
            self.cursor = self.stream.last_sequence
            return None
        self.cursor = message.sequence
        self._pending[message.sequence] = _Pending(1, now + self.options.ack_wait, out=True)
        return message, 1
