"""Dead letters: events that could not be processed, kept as they arrived, with the story of their end.

A dead letter is the original record with its headers, plus ``crossfade-dead``: JSON of group, reason, detail,
attempts, subject and position. Its id is made of group and position, so the same event of a group is buried once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.bindings import from_kafka, shown_as_nats
from crossfade.shim.errors import EventTooLargeError, MalformedEventError
from crossfade.shim.events import derived_id
from crossfade.shim.ports import DeadLetter, Position

from ._answers import REPLY
from ._fold import AT, ID, LAST, SUBJECT, UNIQUE
from ._logs import milliseconds, moment, position
from ._publish import MARGIN
from ._wire import record_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from crossfade.adapters._clock import BrokerClock
    from crossfade.shim.subjects import Subjects

    from ._cluster import Cluster
    from ._groups import Groups
    from ._journal import Journal
    from ._logs import Logs
    from ._publish import Publishing
    from ._read import Reading
    from ._wire import Headers, Record

HEADER: Final = "crossfade-dead"
EXHAUSTED: Final = "max-deliver"  # the reason of a dead letter whose deliveries ran out
_OURS: Final = frozenset({SUBJECT, ID, LAST, AT, UNIQUE, REPLY, HEADER})
_DETAIL: Final = 16 * 1024  # characters of detail kept, when there is room for them
_SHORT: Final = 1024  # characters kept beside an event of nearly the largest size
_TIMEOUT: Final = 5.0


class Graves:
    """Makes dead letters durable."""

    def __init__(self, cluster: Cluster, publishing: Publishing, subjects: Subjects) -> None:
        self._cluster = cluster
        self._publishing = publishing
        self._subjects = subjects

    async def bury(self, record: Record, *, topic: str, group: str, reason: str, detail: str, attempts: int) -> bool:
        """Store one; returns whether it is new. The same event of the same group is stored once."""
        origin = position(topic, record.offset)
        story = {
            "group": group,
            "reason": reason,
            "detail": detail[:_DETAIL],
            "attempts": attempts,
            "subject": record.header(SUBJECT) or "",
            "position": origin,
        }
        address = self._subjects.dead_letter(group, tenant=record.header("ce_tenantid"))
        own = [(SUBJECT, address.encode()), (ID, derived_id("dead", topic, group, origin).encode())]
        value, headers = self._fitted(story, own, record)
        ack = await self._publishing.store(address, value, headers, timeout=_TIMEOUT)
        if not ack.duplicate:
            self._cluster.hooks.count("dead-lettered", reason=reason)
        return not ack.duplicate

    def _fitted(self, story: Mapping[str, Any], own: Headers, record: Record) -> tuple[bytes, Headers]:
        """Value and headers; a payload that no longer fits stays where it is and only its size is told."""
        limit = self._publishing.max_bytes + MARGIN
        kept = [(name, value) for name, value in record.headers if name not in _OURS]
        value = record.value
        for told in (story, {**story, "detail": story["detail"][:_SHORT]}):
            headers = [*kept, *own, (HEADER, json.dumps(told).encode())]
            if record_size(None, value, headers) <= limit:
                return value, headers
        self._cluster.hooks.count("dropped", reason="dead-letter-payload")
        told = {**story, "detail": story["detail"][:_SHORT], "omitted": len(value)}
        headers = [*kept, *own, (HEADER, json.dumps(told).encode())]
        if (size := record_size(None, b"", headers)) > limit:
            raise EventTooLargeError(size=size, limit=limit)
        return b"", headers


class DeadLettering:
    """Lists dead letters and makes those that nobody made."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        graves: Graves,
        reading: Reading,
        logs: Logs,
        journal: Journal,
        groups: Groups,
        clock: BrokerClock,
        family: str,
    ) -> None:
        self._cluster = cluster
        self._graves = graves
        self._reading = reading
        self._logs = logs
        self._journal = journal
        self._groups = groups
        self._clock = clock
        self._family = family

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """See ``DeadLetters.dead_letters``."""
        log = self._logs.of_filters([f"{self._family}.>"])
        self._cluster.check_open()
        end = await log.synced()
        start = await log.partition.offset(-2)
        async for record in self._reading.records(log, start, end=end):
            yield _read(log.topic, record)

    async def reap(self) -> int:
        """See ``DeadLetters.reap``."""
        await self._journal.synced()
        reaped = 0
        for name, group in list(self._groups.all.items()):
            topic, _, group_name = name.partition("|")
            for offset, attempts in group.exhausted(milliseconds(self._clock.now())):
                reaped += await self._reap_one(name, topic, group_name, offset, attempts)
        return reaped

    async def _reap_one(self, name: str, topic: str, group: str, offset: int, attempts: int) -> bool:
        log = self._logs.of_topic(topic)
        await log.synced()
        record = await log.record(offset)
        if record is None:
            self._cluster.hooks.count("dropped", reason="discarded")
            new = False
        else:
            new = await self._graves.bury(
                record, topic=topic, group=group, reason=EXHAUSTED, detail="", attempts=attempts
            )
        word = {"g": name, "do": "ack", "at": offset, "attempt": attempts, "reaped": True}
        await self._journal.propose(word, timeout=_TIMEOUT)
        return new


def _read(topic: str, record: Record) -> DeadLetter:
    story: dict[str, Any] = json.loads(record.header(HEADER) or "{}")
    headers = [(name, value) for name, value in record.headers if name not in _OURS]
    try:
        event = from_kafka(headers, record.value)
    except MalformedEventError:
        event = None  # that may be why it is here; the story names the reason
    return DeadLetter(
        position=position(topic, record.offset),
        time=moment(record.time),
        subject=story.get("subject", ""),
        group=story.get("group", ""),
        reason=story.get("reason", "unknown"),
        detail=story.get("detail", ""),
        attempts=int(story.get("attempts", 0)),
        origin=Position(story.get("position", "")),
        event=event,
        headers=shown_as_nats(headers),
        data=record.value,
    )
