"""What an answer's status and body are when they come through: cases 36 to 45."""

from __future__ import annotations

import gzip
import hashlib
import random

import pytest

from support.nasty_upstream import OK, answer, ordinary, says
from support.proxied import told, word
from support.raw_client import Client, chunk, request

CHUNKED = "Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"


def test_36_an_answer_to_head_has_no_body_whatever_comes(proxy):
    """HEAD keeps Content-Length; a body the upstream wrongly sends is discarded, the next GET gets its own answer."""
    proxy.upstream.script = says(answer("200 OK", body=b"12345678"))
    with proxy.connect() as client:
        head = client.send(request("HEAD", "/")).answer("HEAD")
        proxy.upstream.script = ordinary
        following = client.send(request("GET", "/")).answer()

    assert (head.status, head.value("content-length")) == (200, b"8"), f"{word(head)}, {head.value('content-length')}"
    assert following.body == b"ok", f"the next answer was {word(following)} {following.problem}"


def test_36_an_answer_to_head_ends_with_its_head(ours):
    """Nothing follows an answer to HEAD, whatever length it names: the next request is served right behind it."""
    ours.upstream.script = says(answer("200 OK", "Content-Length: 8"))
    with ours.connect(patience=2) as client:
        head = client.send(request("HEAD", "/")).answer("HEAD")
        ours.upstream.script = ordinary
        following = client.send(request("GET", "/")).answer()

    assert (head.status, head.value("content-length")) == (200, b"8")
    assert following.body == b"ok", f"the next answer was {word(following)} {following.problem}"
    assert len(ours.upstream.peers) == 1, "the upstream's connection was given up"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_37_an_answer_without_body_stays_without(proxy, status):
    """204 and 304 have no body and no Transfer-Encoding, even if the upstream says so; a 304 keeps its ETag."""
    lines = ['ETag: "1"', *([CHUNKED] if status.startswith("204") else [])]
    proxy.upstream.script = says(answer(status, *lines), then="" if status.startswith("304") else "close")
    with proxy.connect() as client:
        response = client.send(request("GET", "/", 'If-None-Match: "1"')).answer()
        proxy.upstream.script = ordinary
        following = client.send(request("GET", "/")).answer()

    assert response.status in {int(status[:3]), 502}, f"client got {word(response)}"
    assert response.status == 502 or response.value("etag") == b'"1"', "no ETag"
    assert response.value("transfer-encoding") is None, "Transfer-Encoding"
    assert following.body == b"ok" or client.ended, f"the next answer was {word(following)} {following.problem}"


@pytest.mark.parametrize("early", ["103 Early Hints", "102 Processing", "100 Continue", "199 Odd"])
def test_38_an_interim_answer_is_relayed_or_dropped(proxy, early):
    """1xx and then 200: the client gets the 200, with or without the 1xx before it."""
    hints = answer(early, "Link: </style.css>; rel=preload")
    response = proxy.get(script=says(hints, hints, OK))

    assert (response.status, response.body) == (200, b"ok"), f"client got {word(response)} {response.problem}"


def test_38_an_interim_answer_and_a_close_is_a_502(proxy):
    """103 and then an end: 502."""
    response = proxy.get(script=says(answer("103 Early Hints"), then="close"))

    assert response.status == 502, f"client got {word(response)}"


def test_39_the_upstream_decides_about_an_expected_body(proxy):
    """`Expect: 100-continue`: the body is sent when the proxy or the upstream asks for it, and arrives whole."""

    def asked(peer):
        peer.send(answer("100 Continue"))
        ordinary(peer)

    proxy.upstream.script = asked
    with proxy.connect() as client:
        client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        first = client.until(b"\r\n\r\n")
        response = client.send(b"abcde").answer()

    assert first.startswith(b"HTTP/1.1 100"), f"client got {first[:12]!r}"
    assert (response.status, proxy.complete()[0].body) == (200, b"abcde"), word(response)


