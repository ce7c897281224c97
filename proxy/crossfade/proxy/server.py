"""The client side: connections are accepted, their requests read one after another, and their answers sent in order."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
from typing import TYPE_CHECKING, cast

from crossfade.shim.hooks import report

from . import problems
from .chunks import Decoder
from .exchange import Exchange
from .framing import NO_BODY, Framing, Refusal, RefusedError
from .headers import Hop, Peer, made_response, to_client
from .heads import judge_incomplete, parse_request
from .tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .exchange import Answering
    from .heads import RequestHead
    from .limits import Limits
    from .upstream import UpstreamConnection

    Resolve = Callable[[Exchange], Answering]
    Log = Callable[[Exchange, float], None]
    LogRefusal = Callable[[Peer, Refusal], None]

_log = logging.getLogger("crossfade.proxy")

HEADER_TIMEOUT = Refusal("header-timeout", 408, "The request's head did not arrive in time.")
BODY_TIMEOUT = Refusal("body-timeout", 408, "The request's body did not arrive in time.")
BODY_TOO_LARGE = Refusal("body-too-large", 413, "The request's body is too large.")

# How much of further requests is held while one is being answered; more is left in the kernel.
_PIPELINED = 64 * 1024
# A client that ended its side is sent these while it waits: whoever is gone answers them with a reset.
_PROBES = 2


class Server:
    """All client connections of one event loop.

    ``resolve`` says what answers an exchange; ``log`` is told of each that is over, and when;
    ``log_refusal`` of requests that never became one. ``sweeps`` are called with the loop's time a few times a second.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        limits: Limits,
        hop: Hop,
        log: Log,
        log_refusal: LogRefusal,
        sweeps: Iterable[Callable[[float], None]] = (),
        tls: bool = False,
    ) -> None:
        self.resolve = resolve
        self.limits = limits
        self.hop = hop
        self.log = log
        self.log_refusal = log_refusal
        self.scheme = b"https" if tls else b"http"
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self.emptied = asyncio.Event()
        self.emptied.set()
        self._sweeps = tuple(sweeps)
        self._period = min(0.25, *(getattr(limits, name) / 4 for name in _TIMEOUTS))
        self._timer = self.loop.call_later(self._period, self._sweep)

    def connection(self) -> ClientConnection:
        """The protocol of a new client connection."""
        return ClientConnection(self)

    def drain(self) -> None:
        """Close what is idle now, and everything else when its answer is done."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """Break off whatever is still going on."""
        for connection in list(self.connections):
            connection.transport.abort()

    def close(self) -> None:
        """Stop sweeping."""
        self._timer.cancel()

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            if now >= connection.deadline:
                connection.expired(now)
        for sweep in self._sweeps:
            sweep(now)
        self._timer = self.loop.call_later(self._period, self._sweep)


_TIMEOUTS = (
    "header_timeout",
    "body_timeout",
    "keepalive_timeout",
    "send_timeout",
    "response_timeout",
    "read_timeout",
    "tunnel_timeout",
    "queue_timeout",
    "upstream_idle_timeout",
)


class ClientConnection(asyncio.Protocol):
    """One client. ``deadline`` is when it is to be looked after; infinite while it waits for an upstream."""

    __slots__ = (
        "_body_began",
        "_body_paused",
        "_busy",
        "_decoder",
        "_eof",
        "_held",
        "_last",
        "_left",
        "_limits",
        "_other",
        "_probes",
        "_reading",
        "_sent_size",
        "_server",
        "_stalled",
        "_state",
        "_tunnel",
        "_unsent",
        "deadline",
        "exchange",
        "peer",
        "transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._state = "head"
        self._held = b""
        self._last: RequestHead | None = None
        self._other: RequestHead | None = None  # the last of another shape
        self._left = 0
        self._decoder: Decoder | None = None
        self._busy = False
        self._reading = True
        self._body_paused = False
        self._body_began = 0.0
        self._eof = False
        self._probes = 0
        self._stalled = False
        self._unsent = 0
        self._tunnel: Tunnel | None = None
        self.exchange: Exchange | None = None
        self.peer: Peer = cast("Peer", None)
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.deadline = math.inf

    # -- the event loop's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        server = self._server
        self.transport = cast("asyncio.Transport", transport)
        name: object = transport.get_extra_info("peername")
        address = str(cast("tuple[object, ...]", name)[0]) if isinstance(name, tuple) else ""
        self.peer = Peer(address, scheme=server.scheme, hop=server.hop)
        if server.draining or len(server.connections) >= self._limits.connections:
            report.count("refused", reason="draining" if server.draining else "connections")
            self._state = "closed"
            self.transport.abort()
            return
        server.connections.add(self)
        server.emptied.clear()
        self.deadline = server.loop.time() + self._limits.header_timeout

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._held:
            data = self._held + data
            self._held = b""
        self._read(data)

    def eof_received(self) -> bool:
        """See ``asyncio.Protocol``."""
        self._eof = True
        exchange = self.exchange
        halves = self.transport.can_write_eof()
        if self._tunnel is not None:
            self._tunnel.eof(0)
            return halves
        if exchange is None or self._state in {"linger", "closing"}:
            return False
        if not exchange.request_done or not halves:
            self._leave()
            return False
        # A half close and a whole one look alike: what is written next tells them apart.
        self._probes = 0
        self._unsent = exchange.sent
        self.deadline = min(self.deadline, self._server.loop.time())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        del exc
        self._state = "closed"
        self.deadline = math.inf
        self._held = b""
        server = self._server
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.lost(0)
        self._leave()
        server.connections.discard(self)
        if not server.connections:
            server.emptied.set()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._stalled = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._server.loop.time() + self._limits.send_timeout
        self._tell_writable(False)

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._stalled = False
        if self._state in {"linger", "closing"}:
            return
        self.deadline = math.inf
        if self._tunnel is not None:
            self.deadline = self._tunnel.deadline
        elif self._state in {"length", "chunked"}:
            self._await_body()
        elif self.exchange is None:
            self._await_request()
        self._tell_writable(True)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        self._busy = True
        while data:
            state = self._state
            if state == "head":
                if self.exchange is not None or self._stalled:
                    self._hold(data)
                    break
                data = self._read_head(data)
            elif state == "length":
                data = self._read_length(data)
            elif state == "chunked":
                data = self._read_chunks(data)
            elif state == "tunnel":
                cast("Tunnel", self._tunnel).data(0, data)
                break
            else:
                break
        self._busy = False
        if self._eof:
            self._judge_end()

    def _judge_end(self) -> None:
        """The client has ended its side: what is incomplete stays so."""
        exchange = self.exchange
        if exchange is None:
            if self._state == "head" and not self.transport.is_closing():
                self._close()
        elif not exchange.request_done:
            self._leave()
            self.transport.abort()

    def _hold(self, data: bytes) -> None:
        self._held = data
        if len(data) > _PIPELINED:
            self._set_reading(False)

    def _read_head(self, data: bytes) -> bytes:
        while data.startswith(b"\r\n"):
            data = data[2:]
        end = data.find(b"\r\n\r\n") + 4
        try:
            if end == 3:
                self._await_head(data)
                return b""
            last = self._last
            whole = data[:end] if end < len(data) else data
            head = parse_request(whole, limits=self._limits, last=last, other=self._other)
            if last is not None and head.shape is not last.shape:
                self._other = last
            self._last = head
            framing = head.framing
            if framing is not NO_BODY:
                self._expect_body(framing)
        except RefusedError as refused:
            self._refuse(refused.refusal)
            return b""
        self.deadline = math.inf
        exchange = Exchange(self, head, started=self._server.loop.time())
        self.exchange = exchange
        if framing is not NO_BODY:
            exchange.body_follows = end < len(data)
            self._await_body()
            if framing.kind == "length" and not framing.length:
                self._state = "head"
                exchange.request_done = True
                exchange.body_follows = False
        try:
            self._server.resolve(exchange).begin(exchange)
        except Exception:
            self._broke(exchange)
        return data[end:]

    def _await_head(self, data: bytes) -> None:
        if not data:
            return
        judge_incomplete(data, limits=self._limits)
        if not self._held and self._state == "head":
            self.deadline = min(self.deadline, self._server.loop.time() + self._limits.header_timeout)
        self._held = data

    def _expect_body(self, framing: Framing) -> None:
        limit = self._limits.body_bytes
        if framing.kind == "length":
            if limit is not None and framing.length > limit:
                raise RefusedError(BODY_TOO_LARGE)
            self._state = "length"
            self._left = framing.length
        else:
            self._state = "chunked"
            self._decoder = Decoder(self._limits)
        self._body_began = self._server.loop.time()

    def _read_length(self, data: bytes) -> bytes:
        exchange = cast("Exchange", self.exchange)
        size = len(data)
        rest = b""
        if size > self._left:
            rest = data[self._left :]
            data = data[: self._left]
            size = self._left
        self._left -= size
        if self._left:
            self._await_body()
            exchange.feed(data)
        else:
            self._state = "head"
            self.deadline = math.inf
            exchange.feed(data)
            exchange.feed_end(())
        return rest

    def _read_chunks(self, data: bytes) -> bytes:
        exchange = cast("Exchange", self.exchange)
        decoder = cast("Decoder", self._decoder)
        try:
            pieces, rest = decoder.feed(data)
        except RefusedError as refused:
            self._refuse(refused.refusal)
            return b""
        limit = self._limits.body_bytes
        if limit is not None and exchange.received + sum(map(len, pieces)) > limit:
            self._refuse(BODY_TOO_LARGE)
            return b""
        if rest is None:
            self._await_body()
        else:
            self._state = "head"
            self.deadline = math.inf
        if pieces:
            exchange.feed(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if rest is None:
            return b""
        self._decoder = None
        exchange.feed_end(decoder.trailers)
        return rest

    def _await_body(self) -> None:
        """Wait for more of the body; a client that has dripped for too long has its deadline now."""
        if self._body_paused or self._stalled:
            return
        now = self._server.loop.time()
        timeout, rate = self._limits.body_timeout, self._limits.body_rate
        taken = now - self._body_began
        exchange = self.exchange
        dripped = rate and exchange is not None and taken > timeout and exchange.received < rate * taken
        self.deadline = now if dripped else now + timeout

    # -- Client --------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See ``Client``."""
        self.transport.write(data)

    def writelines(self, data: Sequence[bytes]) -> None:
        """See ``Client``."""
        self.transport.writelines(data)

    def pause_body(self) -> None:
        """See ``Client``."""
        self._body_paused = True
        if not self._stalled:
            self.deadline = math.inf
        self._set_reading(False)

    def resume_body(self) -> None:
        """See ``Client``."""
        self._body_paused = False
        if self._state in {"length", "chunked"}:
            self._body_began = self._server.loop.time()  # the wait was not the client's
            self._await_body()
        self._set_reading(True)

    def keeps_alive(self, exchange: Exchange) -> bool:
        """See ``Client``."""
        return (
            exchange.head.keep_alive and exchange.request_done and not self._server.draining and self._state == "head"
        )

    def answered(self, exchange: Exchange) -> None:
        """See ``Client``."""
        self._over(exchange)
        if self._state == "closed":
            return
        if exchange.closing or self._server.draining or (self._eof and not self._held):
            if exchange.request_done and not self._held:
                self._close()
            else:
                self._linger()
            return
        if not self._stalled:
            self._await_request()

    def _await_request(self) -> None:
        """Go on with what has come already, or wait for the next request."""
        limits = self._limits
        wait = limits.header_timeout if self._held else limits.keepalive_timeout
        self.deadline = self._server.loop.time() + wait
        if not self._reading:
            self._body_paused = False
            self._set_reading(True)
        if self._held and not self._busy:
            data, self._held = self._held, b""
            self._read(data)

    def broken(self, exchange: Exchange) -> None:
        """See ``Client``."""
        self._over(exchange)
        if exchange.framing.kind == "until-close":
            # Only a reset tells this client that the end it sees is not the answer's.
            reset(self.transport)
        else:
            self._close()

    def tunnel(self, exchange: Exchange, upstream: UpstreamConnection, rest: bytes) -> None:
        """See ``Client``."""

        def over() -> None:
            exchange.received, exchange.sent = tunnel.received, tunnel.sent
            self._tunnel = None
            exchange.leave("whole")
            self._over(exchange)

        tunnel = Tunnel(self, upstream, timeout=self._limits.tunnel_timeout, over=over)
        self._tunnel = tunnel
        self._state = "tunnel"
        self.deadline = tunnel.deadline
        upstream.join(tunnel.from_upstream)
        if rest:
            tunnel.data(1, rest)
        held, self._held = self._held, b""
        if held:
            tunnel.data(0, held)
        self._set_reading(True)

    def set_reading(self, reading: bool) -> None:
        """See ``Side``."""
        self._set_reading(reading)

    # -- ends ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close if idle; else the answer in progress is the last."""
        if self.exchange is None and self._state == "head" and not self._held:
            self.transport.close()

    def expired(self, now: float) -> None:
        """The deadline has passed: whatever was waited for has not come."""
        exchange = self.exchange
        self.deadline = math.inf
        if self._stalled or self._state == "closing":
            self._judge_stall(now)
        elif self._tunnel is not None:
            tunnel = self._tunnel
            tunnel.sweep(now)
            self.deadline = tunnel.deadline
        elif self._state == "linger":
            self.transport.abort()
        elif self._eof and exchange is not None:
            self._probe(exchange, now)
        elif self._state in {"length", "chunked"}:
            self._refuse(BODY_TIMEOUT)
        elif exchange is None and self._held:
            self._refuse(HEADER_TIMEOUT)
        else:
            self.transport.close()

    def _judge_stall(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self.deadline = now + self._limits.send_timeout
            return
        report.count("aborted", reason="send-timeout")
        self.transport.abort()

    def _probe(self, exchange: Exchange, now: float) -> None:
        if exchange.status:
            if exchange.sent == self._unsent:
                # It ended its side in mid-answer and nothing was written since: nobody is seen to read on.
                self._probes += 1
                if self._probes > _PROBES:
                    self.transport.abort()
                    return
            else:
                self._probes = 0
                self._unsent = exchange.sent
        elif exchange.head.minor == 1 and self._probes < _PROBES:
            self._probes += 1
            self.transport.write(_PROCESSING)
        else:
            return
        self.deadline = now + 0.25

    def _close(self) -> None:
        """Close once everything is sent, or the client has stopped reading it."""
        self._state = "closing"
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._server.loop.time() + self._limits.send_timeout
        self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot be served and end the connection; an answer that has begun is broken off instead."""
        exchange = self.exchange
        report.count("refused", reason=refusal.name)
        self._state = "refused"
        self._held = b""
        if exchange is None:
            self._server.log_refusal(self.peer, refusal)
            self._answer_refusal(refusal)
            return
        started = exchange.status
        exchange.leave("cut")
        if started:
            self._over(exchange)
            self.transport.abort()
            return
        exchange.status = refusal.status
        self._over(exchange)
        self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        reason, fields, body = problems.refused(refusal)
        head = to_client(
            made_response(refusal.status, reason, fields),
            via=self.peer.via,
            minor=1,
            framing=Framing("length", len(body)),
            keep_alive=False,
            keeps_length=False,
        )
        self.transport.write(head + body)
        self._linger()

    def _linger(self) -> None:
        """Listen a little longer: closed on a client that still sends, a connection would swallow the answer."""
        self._state = "linger"
        self._held = b""
        self.deadline = self._server.loop.time() + self._limits.linger_timeout
        self._body_paused = False
        if self._eof:
            self.transport.close()
            return
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._set_reading(True)

    def _leave(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.leave("left")
            self._over(exchange)

    def _over(self, exchange: Exchange) -> None:
        if self.exchange is exchange:
            self.exchange = None
            self._server.log(exchange, self._server.loop.time())

    def _broke(self, exchange: Exchange) -> None:
        _log.exception("the answer of seam %s failed", exchange.seam)
        report.count("failed", seam=exchange.seam, reason="answering-raised")
        exchange.problem(
            500, name="internal", phase="answer", detail="The proxy itself failed; its log has the reason."
        )

    def _set_reading(self, reading: bool) -> None:
        if reading != self._reading and not self._eof and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _tell_writable(self, writable: bool) -> None:
        if self._tunnel is not None:
            self._tunnel.writable(0, writable=writable)
        elif self.exchange is not None and self.exchange.writable is not None:
            self.exchange.writable(writable)


_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def reset(transport: asyncio.Transport) -> None:
    """Close ``transport`` so that its peer sees a reset, not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
