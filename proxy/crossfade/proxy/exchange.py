"""One request and its answer: where the client's connection and whatever answers it meet.

A route resolves to an ``Answering``. It is begun when the head is there, takes the body by callbacks (``body_to``) and
answers by ``start`` or ``relay``, ``write`` and ``end``; or fails by ``abort``, which no client can mistake for an end.
Everything happens on one event loop, and nothing here waits: who is too fast is told by ``writable`` and ``pause``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from crossfade.shim.errors import CrossfadeError

from .chunks import LAST, encode, last
from .framing import NO_BODY, UNTIL_CLOSE, Framing
from .headers import allowed_trailers, made_response, to_client, to_client_interim
from .problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .framing import Refusal
    from .headers import Peer
    from .heads import Field, RequestHead, ResponseHead
    from .upstream import UpstreamConnection


class BodySink(Protocol):
    """Takes a request's body."""

    def data(self, data: bytes) -> None:
        """Some bytes of it, never none."""
        ...

    def end(self, trailers: Sequence[Field]) -> None:
        """All of it has come."""
        ...

    def gone(self) -> None:
        """The client left, or its body broke a rule: the body will never be whole and nobody reads an answer."""
        ...


class Answering(Protocol):
    """What a route resolves to."""

    def begin(self, exchange: Exchange) -> None:
        """Answer ``exchange``; called at the end of its head. An exception becomes a 500 problem."""
        ...


class Tap(Protocol):
    """Sees what passes, and changes nothing."""

    def request_data(self, data: bytes) -> None:
        """Some bytes of the request's body."""
        ...

    def response_head(self, head: ResponseHead) -> None:
        """The head of the answer, before hygiene."""
        ...

    def response_data(self, data: bytes) -> None:
        """Some bytes of the answer's body."""
        ...

    def finished(self, *, whole: bool) -> None:
        """The exchange is over; ``whole`` says that the client was sent all of the answer."""
        ...


class Client(Protocol):
    """What an exchange needs of the connection it came by."""

    peer: Peer

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        ...

    def writelines(self, data: Sequence[bytes]) -> None:
        """Send ``data``, one after another."""
        ...

    def pause_body(self) -> None:
        """Ask for no more of the request."""
        ...

    def resume_body(self) -> None:
        """Ask for more."""
        ...

    def answered(self, exchange: Exchange) -> None:
        """The answer is whole."""
        ...

    def broken(self, exchange: Exchange) -> None:
        """The answer will never be whole: make the client see that."""
        ...

    def tunnel(self, exchange: Exchange, upstream: UpstreamConnection, rest: bytes) -> None:
        """The exchange's 101 is sent: join this connection with ``upstream``."""
        ...

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection may serve another request after this one; asked when the answer's head is sent."""
        ...


