"""A client that sends exactly the bytes it is told to, and reads answers with the strict reader."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Self

from support.strict_http import Incomplete, Malformed, Response, Wire, read_body, read_response_head

PATIENCE = 5.0  # seconds until a client gives up, unless a test knows better


class Silence(AssertionError):  # noqa: N818 - it is no error of the client's
    """Nothing came, and the connection stayed open."""


def request(
    method: str, target: str | bytes, *lines: str | bytes, body: bytes | None = None, host: str | None = "shop.test"
) -> bytes:
    """The bytes of a request; ``body`` brings its own Content-Length."""
    fields = [_bytes(line) for line in lines]
    if host is not None:
        fields.insert(0, b"Host: " + host.encode())
    if body is not None:
        fields.append(b"Content-Length: %d" % len(body))
    start = b"%s %s HTTP/1.1" % (method.encode(), _bytes(target))
    return b"\r\n".join([start, *fields, b"", b""]) + (body or b"")


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing, the last one and an empty trailer."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


class Client:
    """One connection to a proxy."""

    def __init__(self, port: int, *, patience: float = PATIENCE, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self.patience = patience
        self.received = 0
        self.ended = ""  # fin or rst, once the other side has ended
        self.wire = Wire(self._receive)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> bytes:
        if self.ended:
            return b""
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            raise Silence(f"nothing came for {self.patience:g} s") from None
        except OSError:
            self.ended = "rst"
            return b""
        self.ended = "" if data else "fin"
        self.received += len(data)
        return data

    def send(self, data: bytes, *more: bytes) -> Self:
        """Send; what the other side no longer takes is the test's business, not an error."""
        try:
            for piece in (data, *more):
                self._socket.sendall(piece)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise Silence(f"nothing was read for {self.patience:g} s") from None
        return self

    def answer(self, method: str = "GET") -> Response:
        """The next final answer, as complete as it comes."""
        response = Response()
        try:
            read_response_head(self.wire, response, method)
            read_body(self.wire, response)
        except (Incomplete, Malformed) as error:
            response.problem = str(error)
        if response.framing == "close":
            response.complete = self.ended == "fin"
        return response

    def head(self, method: str = "GET") -> Response:
        """The head of the next final answer."""
        response = Response()
        try:
            read_response_head(self.wire, response, method)
        except (Incomplete, Malformed) as error:
            response.problem = str(error)
        return response

    def rest(self) -> bytes:
        """Everything until the other side ends."""
        data = b""
        while self.wire.buffer or self.wire.more():
            data += self.wire.buffer
            self.wire.buffer = b""
        return data

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or fewer at the end."""
        while len(self.wire.buffer) < size and self.wire.more():
            pass
        data, self.wire.buffer = self.wire.buffer[:size], self.wire.buffer[size:]
        return data

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with ``mark``, or to the end."""
        while mark not in self.wire.buffer and self.wire.more():
            pass
        before, found, self.wire.buffer = self.wire.buffer.partition(mark)
        return before + found

    def gone(self, within: float = PATIENCE) -> bool:
        """Whether the other side ends within so many seconds, whatever it still says."""
        end = time.monotonic() + within
        try:
            while (left := end - time.monotonic()) > 0 and not self.ended:
                self.wait_at_most(left)
                self._receive()
        except Silence:
            pass
        finally:
            self.wait_at_most(self.patience)
        return bool(self.ended)

    def wait_at_most(self, seconds: float) -> None:
        """How long one read or write may take from here on."""
        self._socket.settimeout(seconds)

    def half_close(self) -> None:
        """No more from this side; the answer may still come, unless the other side has ended already."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """End with FIN, or with RST where bytes were left unread."""
        self._socket.close()