@pytest.mark.parametrize("status", ["401 Unauthorized", "413 Content Too Large"])
def test_39_a_refusal_comes_without_a_100(proxy, status):
    """The upstream refuses before the body: its answer is relayed, and the body was never asked for."""

    def refusing(peer):
        peer.send(answer(status, "Connection: close", body=b""))
        peer.close()

    proxy.upstream.script = refusing
    with proxy.connect() as client:
        response = client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5")).answer()

    assert response.status == int(status[:3]), f"client got {word(response)}"
    assert not response.interim, "the body was asked for"


def test_39_an_unknown_expectation_is_a_417(proxy):
    """`Expect: payment` is 417."""
    response = proxy.ask(request("POST", "/", "Expect: payment", body=b"abc"))

    assert response.status == 417, f"client got {word(response)}"


def test_39_http_1_0_gets_no_100(proxy):
    """An HTTP/1.0 client that expects 100-continue gets the answer and no 1xx."""
    response = proxy.ask(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc")

    assert response.status == 200, f"client got {word(response)}"
    assert not response.interim, "an HTTP/1.0 client got a 1xx"


def test_40_trailers_of_an_answer_are_relayed_or_dropped(proxy):
    """An answer with trailers arrives complete and equal, and no trailer became a header."""
    body = b"abc" * 1000
    script = says(answer("200 OK", CHUNKED, "Trailer: X-Sum"), chunk(body), b"0\r\nX-Sum: 7\r\n\r\n")
    response = proxy.get("/", "TE: trailers", "Connection: TE", script=script)

    assert response.complete, word(response)
    assert response.body == body, "the body was changed"
    assert response.value("x-sum") is None, "the trailer became a header"


def test_40_trailers_of_a_request_are_relayed_or_dropped(proxy):
    """A request with a harmless trailer arrives complete, and the trailer became no header."""
    response = proxy.ask(request("POST", "/", CHUNKED, "Trailer: X-Sum") + chunk(b"abc") + b"0\r\nX-Sum: 7\r\n\r\n")

    (seen,) = proxy.complete() or [None]
    assert seen, f"client got {word(response)}"
    assert (response.status, seen.body, seen.value("x-sum")) == (200, b"abc", None), word(response)


@pytest.mark.parametrize("way", ["request", "answer"])
def test_40_harmless_trailers_arrive(ours, way):
    """A trailer that frames, routes and authorises nothing is one at the other end, too."""
    trailing = chunk(b"abc") + b"0\r\nX-Sum: 7\r\n\r\n"
    if way == "answer":
        message = ours.get("/", "TE: trailers", "Connection: TE", script=says(answer("200 OK", CHUNKED), trailing))
    else:
        ours.ask(request("POST", "/", CHUNKED) + trailing)
        (message,) = ours.complete()

    assert message.trailers == [(b"X-Sum", b"7")]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_41_a_body_cut_short_never_looks_complete(proxy, how):
    """40 of 100 bytes and then FIN, or RST: the client sees an error, not a clean 200."""
    response = proxy.get(script=says(answer("200 OK", "Content-Length: 100") + b"a" * 40, then=how))

    assert not (response.status == 200 and response.complete), "client got a clean 200"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_42_a_chunked_body_cut_short_gets_no_last_chunk(proxy, how):
    """The upstream dies within its chunks: no final chunk reaches the client, which sees the end at once."""
    response = proxy.get(script=says(answer("200 OK", CHUNKED) + chunk(b"data: 1\n\n"), then=how))

    assert not (response.status == 200 and response.complete), "client got a clean 200"
    assert response.problem == "" or response.status in {0, 200, 502}, response.problem


def test_42_bad_chunks_of_the_upstream_get_no_last_chunk(proxy):
    """A chunk size that is none, within an answer: the client sees an error."""
    response = proxy.get(script=says(answer("200 OK", CHUNKED) + chunk(b"good") + b"zz\r\nbad\r\n0\r\n\r\n"))

    assert not (response.status == 200 and response.complete), "client got a clean 200"


def test_43_an_answer_of_http_1_0_ends_with_its_connection(proxy):
    """An HTTP/1.0 answer without length ends where the upstream closes, whole."""
    body = b"a" * 50_000
    response = proxy.get(script=says(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body, then="close"))

    assert response.complete, word(response)
    assert response.length == len(body), f"{response.length} of {len(body)} bytes"


def test_43_an_http_1_0_client_gets_no_chunks(proxy):
    """A chunked answer reaches an HTTP/1.0 client without chunks, ended by the connection."""
    proxy.upstream.script = says(answer("200 OK", CHUNKED), chunk(b"abc"), chunk(b"def"), LAST)
    with proxy.connect() as client:
        response = client.send(b"GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").answer()

    assert response.value("transfer-encoding") is None, "an HTTP/1.0 client got chunks"
    assert (response.body, response.complete) == (b"abcdef", True), word(response)


def test_44_an_answer_ends_by_its_length(proxy):
    """The upstream keeps its connection open after Content-Length bytes: the client has the answer at once."""
    with proxy.connect(patience=0.5) as client:
        proxy.upstream.script = says(answer("200 OK", "Connection: keep-alive", body=b"12345"))
        response = client.send(request("GET", "/")).answer()

    assert response.body == b"12345", word(response)


@pytest.mark.parametrize("kind", ["range", "etag", "gzip", "brotli", "10 MiB", "chunks of 1"])
def test_45_an_answer_is_the_one_direct(proxy, kind):
    """Ranges, conditions, encodings and 10 MiB of random bytes come as without the proxy, hash and headers."""
    body, lines, status = _content(kind)
    if kind == "chunks of 1":
        script = says(answer(status, *lines, CHUNKED), *[chunk(body[at : at + 1]) for at in range(len(body))], LAST)
    else:
        script = says(answer(status, *lines, body=body))
    through = proxy.get("/", "Range: bytes=1-3", 'If-None-Match: "2"', "Accept-Encoding: gzip, br", script=script)
    with Client(proxy.upstream.port) as client:
        direct = client.send(request("GET", "/")).answer()

    assert (through.status, through.sha256) == (direct.status, direct.sha256), f"{word(through)}, the body was changed"
    lost = [name.decode() for name, value in _lower(direct) if (name, value) not in _lower(through)]
    assert not lost, f"changed {', '.join(lost)}"
    (seen, _) = proxy.seen()
    assert (seen.value("range"), seen.value("if-none-match")) == (b"bytes=1-3", b'"2"'), "the request was changed"


def _lower(message):
    return [(name.lower(), value) for name, value in message.headers]


def _content(kind):
    random_bytes = random.Random(45).randbytes
    if kind == "range":
        return b"bcd", ["Content-Range: bytes 1-3/26", "Accept-Ranges: bytes"], "206 Partial Content"
    if kind == "gzip":
        return gzip.compress(b"a" * 1000, mtime=0), ["Content-Encoding: gzip", "Vary: Accept-Encoding"], "200 OK"
    if kind == "brotli":
        return random_bytes(64), ["Content-Encoding: br"], "200 OK"
    return random_bytes(10 << 20 if kind == "10 MiB" else 300), ['ETag: "1"', "Cache-Control: no-cache"], "200 OK"


def test_45_an_upload_is_the_one_direct(proxy):
    """10 MiB of random bytes arrive with the same hash, by length and in chunks."""
    body = random.Random(46).randbytes(10 << 20)
    with proxy.connect() as client:
        client.send(request("PUT", "/", body=body)).answer()
        client.send(request("PUT", "/", CHUNKED), chunk(body[: 1 << 20]), chunk(body[1 << 20 :]), LAST).answer()

    hashes = [one.sha256 for one in proxy.complete()]
    assert hashes == [hashlib.sha256(body).hexdigest()] * 2, told(proxy.upstream.requests)
