"""Keeps asking a pull consumer for messages, so that a free place is always asked for.

nats-py's ``fetch`` asks, waits, and asks again; between two of them nothing is asked for, and a lost answer stalls
it (nats.py #933, #986). Here pull requests overlap: as soon as places are free, they are asked for, while earlier
requests are still out. One inbox belongs to one *generation*; anything that puts in doubt what is still asked for (a
reconnect, missed heartbeats, a deleted consumer, fewer places than asked) starts a new generation with a new
inbox. The server drops requests whose inbox nobody listens on, without handing anything out for them.

Source: ADR-13 (pull statuses); tried on nats-server 2.15.1.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, Protocol

from crossfade.shim.errors import BusError

from ._connection import end
from ._errors import ApiError, NoRespondersError
from ._wire import status

if TYPE_CHECKING:
    from ._connection import Connection, Message, Subscription

_SECOND: Final = 1_000_000_000
_EXPIRES: Final = 30.0  # seconds the broker keeps a request, at most
_HEARTBEAT: Final = 1.0  # seconds between its signs of life while it has nothing for us
_SILENCE: Final = 3 * _HEARTBEAT  # after this much silence the generation is given up
_GATHER: Final = 0.001  # seconds to gather freed places, so that each ack does not cost a request of its own
_PAUSE: Final = 0.25  # seconds before asking again after a refusal
_IDLE, _BUSY, _GONE = 100, 409, 503
_BUSY_TEXTS: Final = ("exceeded",)


class Puller(Protocol):
    """Who is pulled for."""

    async def ensure(self) -> str:
        """Make sure the consumer exists and return its name; asked at the start of each generation."""
        ...

    def receive(self, message: Message) -> None:
        """Take a message."""
        ...

    def free(self) -> int:
        """How many more messages may come."""
        ...

    def idle(self) -> None:
        """The broker has nothing for us now."""
        ...

    def tick(self) -> None:
        """A moment has passed."""
        ...


class Pull:
    """One member's stream of messages from one consumer; ``tick`` is how often (seconds) it looks at itself.

    ``expires``: seconds the broker keeps a request. One that outlives ``ack_wait`` lets the broker deliver again to
    the very member that has just been stopped, until every delivery is spent and nobody has run anything.
    """

    def __init__(
        self, connection: Connection, stream: str, puller: Puller, *, tick: float = 1.0, expires: float = _EXPIRES
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._puller = puller
        self._tick = tick
        self._expires = min(expires, _EXPIRES)
        self._loop = asyncio.get_running_loop()
        self._inbox = ""
        self._request = ""  # subject pull requests go to; empty between generations
        self._asked = 0
        self._heard = 0.0
        self.width = 1  # all places, free or taken: below a sixteenth of them, gather before asking
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._soon = False  # the timer is due in this turn of the loop
        self._restart = asyncio.Event()
        now = self._loop.time()
        self._ticks = (now, now)
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # -- life cycle --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin; the first generation is up on return, so what is wrong with the consumer is raised here."""
        await self._begin()
        self._connection.listeners.add(self.renew)
        self._tasks = [
            self._connection.spawn(self._run()),
            self._connection.spawn(self._watch()),
        ]

    async def stop(self) -> None:
        """End; what was under way has been received on return."""
        self._connection.listeners.discard(self.renew)
        self._request = ""
        await end(self._tasks)
        if self._timer is not None:
            self._timer.cancel()
        await self._end()

    def renew(self) -> None:
        """Start a new generation."""
        self._restart.set()

    async def _begin(self) -> None:
        consumer = await self._puller.ensure()
        self._inbox = self._connection.new_inbox()
        self._restart.clear()
        self._subscription = await self._connection.subscribe(self._inbox, self._on_message)
        self._asked = 0
        self._request = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        self._ask()

    async def _end(self) -> None:
        """Let what is under way arrive, then stop listening."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._connection.unsubscribe(subscription)

    async def _run(self) -> None:
        while True:
            await self._restart.wait()
            self._request = ""
            await self._end()
            if self._connection.closed:
                return
            try:
                await self._begin()
            except (BusError, ApiError, NoRespondersError) as error:
                self._connection.hooks.count("retried", reason=f"pull-{type(error).__name__}")
                await asyncio.sleep(_PAUSE)
                self._restart.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            now = self._loop.time()
            self._ticks = (self._ticks[1], now)
            self._puller.tick()
            if self._request and self._asked > 0 and now - self._heard > _SILENCE:
                self._connection.hooks.count("retried", reason="pull-silent")
                self.renew()

    @property
    def not_before(self) -> float:
        """No message in our hands now was sent before this (loop time), even if this process was paused.

        A tick comes at least every ``tick`` seconds and looks at the clock before what waits in the socket is
        read, so what is read now was sent after the tick before the last.
        """
        return self._ticks[0]

    # -- asking ------------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Places became free: ask for them soon."""
        if not self._request or self._soon:
            return
        if (self._puller.free() - self._asked) * 16 >= self.width:
            if self._timer is not None:
                self._timer.cancel()
            self._soon = True
            self._timer = self._loop.call_soon(self._ask)
        elif self._timer is None:
            self._timer = self._loop.call_later(_GATHER, self._ask)

    def _ask(self) -> None:
        self._timer, self._soon = None, False
        if not self._request:
            return
        missing = self._puller.free() - self._asked
        if missing > 0:
            self._send(missing)
        elif missing < 0:
            self.renew()  # more is asked for than may come

    def _send(self, batch: int) -> None:
        request = {
            "batch": batch,
            "expires": int(self._expires * _SECOND),
            "idle_heartbeat": int(min(_HEARTBEAT, self._expires / 2) * _SECOND),
        }
        try:
            self._connection.send(self._request, json.dumps(request).encode(), reply=self._inbox)
        except BusError:
            self._loop.call_later(_PAUSE, self.renew)
            self._request = ""
            return
        self._asked += batch
        self._heard = self._loop.time()

    def _on_message(self, message: Message) -> None:
        self._heard = self._loop.time()
        found = status(message)
        if found is None:
            self._asked -= 1
            self._puller.receive(message)
        else:
            self._on_status(*found, pending=int((message.headers or {}).get("Nats-Pending-Messages", "0")))

    def _on_status(self, code: int, text: str, *, pending: int) -> None:
        if code == _IDLE:
            self._puller.idle()
            return
        self._asked = max(0, self._asked - pending)
        lowered = text.lower()
        if code == _BUSY and any(word in lowered for word in _BUSY_TEXTS):
            self._connection.hooks.count("retried", reason="pull-limit")
            self._later()
        elif code in (_BUSY, _GONE) and "completed" not in lowered:
            # Consumer deleted, leadership changed, server shutting down, or nobody there at all.
            self._connection.hooks.count("retried", reason="pull-lost")
            self._request = ""
            self._loop.call_later(_PAUSE, self.renew)
        else:
            self.poke()

    def _later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_PAUSE, self._ask)
