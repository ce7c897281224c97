"""Results that are their own replies: a caller follows the commands' topic anyway, and hears its results there.

A reply of its own would be one more record on the way, and two more fetches. So the result of a command in our hands
names the caller's address in a header, and the reply that repeats it is not sent. What replies went before it (items,
progress) it must not overtake: then it has no such header, and a reply follows them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from crossfade.shim.subjects import token

from ._fold import SUBJECT, call_of

if TYPE_CHECKING:
    from crossfade.shim.events import Event

    from ._wire import Headers, Record

REPLY: Final = "cf_reply"  # the address of the caller whose command a result answers
_REPLYTO: Final = "ce_replyto"
_RESULT: Final = ".result"
_MOST: Final = 4096  # results of which it is known that they were stored; the reply comes right behind


class Answers:
    """The callers of the commands in the hands of this process."""

    def __init__(self) -> None:
        self._callers: dict[str, str] = {}  # by call
        self._stored: OrderedDict[str, None] = OrderedDict()  # ids of results that named their caller

    def begin(self, record: Record) -> None:
        """A command was handed to us."""
        address, call = record.header(_REPLYTO), call_of(record.header(SUBJECT) or "")
        if address and call:
            self._callers[call] = address

    def end(self, record: Record) -> None:
        """It is in our hands no more."""
        self._callers.pop(call_of(record.header(SUBJECT) or "") or "", None)

    def header(self, subject: str) -> Headers:
        """What the record of a result has besides."""
        address = self._callers.get(call_of(subject) or "") if subject.endswith(_RESULT) else None
        return [(REPLY, address.encode())] if address else []

    def stored(self, event: Event, headers: Headers) -> None:
        """``event`` is stored, and nobody stored it before."""
        if any(name == REPLY for name, _ in headers):
            self._stored[event.id] = None
            if len(self._stored) > _MOST:
                self._stored.popitem(last=False)

    def is_heard(self, event: Event) -> bool:
        """Whether its caller hears ``event`` without a reply; else results of this call follow by reply, too."""
        if event.id in self._stored:
            return True
        self._callers.pop(token(event.get("callid") or "-"), None)
        return False
