"""Replies: core messages outside every stream, a hint to whoever waits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crossfade.shim.bindings import from_nats, to_nats
from crossfade.shim.errors import EventTooLargeError, MalformedEventError

from ._connection import header_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.shim.events import Event
    from crossfade.shim.subjects import Subjects

    from ._connection import Connection, Message

_log = logging.getLogger("crossfade.nats")


class NatsReplies:
    """See ``Replies``."""

    def __init__(self, connection: Connection, subjects: Subjects) -> None:
        self._connection = connection
        self._subjects = subjects

    async def listen(self, instance: str, receive: Callable[[Event], None]) -> str:
        """See ``Replies.listen``; an unreadable reply and a receiver that raises are counted."""
        address = self._subjects.reply(instance)

        def take(message: Message) -> None:
            try:
                event = from_nats(message.headers, message.data)
            except MalformedEventError as error:
                self._connection.hooks.count("skipped", reason=error.reason)
                return
            try:
                receive(event)
            except Exception as error:
                self._connection.hooks.count("failed", reason=type(error).__name__)
                _log.exception("the receiver of replies failed")

        await self._connection.subscribe(address, take)
        return address

    def reply(self, address: str, event: Event) -> None:
        """See ``Replies.reply``."""
        headers, data = to_nats(event), event.data or b""
        size, limit = len(data) + header_size(headers), self._connection.max_message
        if size > limit:
            raise EventTooLargeError(size=size, limit=limit)
        self._connection.send(address, data, headers)
