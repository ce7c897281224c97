"""Request bytes on the border of what is legal, for the fuzzer: a grammar, and small damages to what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from support.strict_http import read_requests

if TYPE_CHECKING:
    import random

CORPUS = Path(__file__).parents[1] / "conformance" / "corpus"

_STARTS = [
    b"GET /%d HTTP/1.1", b"POST /%d HTTP/1.1", b"PUT /%d?a=1 HTTP/1.1", b"HEAD /%d HTTP/1.1", b"FOO /%d HTTP/1.1",
    b"POST /%d HTTP/1.0", b"POST http://shop.test/%d HTTP/1.1", b"OPTIONS * HTTP/1.1", b"POST  /%d HTTP/1.1",
    b"POST /%d HTTP/1.2", b"POST /%d", b"post /%d http/1.1", b"POST /%d HTTP/1.1 ", b"\r\nPOST /%d HTTP/1.1",
]  # fmt: skip
_HEADERS = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 6", b"Content-Length: +5", b"Content-Length: 5, 5",
    b"Content-Length: 5,6", b"Content-Length:\t5", b"Content-Length : 5", b"Content-Length\t: 5", b"Content_Length: 5",
    b"Content-Length: 0x5", b"Content-Length: 5 ", b"content-length: 5", b"Content-Length: 05", b"Content-Length:",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\r\n chunked", b" Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding", b"Transfer-Encoding:", b"TE: trailers",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Content-Length", b"Connection: Transfer-Encoding",
    b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Expect: 100-Continue, x", b"Trailer: X-A", b"X-A: \x80\xff", b"X-A: \0", b"X-A: " + b"a" * 9000, b": x", b"X-A",
    b"Host: other.test", b"Host:", b"Cookie: a=1",
]  # fmt: skip
_BODIES = [
    b"", b"abcde", b"abcdef", b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"5;a=b\r\nabcde\r\n0\r\n\r\n",
    b"5\r\nabcde\r\n0\r\nX-A: 1\r\n\r\n", b"5\nabcde\n0\n\n", b"05\r\nabcde\r\n00\r\n\r\n", b"5 \r\nabcde\r\n0\r\n\r\n",
    b"0x5\r\nabcde\r\n0\r\n\r\n", b"+5\r\nabcde\r\n0\r\n\r\n", b"5\r\nabcdeX0\r\n\r\n", b"5;\nabcde\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nabcde\r\n0\r\n\r\n", b"5\r\nabcde\r\n0\r\nHost: x\r\n\r\n", b"0\r\nabc", b"5\r\nab",
    b'5;"\r\n"\r\nabcde\r\n0\r\n\r\n', b"5\r\nabcde\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n",
]  # fmt: skip
_DAMAGES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b"\x80", b":", b",", b";", b"0", b"\r\n\r\n", b"\x0b"]


def make(random_: random.Random) -> bytes:
    """The bytes of one to three requests, legal or nearly so."""
    stream = b"".join(_request(random_, number) for number in range(random_.randint(1, 3)))
    for _ in range(random_.choice((0, 0, 0, 1, 1, 2))):
        stream = _damage(random_, stream)
    return stream


def _request(random_: random.Random, number: int) -> bytes:
    start = random_.choice(_STARTS if random_.random() < 0.3 else _STARTS[:5])
    headers = [b"Host: shop.test"] if random_.random() < 0.95 else []
    if random_.random() < 0.6:  # legal, so that what follows it is reached
        body, framing = random_.choice([(b"", None), (b"abcde", _HEADERS[0]), (_BODIES[4], _HEADERS[15])])
        headers += [framing] if framing else []
    else:
        headers += random_.choices(_HEADERS, k=random_.randint(1, 3))
        body = random_.choice(_BODIES)
    random_.shuffle(headers)
    return b"\r\n".join([start % number if b"%d" in start else start, *headers, b"", b""]) + body


def _damage(random_: random.Random, stream: bytes) -> bytes:
    at = random_.randrange(len(stream) or 1)
    kind = random_.randrange(4)
    if kind == 0:
        return stream[:at] + random_.choice(_DAMAGES) + stream[at:]
    if kind == 1:
        return stream[:at] + stream[at + 1 :]
    if kind == 2 and stream:
        return stream[:at] + bytes([stream[at] ^ (1 << random_.randrange(8))]) + stream[at + 1 :]
    return stream[:at]


def pieces(random_: random.Random, stream: bytes) -> list[bytes]:
    """The stream as it may arrive: whole, or cut anywhere."""
    cuts = sorted(random_.sample(range(len(stream) + 1), k=min(random_.choice((0, 0, 1, 3)), len(stream))))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def allowed(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The method and body of each request that a strict reader finds complete at the stream's start."""
    return [(request.method.encode(), request.body) for request in read_requests(stream) if request.complete]


_STATUSES = [b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 x",
             b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 101 Switching", b"HTTP/1.1 2000 OK", b"HTTP/2 200 OK",
             b"HTTP/1.1 0200 OK", b"HTTP/1.1  200 OK", b"ICY 200 OK", b"HTTP/1.1 200 \x80"]  # fmt: skip


def make_answer(random_: random.Random) -> bytes:
    """The bytes an upstream may answer with, legal or nearly so, interim answers and excess included."""
    answers = [_answer(random_) for _ in range(random_.choice((1, 1, 2)))]
    stream = b"".join(answers)
    for _ in range(random_.choice((0, 0, 1, 2))):
        stream = _damage(random_, stream)
    return stream


def _answer(random_: random.Random) -> bytes:
    start = _STATUSES[0] if random_.random() < 0.6 else random_.choice(_STATUSES)
    headers = random_.choices(_HEADERS, k=random_.randint(0, 3))
    return b"\r\n".join([start, *headers, b"", b""]) + random_.choice(_BODIES)
