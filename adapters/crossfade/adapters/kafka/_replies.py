"""Replies: a topic that every listening process reads from its end, and of which it keeps what is addressed to it.

Results are heard in the commands' topic, see ``_answers``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crossfade.shim.bindings import from_kafka, to_kafka
from crossfade.shim.errors import MalformedEventError

from ._fold import SUBJECT
from ._log import END, Log, Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.shim.events import Event
    from crossfade.shim.subjects import Subjects

    from ._answers import Answers
    from ._produce import Producer
    from ._publish import Publishing
    from ._wire import Record

_log = logging.getLogger("crossfade.kafka")


class KafkaReplies:
    """See ``Replies``."""

    def __init__(
        self,
        producer: Producer,
        subjects: Subjects,
        publishing: Publishing,
        answers: Answers,
        topic: str,
    ) -> None:
        self._cluster = producer.cluster
        self._producer = producer
        self._subjects = subjects
        self._publishing = publishing
        self._answers = answers
        self._topic = topic
        self._receivers: dict[str, list[Callable[[Event], None]]] = {}
        self._log = Log(producer, topic, self, self._begin)

    @staticmethod
    async def _begin(partition: Partition) -> int:
        return await partition.offset(END)

    def apply(self, record: Record) -> None:
        """See ``Machine.apply``; an unreadable reply and a receiver that raises are counted."""
        self.receive(record.header(SUBJECT), record)

    def receive(self, address: str | None, record: Record) -> None:
        """Hand a record to those who listen at ``address`` here."""
        receivers = self._receivers.get(address or "")
        if not receivers:
            return
        try:
            event = from_kafka(record.headers, record.value)
        except MalformedEventError as error:
            self._cluster.hooks.count("skipped", reason=error.reason)
            return
        for receive in receivers:
            try:
                receive(event)
            except Exception as error:
                self._cluster.hooks.count("failed", reason=type(error).__name__)
                _log.exception("the receiver of replies failed")

    async def listen(self, instance: str, receive: Callable[[Event], None]) -> str:
        """See ``Replies.listen``."""
        self._cluster.check_open()
        address = self._subjects.reply(instance)
        await self._log.start()
        self._receivers.setdefault(address, []).append(receive)
        return address

    def reply(self, address: str, event: Event) -> None:
        """See ``Replies.reply``; what its caller hears without one is not sent."""
        if self._answers.is_heard(event):
            return
        headers, value = [*to_kafka(event), (SUBJECT, address.encode())], event.data or b""
        self._publishing.check_size(value, headers, self._publishing.max_bytes)
        self._producer.send(self._topic, address.encode(), value, headers)
