"""One connection to an upstream: it sends a request and takes its response apart, strictly."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from .chunks import Decoder
from .framing import RefusedError
from .heads import parse_response
from .reuse import may_reuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .heads import Field, ResponseHead
    from .limits import Limits


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no (whole) response: the client's ``status``, a ``name``, the ``phase`` it happened in."""

    status: int
    name: str
    phase: str
    detail: str


CONNECT_REFUSED = Failure(502, "upstream-refused", "connect", "The upstream takes no connections.")
CONNECT_TIMEOUT = Failure(504, "upstream-unreachable", "connect", "The upstream did not take the connection in time.")
CONNECT_NAME = Failure(502, "upstream-unknown", "resolve", "The upstream's name has no address.")
CONNECT_TLS = Failure(
    502, "upstream-tls", "tls", "The upstream has no TLS, or its certificate or TLS version was not accepted."
)
POOL_FULL = Failure(503, "upstream-busy", "queue", "All connections to the upstream are in use.")
SEND_STALLED = Failure(504, "upstream-stalled", "send", "The upstream stopped reading the request.")
HEAD_TIMEOUT = Failure(504, "upstream-silent", "head", "The upstream did not begin its answer in time.")
HEAD_CLOSED = Failure(502, "upstream-closed", "head", "The upstream closed the connection without an answer.")
HEAD_REFUSED = Failure(
    502, "upstream-malformed", "head", "The upstream's answer is not HTTP/1.1 as RFC 9112 writes it."
)
UPGRADE_REFUSED = Failure(502, "upstream-upgrade", "upgrade", "The upstream switched protocols wrongly, or unasked.")
BODY_TIMEOUT = Failure(504, "upstream-silent", "body", "The upstream fell silent inside its answer.")
BODY_CLOSED = Failure(502, "upstream-closed", "body", "The upstream closed the connection inside its answer.")
BODY_REFUSED = Failure(502, "upstream-malformed", "body", "The upstream's answer has a malformed chunk.")


class Asker(Protocol):
    """Who sent the request and takes the response."""

    def response_interim(self, head: ResponseHead) -> None:
        """An interim response (1xx, not 101)."""
        ...

    def response_head(self, head: ResponseHead) -> None:
        """The final response's head."""
        ...

    def response_whole(self, head: ResponseHead, body: bytes) -> None:
        """The final response, which came in one piece; the connection is no longer the asker's."""
        ...

    def response_data(self, data: bytes) -> None:
        """Some bytes of its body."""
        ...

    def response_flush(self) -> None:
        """Nothing more has come so far: what is there should go on its way."""
        ...

    def response_end(self, trailers: Sequence[Field]) -> None:
        """The response is whole; the connection is no longer the asker's."""
        ...

    def response_tunnel(self, head: ResponseHead, rest: bytes) -> None:
        """The upstream switched protocols as asked; ``rest`` came glued behind the 101."""
        ...

    def response_failed(self, failure: Failure) -> None:
        """There will be no (more of the) response; the connection is no longer the asker's."""
        ...

    def upstream_writable(self, writable: bool) -> None:
        """Whether the upstream takes more of the request's body now."""
        ...


class Passage(Protocol):
    """The other end of a tunnel, as its two connections see it."""

    def data(self, data: bytes) -> None:
        """Bytes for the other side."""
        ...

    def eof(self) -> None:
        """This side sends no more."""
        ...

    def lost(self) -> None:
        """This side is gone."""
        ...

    def writable(self, writable: bool) -> None:
        """Whether this side takes more now."""
        ...