class Exchange:
    """A request and its answer.

    ``started`` is loop time in seconds. ``seam`` names the route in problems and logs. ``client_address`` is the text
    for the log. ``received`` and ``sent`` count body bytes. ``writable`` is told ``False`` when the client reads too
    slowly and ``True`` when it has caught up. ``outcome`` is how it ended: nothing yet, ``whole``, ``cut`` or ``left``.
    ``failure`` names what the upstream did wrong, when it did. ``breaker`` is its seam's breaker as this exchange found
    it, when that was not closed. ``path`` is whom it was given to last: ``legacy``, an upstream; ``bus``; or ``local``,
    this proxy or its control plane. ``body_follows``: bytes of the body are at hand and come as soon as they are asked
    for.
    """

    # Defaults live on the class: what most exchanges never change costs them nothing.
    route: object = None
    seam = "-"
    tap: Tap | None = None
    writable: Callable[[bool], None] | None = None
    trailers: Sequence[Field] = ()
    status = 0
    received = 0
    sent = 0
    outcome = ""
    failure = ""
    breaker = ""
    path = "local"
    body_follows = False
    _sink: BodySink | None = None
    _early: list[bytes] | None = None
    _framing: Framing = NO_BODY
    _left = 0
    _closing = False
    _out: list[bytes] | None = None

    def __init__(self, client: Client, head: RequestHead, *, started: float) -> None:
        self._client = client
        self.head = head
        self.peer = client.peer
        self.started = started
        self.request_done = head.framing is NO_BODY

    # -- the request's body --------------------------------------------------------------------------------------

    def body_to(self, sink: BodySink) -> None:
        """Give the body to ``sink``, from its first byte; what came meanwhile is handed over before this returns."""
        self._sink = sink
        early, self._early = self._early, None
        for data in early or ():
            sink.data(data)
        if self.request_done:
            sink.end(self.trailers)
        elif early is not None:
            self._client.resume_body()

    def unread(self, parts: Sequence[bytes]) -> None:
        """Give the body back: the next ``body_to`` gets ``parts``, which is all that came, and then the rest."""
        self._sink = None
        self._early = list(parts)

    def pause(self) -> None:
        """Take no more of the body from the client until ``resume``; a little may still come."""
        self._client.pause_body()

    def resume(self) -> None:
        """Take more of the body."""
        self._client.resume_body()

    async def read_body(self, limit: int) -> bytes:
        """The whole body, ``limit`` bytes at most (``BodyTooLargeError``); ``ClientLeftError`` when it never ends."""
        whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.body_to(_Collector(whole, limit))
        return await whole

    def feed(self, data: bytes) -> None:
        """The connection's: some bytes of the body."""
        self.received += len(data)
        if self.tap is not None:
            self.tap.request_data(data)
        if self._sink is not None:
            self._sink.data(data)
        elif self.outcome == "":
            if self._early is None:
                self._early = []
                self._client.pause_body()
            self._early.append(data)

    def feed_end(self, trailers: Sequence[Field]) -> None:
        """The connection's: all of the body has come."""
        self.request_done = True
        if trailers:
            self.trailers = allowed_trailers(trailers)
        if self._sink is not None:
            self._sink.end(self.trailers)

    def leave(self, outcome: str = "left") -> None:
        """The connection's: the client is gone, or its body is malformed."""
        if self.outcome:
            return
        sink, self._sink = self._sink, None
        self._finish(outcome)
        if sink is not None:
            sink.gone()

    # -- the answer ----------------------------------------------------------------------------------------------

    def interim(self, head: ResponseHead) -> None:
        """Pass on an interim response; a client that cannot understand it (HTTP/1.0) is spared."""
        if self.head.minor == 1 and not self.status and not self.outcome:
            self._client.write(to_client_interim(head))

    def start(self, status: int, reason: bytes, headers: Sequence[Field], framing: Framing) -> None:
        """Begin an answer of our own; Content-Length is added where ``framing`` needs it and ``headers`` lacks it."""
        if framing.kind == "length" and all(name.lower() != b"content-length" for name, _ in headers):
            headers = [*headers, (b"Content-Length", b"%d" % framing.length)]
        self.relay(made_response(status, reason, headers), framing)

    def relay(self, head: ResponseHead, framing: Framing) -> None:
        """Begin an answer with ``head``; what concerns one hop only is taken out and put in as this hop needs it."""
        if not self.outcome:
            self._send(self._begin(head, framing))

    def answer(self, head: ResponseHead, body: bytes) -> None:
        """Answer with ``head`` and all of its ``body`` at once: ``relay``, ``write`` and ``end`` in one."""
        if self.outcome:
            return
        data = self._begin(head, head.framing)
        if self._framing.kind != "none":
            self.sent = len(body)
            if self.tap is not None:
                self.tap.response_data(body)
            if self.sent < _WORTH_JOINING:
                data += body
        self._client.write(data)
        if self.sent >= _WORTH_JOINING:
            self._client.write(body)
        self._end()

    def _begin(self, head: ResponseHead, framing: Framing) -> bytes:
        request = self.head
        kind = framing.kind
        if kind == "chunked" and request.minor == 0:
            framing, kind = UNTIL_CLOSE, "until-close"
        elif kind == "until-close" and request.minor == 1:
            framing, kind = _CHUNKED, "chunked"
        bodyless = request.method == b"HEAD" or head.status == 304
        if bodyless or head.status == 204:
            framing, kind = NO_BODY, "none"
        keep_alive = kind != "until-close" and self._client.keeps_alive(self)
        self._framing = framing
        self._left = framing.length
        self._closing = not keep_alive
        self.status = head.status
        if self.tap is not None:
            self.tap.response_head(head)
        return to_client(
            head, via=self.peer.via, minor=request.minor, framing=framing, keep_alive=keep_alive, keeps_length=bodyless
        )

    def cork(self) -> None:
        """Hold the answer back until ``flush`` or its end, so that what comes in pieces leaves in one."""
        if self._out is None:
            self._out = []

    def flush(self) -> None:
        """Send what was held back."""
        out = self._out
        if out:
            self._out = []
            if len(out) == 1:
                self._client.write(out[0])
            elif sum(map(len, out)) < _WORTH_JOINING:
                self._client.write(b"".join(out))
            else:
                self._client.writelines(out)

    def _send(self, data: bytes) -> None:
        if self._out is None:
            self._client.write(data)
        else:
            self._out.append(data)

    def write(self, data: bytes) -> None:
        """Send some bytes of the answer's body, framed as the client needs it."""
        if self.outcome or not data:
            return
        kind = self._framing.kind
        if kind == "none":
            return
        self.sent += len(data)
        if self.tap is not None:
            self.tap.response_data(data)
        if kind == "chunked":
            if self._out is None:
                self._client.writelines(encode(data))
            else:
                self._out += encode(data)
            return
        if kind == "length":
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                return
        if self._out is None:
            self._client.write(data)
        else:
            self._out.append(data)

    def end(self, trailers: Sequence[Field] = ()) -> None:
        """End the answer; one that is shorter than it promised is aborted instead."""
        if self.outcome:
            return
        if self._framing.kind == "chunked":
            self._send(last(allowed_trailers(trailers)) if trailers else LAST)
        elif self._left > 0:
            self.abort()
            return
        if self._out:
            self.flush()
        self._end()

    def _end(self) -> None:
        self._sink = None
        self._finish("whole")
        self._client.answered(self)

    def abort(self) -> None:
        """Break the answer off so that the client cannot take it for whole."""
        if self.outcome:
            return
        self.flush()
        self._sink = None
        self._finish("cut")
        self._client.broken(self)

    def problem(self, status: int, *, name: str, phase: str, detail: str, retry_after: int = 1) -> None:
        """Answer with a problem; when an answer has begun already, abort it."""
        if self.status:
            self.abort()
            return
        phrase, fields, body = problem(
            status, name=name, phase=phase, seam=self.seam, detail=detail, retry_after=retry_after
        )
        self.cork()
        self.start(status, phrase, fields, Framing("length", len(body)))
        self.write(body)
        self.end()

    def refuse(self, refusal: Refusal) -> None:
        """Answer with the problem of a refused request, and end the connection where its framing is in doubt."""
        self.problem(refusal.status, name=refusal.name, phase="request", detail=refusal.detail)

    def upgrade(self, head: ResponseHead, upstream: UpstreamConnection, rest: bytes) -> None:
        """Send the 101 and make a tunnel of the client's connection and ``upstream``; ``rest`` goes first."""
        self.status = head.status
        if self.tap is not None:
            self.tap.response_head(head)
        self._client.write(
            to_client(
                head,
                via=self.peer.via,
                minor=1,
                framing=Framing("tunnel"),
                keep_alive=True,
                keeps_length=False,
            )
        )
        self._sink = None
        self.writable = None
        self._client.tunnel(self, upstream, rest)

    @property
    def framing(self) -> Framing:
        """How the answer's body is framed for this client."""
        return self._framing

    @property
    def closing(self) -> bool:
        """Whether the client was told that the connection ends with this answer."""
        return self._closing

    def _finish(self, outcome: str) -> None:
        self.outcome = outcome
        self.writable = None
        self._early = None
        if self.tap is not None:
            self.tap.finished(whole=outcome == "whole")


_CHUNKED = Framing("chunked")
# Beyond this, copying costs more than the second buffer of one system call.
_WORTH_JOINING = 64 * 1024


class BodyTooLargeError(CrossfadeError):
    """The request's body is larger than its reader takes."""


class ClientLeftError(CrossfadeError):
    """The client left before its request was whole."""


class _Collector:
    """A sink that keeps the body in memory."""

    def __init__(self, whole: asyncio.Future[bytes], limit: int) -> None:
        self._whole = whole
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        elif not self._whole.done():
            self._parts.clear()
            self._whole.set_exception(BodyTooLargeError())

    def end(self, trailers: Sequence[Field]) -> None:
        del trailers
        if not self._whole.done():
            self._whole.set_result(b"".join(self._parts))

    def gone(self) -> None:
        if not self._whole.done():
            self._whole.set_exception(ClientLeftError())
