"""The logs of a bus: one per topic of events, each with its fold, made at its first use."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from crossfade.shim.bindings import from_kafka
from crossfade.shim.errors import BusRefusedError, ConfigurationError
from crossfade.shim.ports import Position, Stored

from ._answers import REPLY
from ._fold import HORIZON, RECENT, SUBJECT, WINDOW, Fold
from ._log import Log, Partition
from ._topics import topic_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossfade.adapters._clock import BrokerClock
    from crossfade.shim.hooks import Hooks

    from ._fold import Hidden
    from ._produce import Producer
    from ._wire import Record

_OFFSET: Final = re.compile(r"(-1|[0-9]{1,19})\Z")  # -1: before the first
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EventLog(Log):
    """A topic of events; what its fold hides is not there."""

    def __init__(self, producer: Producer, topic: str, clock: BrokerClock, *, calls: bool) -> None:
        self.hear: Callable[[str, Record], None] | None = None  # told of each result that names its caller
        super().__init__(producer, topic, self, self._first)
        self._calls = calls
        self._clock = clock
        self._fold_: Fold

    async def _first(self, partition: Partition) -> int:
        """Where what matters begins; of calls the last half hour is judged, with the ids of some time before."""
        now = milliseconds(self._clock.now())
        if not self._calls:
            start = await partition.offset(now - WINDOW)
            self._fold_ = Fold(start, calls=False)
            return start
        start = await partition.offset(now - RECENT)
        self._fold_ = Fold(start, calls=True, whole=False)
        return min(start, await partition.offset(now - RECENT - 2 * WINDOW))

    def _lacks(self, records: Sequence[Record]) -> bool:
        fold = self._fold_
        return not fold.whole and any(fold.lacks(record) for record in records if record.offset >= self.position)

    async def reach_back(self) -> None:
        """Fold what of the horizon lies before ``start_offset``, once: it takes as long as a day had commands."""
        if self._fold_.whole:
            return
        task = self._reaching
        if task is None or task.done():
            task = self._reaching = asyncio.create_task(self._learn())
            self._cluster.adopt(task)
        await asyncio.shield(task)

    async def _learn(self) -> None:
        begin = await self.partition.offset(milliseconds(self._clock.now()) - HORIZON)
        past = Fold(begin, calls=True)
        async for records in self.partition.scan(begin, self._fold_.start):
            for record in records:
                past.add(record)
        self._fold_.learn(past)

    def apply(self, record: Record) -> None:
        """See ``Machine.apply``."""
        counts = self._fold_.add(record) is None
        if counts and self.hear is not None and (address := record.header(REPLY)) is not None:
            self.hear(address, record)

    @property
    def start_offset(self) -> int:
        """From where on it was folded."""
        return self._fold_.start

    @property
    def indexed(self) -> bool:
        """Whether it keeps an index of calls."""
        return self._calls

    def verdict(self, offset: int) -> Hidden | None:
        """Why the record at ``offset`` does not count, ``None`` when it does."""
        return self._fold_.hidden.get(offset)

    def last_of_call(self, pattern: str) -> int | None:
        """The offset of the last event under a filter that names its call."""
        return self._fold_.last(pattern, milliseconds(self._clock.now()))

    def visible(self, records: Sequence[Record]) -> list[Record]:
        """Those that count."""
        hidden = self._fold_.hidden
        return [record for record in records if record.offset not in hidden]

    def stored(self, record: Record) -> Stored:
        """A record as the port shows it. Raises ``MalformedEventError``."""
        return Stored(
            subject=record.header(SUBJECT) or "",
            event=from_kafka(record.headers, record.value),
            position=position(self.topic, record.offset),
            time=moment(record.time),
        )


class Logs:
    """Finds the log of a subject."""

    def __init__(self, producer: Producer, prefix: str, clock: BrokerClock) -> None:
        self.topics = topic_names(prefix)
        self.hooks: Hooks = producer.cluster.hooks
        self._logs = {
            topic: EventLog(producer, topic, clock, calls=family == prefix) for family, topic in self.topics.items()
        }

    def of_subject(self, subject: str) -> EventLog:
        """The log that takes ``subject``; without one an event would go nowhere, so ``BusRefusedError``."""
        first, dot, _ = subject.partition(".")
        topic = self.topics.get(first)
        if topic is None or not dot:
            raise BusRefusedError(f"no topic takes {subject!r}: use a subject of crossfade.shim.subjects")
        return self._logs[topic]

    def of_filters(self, filters: Sequence[str]) -> EventLog:
        """The one log that all ``filters`` lie in; ``ConfigurationError`` when they do not."""
        found = {self.topics.get(pattern.partition(".")[0]) for pattern in filters}
        if len(found) != 1 or None in found:
            raise ConfigurationError(
                f"filters {list(filters)} must all begin with one of {', '.join(self.topics)}, the same for all",
                where="filters",
            )
        return self._logs[str(found.pop())]

    def of_topic(self, topic: str) -> EventLog:
        """The log of a topic."""
        return self._logs[topic]


def position(topic: str, offset: int) -> Position:
    """``topic/partition/offset`` as the port's opaque position."""
    return Position(f"{topic}/0/{offset}")


def offset_of(topic: str, place: Position) -> int:
    """The inverse of ``position``. Raises ``ConfigurationError`` for a position of another topic."""
    name, _, rest = place.partition("/")
    partition, _, offset = rest.partition("/")
    if name != topic or partition != "0" or not _OFFSET.match(offset):
        raise ConfigurationError(f"{place!r} is no position in {topic}", where="after")
    return int(offset)


def milliseconds(time: datetime) -> int:
    """Kafka's time."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


def moment(time: int) -> datetime:
    """The inverse of ``milliseconds``."""
    return _EPOCH + timedelta(milliseconds=time)
