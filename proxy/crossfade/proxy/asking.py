"""One request to an upstream from a coroutine, over the data plane's own client.

For handlers that put the bus in front of a service that is still synchronous: same connections, framing and limits as
the pass-through, without an exchange.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

from crossfade.shim.outcomes import NoAnswerError

from .reuse import may_resend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from .heads import Field, ResponseHead
    from .pool import Pool
    from .upstream import Failure, UpstreamConnection

SWEEP: Final = 0.25  # seconds between looks at the timeouts
_AHEAD: Final = 1024 * 1024  # bytes of a body that may wait for its reader


class UpstreamError(NoAnswerError):
    """The upstream brought no whole answer; ``failure`` says why, without its address.

    ``sent``: some of the request went out, so that nobody knows whether it ran.
    """

    def __init__(self, failure: Failure, *, sent: bool) -> None:
        kind: Literal["unknown", "not-executed"] = "unknown" if sent else "not-executed"
        super().__init__(f"{failure.name}: {failure.detail}", kind=kind, reason=failure.name)
        self.failure = failure


class Asking:
    """A request on its way. ``head`` is its answer's, ``body`` iterates over the pieces of the answer's body."""

    def __init__(self, pool: Pool, head: bytes, body: bytes, *, method: bytes) -> None:
        self._pool = pool
        self._request = head
        self._body = body
        self._method = method
        self._connection: UpstreamConnection | None = None
        self._reused = False
        self._sent = False
        self._answered: asyncio.Future[ResponseHead] = asyncio.get_running_loop().create_future()
        self._ahead = 0
        self._pieces: asyncio.Queue[bytes | UpstreamError | None] = asyncio.Queue()

    async def head(self) -> ResponseHead:
        """Ask, and wait for the head of the answer. Raises ``UpstreamError``."""
        connection = self._pool.idle()
        if connection is not None:
            self.connected(connection)
        else:
            self._pool.seek(self)
        return await self._answered

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body of the answer as it comes. Raises ``UpstreamError`` when it ends before its end."""
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, UpstreamError):
                raise piece
            self._ahead -= len(piece)
            if self._connection is not None and self._pieces.empty():
                self._connection.set_reading(True)
            yield piece

    def give_up(self) -> None:
        """Nobody wants the answer any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        else:
            self._pool.withdraw(self)

    # -- Seeker --------------------------------------------------------------------------------------------------

    def connected(self, connection: UpstreamConnection) -> None:
        """See ``Seeker``."""
        self._connection = connection
        self._reused = connection.used
        self._sent = True
        connection.ask(self, self._request, method=self._method)
        if self._body:
            connection.write(self._body)
        connection.sent()

    def unconnected(self, failure: Failure) -> None:
        """See ``Seeker``."""
        self._fail(failure)

    # -- Asker ---------------------------------------------------------------------------------------------------

    def response_interim(self, head: ResponseHead) -> None:
        """See ``Asker``; an interim response says nothing to a handler."""

    def response_head(self, head: ResponseHead) -> None:
        """See ``Asker``."""
        if not self._answered.done():
            self._answered.set_result(head)

    def response_whole(self, head: ResponseHead, body: bytes) -> None:
        """See ``Asker``."""
        self._connection = None
        self.response_head(head)
        self._pieces.put_nowait(body)
        self._pieces.put_nowait(None)

    def response_data(self, data: bytes) -> None:
        """See ``Asker``."""
        self._pieces.put_nowait(data)
        self._ahead += len(data)
        if self._ahead > _AHEAD and self._connection is not None:
            self._connection.set_reading(False)

    def response_flush(self) -> None:
        """See ``Asker``; each piece is on its way already."""

    def response_end(self, trailers: Sequence[Field]) -> None:
        """See ``Asker``."""
        del trailers
        self._connection = None
        self._pieces.put_nowait(None)

    def response_tunnel(self, head: ResponseHead, rest: bytes) -> None:
        """See ``Asker``; no handler asks for one."""
        del head, rest
        self.give_up()

    def response_failed(self, failure: Failure) -> None:
        """See ``Asker``."""
        connection, self._connection = self._connection, None
        read = connection is not None and connection.read
        if failure.name == "upstream-closed" and may_resend(
            method=self._method, reused=self._reused, written=True, read=read, replayable=True
        ):
            self._pool.seek(self)
        else:
            self._fail(failure)

    def upstream_writable(self, writable: bool) -> None:
        """See ``Asker``; the whole body is handed over at once."""

    def _fail(self, failure: Failure) -> None:
        error = UpstreamError(failure, sent=self._sent)
        if self._answered.done():
            self._pieces.put_nowait(error)
        else:
            self._answered.set_exception(error)


@asynccontextmanager
async def swept(pool: Pool) -> AsyncGenerator[None]:
    """Enforce ``pool``'s timeouts while the context lasts, and close it after."""
    loop = asyncio.get_running_loop()

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            pool.sweep(loop.time())

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        pool.abort()
