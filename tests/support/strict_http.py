"""HTTP/1.1 messages as the strictest reader of RFC 9112 takes them: the judge of what passes a proxy.

It shares no code with any proxy, and it never repairs: what it does not understand is ``Malformed``, what ends early is
an incomplete message.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 1 << 20  # bytes of a body that are kept; its length and hash cover all of it
LONGEST_LINE = 1 << 20

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) (HTTP/1\.[01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]+)*)")


class Incomplete(Exception):  # noqa: N818 - it is no error of the reader's
    """The bytes ended inside a message."""


class Malformed(Exception):  # noqa: N818 - likewise
    """The bytes are no HTTP/1.1 message; the text says why in a few words."""


class Wire:
    """Bytes as they come; ``receive`` gives more of them, or nothing at the end."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self.buffer = b""

    def more(self) -> bool:
        """Read on; false at the end."""
        data = self._receive()
        self.buffer += data
        return bool(data)

    def line(self) -> bytes:
        """One line without its CRLF."""
        while b"\n" not in self.buffer:
            if len(self.buffer) > LONGEST_LINE:
                raise Malformed("endless line")
            if not self.more():
                raise Incomplete
        line, _, self.buffer = self.buffer.partition(b"\n")
        if not line.endswith(b"\r"):
            raise Malformed("bare LF")
        return line[:-1]

    def some(self, most: int) -> bytes:
        """At least one byte, at most ``most``."""
        if not self.buffer and not self.more():
            raise Incomplete
        data, self.buffer = self.buffer[:most], self.buffer[most:]
        return data


@dataclass
class Message:
    """A message, as far as it has come."""

    start: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    framing: str = "none"  # none, length, chunked, close
    length: int = 0
    expected: int | None = None
    body: bytes = b""  # its first KEPT bytes
    complete: bool = False
    problem: str = ""

    def __post_init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the body so far."""
        return self._hash.hexdigest()

    def values(self, name: str) -> list[bytes]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.encode()]

    def value(self, name: str) -> bytes | None:
        """The only value of a header, or nothing."""
        return next(iter(self.values(name)), None)

    def names(self) -> set[str]:
        """The header's names, in lower case."""
        return {key.decode("latin-1").lower() for key, _ in self.headers}

    def feed(self, data: bytes) -> None:
        """Add to the body."""
        self._hash.update(data)
        self.length += len(data)
        if len(self.body) < KEPT:
            self.body += data[: KEPT - len(self.body)]


@dataclass
class Request(Message):
    """What a server reads."""

    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> bytes:
        return [*self.start.split(b" "), b""][1]

    @property
    def version(self) -> bytes:
        return self.start.split(b" ")[-1]


@dataclass
class Response(Message):
    """What a client reads; ``status`` is 0 when nothing came before the end."""

    status: int = 0
    interim: list[Message] = field(default_factory=list)


def read_request_head(wire: Wire, request: Request) -> None:
    """Read the request line and the headers, and decide the framing; empty lines before are legal (RFC 9112, 2.2)."""
    while not request.start:
        request.start = wire.line()
    if not _REQUEST_LINE.fullmatch(request.start):
        raise Malformed("request line")
    request.headers = _fields(wire)
    if request.version == b"HTTP/1.1" and len(request.values("host")) != 1:
        raise Malformed(f"{len(request.values('host'))} Host fields")
    _frame(request)
    if request.framing == "close":
        request.framing = "none"
    if request.framing == "chunked" and request.version == b"HTTP/1.0":
        raise Malformed("Transfer-Encoding in HTTP/1.0")


def read_response_head(wire: Wire, response: Response, method: str) -> None:
    """Read interim answers and the head of the final one, and decide its framing."""
    while True:
        response.start = wire.line()
        if not (match := _STATUS_LINE.fullmatch(response.start)):
            raise Malformed("status line")
        response.status = int(match[1])
        response.headers = _fields(wire)
        if not 100 <= response.status < 200 or response.status == 101:
            break
        response.interim.append(Message(start=response.start, headers=response.headers))
    if response.status == 101 or response.status in {204, 304} or method == "HEAD":
        return
    if method == "CONNECT" and response.status < 300:
        return
    _frame(response)


def read_body(wire: Wire, message: Message) -> None:
    """Read the body as it is framed, and mark the message complete."""
    if message.framing == "length":
        _exactly(wire, message, message.expected or 0)
    elif message.framing == "chunked":
        _chunks(wire, message)
    elif message.framing == "close":
        _until_the_end(wire, message)
    message.complete = True


def read_requests(data: bytes) -> list[Request]:
    """Every request in ``data``; the last may be incomplete or have a problem."""
    rest = [data]
    wire = Wire(lambda: rest.pop() if rest else b"")
    requests: list[Request] = []
    while wire.buffer or wire.more():
        requests.append(request := Request())
        try:
            read_request_head(wire, request)
            read_body(wire, request)
        except (Incomplete, Malformed) as error:
            request.problem = str(error)
            break
    return requests


def _fields(wire: Wire) -> list[tuple[bytes, bytes]]:
    fields = []
    while line := wire.line():
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Malformed("folded header" if line[:1] in b" \t" else "header name")
        if not _VALUE.fullmatch(value):
            raise Malformed("header value")
        fields.append((name, value.strip(b" \t")))
    return fields


def _frame(message: Message) -> None:
    """RFC 9112, 6.3, with every tolerance taken out."""
    encodings, lengths = message.values("transfer-encoding"), message.values("content-length")
    if encodings and lengths:
        raise Malformed("Content-Length and Transfer-Encoding")
    if encodings:
        if [encoding.lower() for encoding in encodings] != [b"chunked"]:
            raise Malformed("Transfer-Encoding")
        message.framing = "chunked"
    elif lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise Malformed("Content-Length")
        message.framing, message.expected = "length", int(lengths[0])
    else:
        message.framing = "close"


def _exactly(wire: Wire, message: Message, length: int) -> None:
    while length:
        data = wire.some(length)
        length -= len(data)
        message.feed(data)


def _chunks(wire: Wire, message: Message) -> None:
    while True:
        if not (match := _CHUNK.fullmatch(wire.line())):
            raise Malformed("chunk size")
        if not (size := int(match[1], 16)):
            break
        _exactly(wire, message, size)
        if wire.line():
            raise Malformed("chunk end")
    message.trailers = _fields(wire)


def _until_the_end(wire: Wire, message: Message) -> None:
    try:
        while True:
            message.feed(wire.some(1 << 20))
    except Incomplete:
        return
