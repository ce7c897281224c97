"""One browser's way through its user's events: where it is, what comes next, and when something is missing.

Rules
- A resume id is ``{epoch}-{position}``. The position may be anybody's event: it says "I have seen all of mine up to
  here". Heartbeats carry one, too, so that a quiet user's id does not grow old.
- What the ring still holds behind the id is read there. What it does not is read from the bus. What neither can give
  is announced: ``crossfade.reset``, with the reason. After a reset the tail is live.
- The tail is joined before the bus is read, so nothing falls between the two; what both brought is recognised by its
  position, so nothing comes twice.
- Nothing is queued for a browser. A slow one stays behind in the ring, then needs the bus, then gets a reset.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from crossfade.shim.errors import BusError
from crossfade.shim.hooks import report
from crossfade.shim.ports import Position

from .hub import Waiter, owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from crossfade.shim.ports import Stored

    from .hub import Hub
    from .ring import Entry

Reset = Literal["epoch", "gone", "restored", "too-far"]
"""Why events may be missing: the id is of another store; they are older than the bus keeps; the store was made anew
under a running stream; more are missing than are sent again."""

MOST: Final = 10_000
"""Events that one browser may catch up on at once."""

READY: Final = "crossfade.ready"
RESET: Final = "crossfade.reset"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What to send: ``kind`` is the event's type, ``data`` JSON. ``callid`` is empty for our own words."""

    id: str
    kind: str
    data: bytes
    callid: str = ""


class Following:
    """Ask ``begin`` once, then ``next`` again and again. ``only``: events of this call and no other."""

    def __init__(self, hub: Hub, waiter: Waiter, *, only: str = "") -> None:
        self._hub = hub
        self._waiter = waiter
        self._only = only
        self._filter = f"{hub.subjects.prefix}ui.{waiter.owner[0]}.{waiter.owner[1]}.>"
        self._at = 0  # the ring's number up to which all was sent
        self._place: Position = Position("")  # the same on the bus
        self._generation = hub.generation
        self._epoch = hub.epoch
        self._seen: set[Position] = set()  # read from the bus, and still to come through the ring
        self._catching_up: AsyncGenerator[Item] | None = None
        self._words: list[Item] = []

    def begin(self, resume: str | None) -> list[Item]:
        """Take a place: at ``resume``, or live. Returns what to send first; the hub must be ready."""
        hub = self._hub
        self._enter()
        if not resume:
            self._stand_at_head()
            return [self._word(READY, b"{}")]
        epoch, _, place = resume.partition("-")
        if epoch != hub.epoch or not place:
            return [self._reset("epoch")]
        number = hub.ring.number_of(Position(place))
        if number is None and place == hub.head:
            number = hub.ring.last
        self._place = Position(place)
        if number is None:
            self._catch_up()
        else:
            self._at = number
        return [self._word(READY, b"{}")]

    def resume(self, resume: str) -> None:
        """Go back (or on) to ``resume``; what that makes of it is sent next."""
        self._words = self.begin(resume)

    def from_start(self, filter_: str) -> list[Item]:
        """Take a place before the first event under ``filter_``, a part of this user's."""
        self._enter()
        self._catch_up(filter_, from_start=True)
        return [self._word(READY, b"{}")]

    async def next(self) -> list[Item]:
        """What comes next and is here already; nothing when all was sent."""
        if self._words:
            words, self._words = self._words, []
            return words
        if self._generation != self._hub.generation:
            if not self._hub.ready.is_set():
                return []
            self._enter()
            return [self._reset("restored")]
        if self._catching_up is not None:
            return await self._caught_up(self._catching_up)
        if self._at < self._hub.ring.floor:  # the ring has moved on while this browser was slow
            self._catch_up()
            return await self.next()
        entries = self._hub.ring.after(self._waiter.owner, self._at)
        self._at = self._hub.ring.last
        if self._hub.head is not None:
            self._place = self._hub.head
        return [self._item(entry) for entry in entries if self._is_new(entry)]

    @property
    def behind(self) -> bool:
        """Whether more is there already than was handed out."""
        return self._catching_up is not None or bool(self._words)

    @property
    def id(self) -> str:
        """What a browser that has got everything so far resumes from."""
        return f"{self._epoch}-{self._place}"

    # -- places --------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Belong to the stream as it is now."""
        self._generation, self._epoch = self._hub.generation, self._hub.epoch
        self._catching_up = None
        self._seen.clear()

    def _stand_at_head(self) -> None:
        self._at = self._hub.ring.last
        self._place = self._hub.head or Position("0")

    def _reset(self, reason: Reset) -> Item:
        report.count("reset", reason=reason)
        self._stand_at_head()
        self._seen.clear()
        return self._word(RESET, b'{"reason":"%s"}' % reason.encode())

    def _word(self, kind: str, data: bytes) -> Item:
        return Item(id=self.id, kind=kind, data=data)

    # -- from the ring -------------------------------------------------------------------------------------------

    def _is_new(self, entry: Entry) -> bool:
        if entry.position in self._seen:
            self._seen.discard(entry.position)
            return False
        return self._only in ("", entry.callid)

    def _item(self, entry: Entry) -> Item:
        return Item(id=f"{self._epoch}-{entry.position}", kind=entry.kind, data=entry.data, callid=entry.callid)

    # -- from the bus --------------------------------------------------------------------------------------------

    def _catch_up(self, filter_: str = "", *, from_start: bool = False) -> None:
        """Read what the ring does not hold; from here on the ring is this browser's tail."""
        after = None if from_start else self._place
        self._at = self._hub.ring.last
        self._seen.clear()
        self._catching_up = self._read(filter_ or self._filter, after)

    async def _caught_up(self, items: AsyncGenerator[Item]) -> list[Item]:
        """Some of what is read from the bus; at its end the tail takes over."""
        found: list[Item] = []
        async for item in items:
            found.append(item)
            if len(found) >= _BATCH:
                return found
        self._catching_up = None
        return found or await self.next()

    async def _read(self, filter_: str, after: Position | None) -> AsyncGenerator[Item]:
        hub = self._hub
        async with hub.catching_up:
            try:
                extent = await hub.bus.extent(filter_, after=after)
                if after is not None and not extent.whole:
                    yield self._reset("gone")
                    return
                report.count("caught-up")
                number = 0
                async with aclosing(cast("Any", hub.bus.read(filter_, after=after))) as events:
                    async for stored in events:
                        number += 1
                        if number > MOST:
                            yield self._reset("too-far")
                            return
                        for item in self._read_one(stored):
                            yield item
            except BusError as error:  # what was sent so far has its ids: the browser comes back with the last one
                report.count("catch-up-failed", reason=type(error).__name__)
                self._waiter.close("no-bus")

    def _read_one(self, stored: Stored) -> Sequence[Item]:
        """At most one item; what the ring will bring as well is remembered."""
        number = self._hub.ring.number_of(stored.position)
        self._place = stored.position
        data = self._hub.shown(stored)
        callid = stored.event.get("callid") or ""
        if data is None or owner_of(stored.subject) != self._waiter.owner:
            return ()
        if self._hub.may_come(stored, number, self._at):
            self._seen.add(stored.position)
        if self._only not in ("", callid):
            return ()
        return (Item(id=self.id, kind=stored.event.type, data=data, callid=callid),)


_BATCH: Final = 64  # events sent in one go while catching up
