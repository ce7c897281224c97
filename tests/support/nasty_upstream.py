"""A recording origin server that misbehaves as told, on raw sockets, one thread per connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from support.strict_http import Incomplete, Malformed, Request, Wire, read_body, read_request_head

SOON = 5.0  # seconds in which what must happen has happened
FENCE = b"/fence"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gone(Exception):  # noqa: N818 - an end, not an error
    """The proxy's connection has ended."""


class Peer:
    """One connection from the proxy, and the request on it that a script answers."""

    def __init__(self, upstream: Upstream, connection: socket.socket, number: int) -> None:
        self._upstream = upstream
        self._socket = connection
        self.number = number
        self.raw = bytearray()  # the request's first bytes, as they came
        self.ended = ""  # fin or rst, once the proxy has ended
        self.closed = False  # by the script
        self.wire = Wire(self._receive)
        self.request = Request()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(1 << 18)
        except OSError:
            data, self.ended = b"", "rst"
        if len(self.raw) < 1 << 20:
            self.raw += data
        if not data:
            self.ended = self.ended or "fin"
            self._upstream.changed()
        return data

    def body(self) -> bytes:
        """Read the request's body to its end."""
        if not self.request.complete:
            read_body(self.wire, self.request)
            self._upstream.changed()
        return self.request.body

    def part(self, size: int) -> None:
        """Read some of a body of known length; the request stays incomplete."""
        while self.request.length < size:
            self.request.feed(self.wire.some(size - self.request.length))
        self._upstream.changed()

    def send(self, *pieces: bytes, every: float = 0) -> None:
        """Send; ``every`` so many seconds a piece."""
        try:
            for piece in pieces:
                self._socket.sendall(piece)
                if every:
                    time.sleep(every)
        except OSError:
            raise Gone from None

    def gone(self, within: float) -> bool:
        """Whether the proxy ends this connection within so many seconds."""
        self._socket.settimeout(within)
        try:
            while self._socket.recv(1 << 18):
                pass
        except TimeoutError:
            return False
        except OSError:
            self.ended = "rst"
        finally:
            self._socket.settimeout(None)
        self.ended = self.ended or "fin"
        self._upstream.changed()
        return True

    def slow_reader(self) -> None:
        """Take as little as the kernel allows."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

    def half_close(self) -> None:
        """FIN after what was sent; the proxy may still send."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """FIN after what was sent; unread bytes are drained first, so that it is no RST."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(0.2)
            while self._socket.recv(1 << 18):
                pass
        self._socket.close()

    def drop(self) -> None:
        """Close at once, whatever is unread."""
        self.closed = True
        self._socket.close()

    def reset(self) -> None:
        """RST."""
        self.closed = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


Script = Callable[[Peer], None]


def ordinary(peer: Peer) -> None:
    """Read all of the request, answer 200."""
    peer.body()
    peer.send(OK)


def says(*pieces: bytes, then: str = "", every: float = 0) -> Script:
    """Read all of the request, send exactly this, and perhaps ``close`` or ``reset``."""

    def script(peer: Peer) -> None:
        peer.body()
        peer.send(*pieces, every=every)
        if then:
            getattr(peer, then)()

    return script


def answer(status: str, *lines: str | bytes, body: bytes | None = None) -> bytes:
    """The bytes of a response; ``body`` brings its own Content-Length."""
    fields = [line if isinstance(line, bytes) else line.encode() for line in lines]
    if body is not None:
        fields.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), *fields, b"", b""]) + (body or b"")


class Upstream:
    """The server; ``script`` answers every request but the fences."""

    def __init__(self, port: int = 0) -> None:
        self._news = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[Peer] = []
        self._open: set[socket.socket] = set()
        self.reset()
        threading.Thread(target=self._accept, name=f"upstream-{self.port}", daemon=True).start()

    def reset(self) -> None:
        """Forget what was seen, and behave."""
        self.script: Script = ordinary
        self.requests: list[Request] = []
        self.peers: list[Peer] = []  # that brought a request, or nothing, since then
        self.opened = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def changed(self) -> None:
        """Something was seen."""
        with self._news:
            self._news.notify_all()

    def until(self, condition: Callable[[], Any], within: float = SOON) -> bool:
        """Whether ``condition`` comes true in time."""
        end = time.monotonic() + within
        with self._news:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(min(left, 0.05))  # a script's own variables change without news
        return True

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            self.opened += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            peer = Peer(self, connection, number)
            threading.Thread(target=self._serve, args=(peer, connection), daemon=True).start()

    def _serve(self, peer: Peer, connection: socket.socket) -> None:
        try:
            while not peer.closed and (peer.wire.buffer or peer.wire.more()):
                self._one(peer)
        except (Incomplete, Malformed, Gone) as end:
            peer.request.problem = str(end)
        except OSError:
            pass  # the script closed it
        finally:
            self._open.discard(connection)
            connection.close()
            self.changed()

    def _one(self, peer: Peer) -> None:
        peer.request = Request()
        peer.raw = bytearray(peer.wire.buffer)
        fence = peer.wire.buffer.startswith(b"GET " + FENCE)
        if not fence:
            self.requests.append(peer.request)
            if peer not in self.peers:
                self.peers.append(peer)
        read_request_head(peer.wire, peer.request)
        self.changed()
        (ordinary if fence else self.script)(peer)
        if not peer.closed:
            peer.body()