class Owner(Protocol):
    """Who keeps the connection while nobody asks."""

    limits: Limits

    def made(self, connection: UpstreamConnection) -> None:
        """It is open."""
        ...

    def released(self, connection: UpstreamConnection) -> None:
        """It has brought a whole response and may take another request."""
        ...

    def lost(self, connection: UpstreamConnection) -> None:
        """It is gone."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """A connection that one asker at a time may use: ``ask``, ``write``..., ``sent``, and the response comes back."""

    __slots__ = (
        "_asker",
        "_decoder",
        "_head",
        "_held",
        "_last_method",
        "_left",
        "_limits",
        "_logs_in",
        "_loop",
        "_method",
        "_owner",
        "_passage",
        "_paused",
        "_reading",
        "_state",
        "_unsent",
        "_unsent_head",
        "_upgrade",
        "deadline",
        "read",
        "sent_all",
        "transport",
        "used",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._loop = loop
        self._asker: Asker | None = None
        self._state = "idle"
        self._held = b""
        self._last_method = b""
        self._head: ResponseHead | None = None
        self._decoder: Decoder | None = None
        self._left = 0
        self._method = b""
        self._upgrade = False
        self._logs_in = False
        self._passage: Passage | None = None
        self._paused = False
        self._reading = True
        self._unsent = 0
        self._unsent_head = b""
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.deadline = math.inf
        self.read = False  # a byte of the current response has come
        self.sent_all = True
        self.used = False  # it has brought a response before

    # -- the asker's side ----------------------------------------------------------------------------------------

    def ask(
        self,
        asker: Asker,
        head: bytes,
        *,
        method: bytes,
        upgrade: bool = False,
        logs_in: bool = False,
        hold: bool = False,
        whole: bool = False,
    ) -> None:
        """Send a request's ``head``; its body follows by ``write``, and ``sent`` says that it is whole.

        ``upgrade``: a 101 would be an answer. ``logs_in``: the request authenticates the connection, not itself.
        ``hold``: the head may wait for the first ``write``, which comes at once. ``whole``: the request has no body.
        """
        self._asker = asker
        self._method = method
        self._upgrade = upgrade
        self._logs_in = logs_in
        self._state = "head"
        self.read = False
        self.sent_all = whole
        self.deadline = self._loop.time() + self._limits.response_timeout if whole else math.inf
        if hold:
            self._unsent_head = head
        else:
            self.transport.write(head)

    def write(self, data: bytes) -> None:
        """Send some of the body, framed."""
        head = self._unsent_head
        if head:
            self._unsent_head = b""
            data = head + data
        self.transport.write(data)

    def writelines(self, data: Sequence[bytes]) -> None:
        """Send some of the body, framed."""
        self.transport.writelines(data)

    def sent(self) -> None:
        """The request is whole: from now on the upstream is awaited."""
        self.sent_all = True
        if self._state == "head":
            self.deadline = self._loop.time() + self._limits.response_timeout

    def await_answer(self) -> None:
        """The upstream is awaited though the request is not whole: it was asked for permission (100-continue)."""
        self.deadline = self._loop.time() + self._limits.response_timeout

    def set_reading(self, reading: bool) -> None:
        """Stop or go on reading the response: who it is for is slow."""
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
                self._renew()
            else:
                self.transport.pause_reading()
                if self._state != "head":
                    self.deadline = math.inf

    def drop(self) -> None:
        """Close it, whatever it is doing; the asker hears no more."""
        self._asker = None
        self._passage = None
        self.transport.abort()

    def join(self, passage: Passage) -> None:
        """Be one side of a tunnel."""
        self._passage = passage

    # -- the event loop's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self.transport = cast("asyncio.Transport", transport)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._held:
            data = self._held + data
            self._held = b""
        state = self._state
        if state == "head":
            self.read = True
            self._read_heads(data)
        elif state == "idle":
            # Nobody asked: whatever this is, the next asker must not get it as an answer.
            self.transport.abort()
        else:
            self._read_body(data)
        if self._asker is not None:
            self._asker.response_flush()

    def eof_received(self) -> bool:
        """See ``asyncio.Protocol``."""
        if self._state == "tunnel":
            if self._passage is not None:
                self._passage.eof()
            return self.transport.can_write_eof()
        if self._state == "until-close":
            self._finish(b"")
        elif self._state != "idle":
            self._fail(HEAD_CLOSED if self._state == "head" else BODY_CLOSED)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if exc is not None and self._asker is not None and not self.sent_all:
            # A write failed; the answer that explains it may lie unread behind the reset.
            self._read_unread()
        if self._passage is not None:
            passage, self._passage = self._passage, None
            passage.lost()
        elif self._state == "until-close" and exc is None:
            self._finish(b"")
        elif self._asker is not None:
            self._fail(HEAD_CLOSED if self._state == "head" else BODY_CLOSED)
        self._state = "closed"
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._loop.time() + self._limits.send_timeout
        self._tell_writable(False)

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._paused = False
        self.deadline = math.inf
        self._renew()
        self._tell_writable(True)

    def sweep(self, now: float) -> None:
        """Close it when its deadline has passed."""
        if now < self.deadline:
            return
        if self._paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self.deadline = now + self._limits.send_timeout
                return
            self._fail(SEND_STALLED)
        elif self._state == "head":
            self._fail(HEAD_TIMEOUT)
        elif self._state == "idle":
            self.transport.close()
        else:
            self._fail(BODY_TIMEOUT)

    # -- the response --------------------------------------------------------------------------------------------

    def _read_unread(self) -> None:
        pseudo = self.transport.get_extra_info("socket")
        if pseudo is None or self.transport.get_extra_info("ssl_object") is not None:
            return
        with socket.socket(fileno=os.dup(pseudo.fileno())) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            while data := sock.recv(65536):
                self.data_received(data)

    def _read_heads(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        while end >= 0:
            raw = data[: end + 4]
            data = data[end + 4 :]
            # An upstream repeats itself as clients do: the same bytes in answer to the same method mean the same.
            last = self._head if self._method == self._last_method else None
            try:
                head = parse_response(raw, self._method, limits=self._limits, last=last)
            except RefusedError:
                self._fail(HEAD_REFUSED)
                return
            if head.status >= 200:
                self._last_method = self._method
                self._begin(head, data)
                return
            if head.status == 101:
                self._switch(head, data)
                return
            if self._asker is not None:
                self._asker.response_interim(head)
            if self.sent_all:
                self.sent()
            end = data.find(b"\r\n\r\n")
        self._held = data
        if len(data) > self._limits.header_bytes or (data and not data.startswith(b"HTTP/"[: len(data)])):
            self._fail(HEAD_REFUSED)

    def _begin(self, head: ResponseHead, data: bytes) -> None:
        self._head = head
        framing = head.framing
        kind = framing.kind
        asker = self._asker
        if kind == "length" and len(data) == framing.length and asker is not None:
            self._asker = None
            self._release(head, left_over=False)
            asker.response_whole(head, data)
            return
        self._state = kind
        if kind == "length":
            self._left = framing.length
        elif kind == "chunked":
            self._decoder = Decoder(self._limits)
        if asker is not None:
            asker.response_head(head)
        if kind == "none" or (kind == "length" and not framing.length):
            self._finish(data)
        elif data:
            self._read_body(data)
        else:
            self._renew()

    def _switch(self, head: ResponseHead, rest: bytes) -> None:
        if not self._upgrade or not head.upgrade or b"upgrade" not in head.connection or not self.sent_all:
            self._fail(UPGRADE_REFUSED)
            return
        self._state = "tunnel"
        self.deadline = math.inf
        asker, self._asker = self._asker, None
        if asker is not None:
            asker.response_tunnel(head, rest)

    def _read_body(self, data: bytes) -> None:
        state = self._state
        asker = self._asker
        if state == "length":
            size = len(data)
            if size >= self._left:
                rest = data[self._left :]
                if rest:
                    data = data[: self._left]
                self._left = 0
                if asker is not None:
                    asker.response_data(data)
                self._finish(rest)
                return
            self._left -= size
            if asker is not None:
                asker.response_data(data)
        elif state == "chunked":
            if not self._read_chunks(data):
                return
        elif state == "until-close":
            if asker is not None:
                asker.response_data(data)
        elif state == "tunnel":
            if self._passage is not None:
                self._passage.data(data)
            return
        self._renew()

    def _read_chunks(self, data: bytes) -> bool:
        decoder = cast("Decoder", self._decoder)
        try:
            pieces, rest = decoder.feed(data)
        except RefusedError:
            self._fail(BODY_REFUSED)
            return False
        if self._asker is not None and pieces:
            self._asker.response_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if rest is None:
            return True
        self._finish(rest)
        return False

    def _renew(self) -> None:
        if self._reading and not self._paused and self._state in {"length", "chunked", "until-close"}:
            self.deadline = self._loop.time() + self._limits.read_timeout

    def _finish(self, rest: bytes) -> None:
        asker, self._asker = self._asker, None
        head = cast("ResponseHead", self._head)
        trailers = self._decoder.trailers if self._decoder is not None else ()
        self._decoder = None
        self._release(head, left_over=bool(rest))
        if asker is not None:
            asker.response_end(trailers)

    def _release(self, head: ResponseHead, *, left_over: bool) -> None:
        """The response has come to its end: let others use the connection, or nobody."""
        self._state = "idle"
        again = may_reuse(head=head, request_sent=self.sent_all, left_over=left_over, logs_in=self._logs_in)
        if again and not self.transport.is_closing():
            if not self._reading:
                self.set_reading(True)
            self.used = True
            self._owner.released(self)
        else:
            self.transport.abort()

    def _fail(self, failure: Failure) -> None:
        asker, self._asker = self._asker, None
        self._state = "closed"
        self.transport.abort()
        if asker is not None:
            asker.response_failed(failure)

    def _tell_writable(self, writable: bool) -> None:
        if self._passage is not None:
            self._passage.writable(writable)
        elif self._asker is not None:
            self._asker.upstream_writable(writable)
