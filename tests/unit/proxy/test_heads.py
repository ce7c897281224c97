"""One strict grammar: what it takes, llhttp takes with the same meaning; what it refuses has a name."""

from __future__ import annotations

import contextlib

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.proxy import framing, heads
from crossfade.proxy.framing import RefusedError
from crossfade.proxy.limits import Limits
from unit.proxy.messages import requests, responses

LIMITS = Limits()
H = b"Host: a\r\n"


class Second:
    """llhttp's reading of a message."""

    def __init__(self):
        self.fields, self.body, self.done = [], b"", 0

    def on_url(self, url):
        self.url = url

    def on_status(self, reason):
        self.reason = reason

    def on_header(self, name, value):
        self.fields.append((name, value.rstrip(b" \t")))

    def on_body(self, data):
        self.body += data

    def on_message_complete(self):
        self.done += 1


def refusal_of(request: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        heads.parse_request(request, limits=LIMITS)
    return refused.value.refusal.name


@given(requests())
def test_llhttp_reads_the_same_request(message):
    """Same target, same fields, and the body ends where our framing says (methods llhttp does not know aside)."""
    head, body = message
    ours = heads.parse_request(head, limits=LIMITS)
    second = Second()
    parser = httptools.HttpRequestParser(second)
    try:
        parser.feed_data(head + body)
    except httptools.HttpParserInvalidMethodError:
        return
    except httptools.HttpParserInvalidURLError:
        return
    except httptools.HttpParserUpgrade:
        return

    assert (parser.get_method(), second.url, second.done) == (ours.method, ours.target, 1)
    assert second.fields == ours.headers
    expected = {"none": b"", "length": b"x" * ours.framing.length, "chunked": b"abc"}
    assert second.body == expected[ours.framing.kind]


@given(responses())
def test_llhttp_reads_the_same_response(message):
    """The same for responses with a body of their own."""
    head, body = message
    ours = heads.parse_response(head, b"GET", limits=LIMITS)
    if ours.framing.kind not in {"length", "chunked"}:
        return
    second = Second()
    parser = httptools.HttpResponseParser(second)
    parser.feed_data(head + body)

    assert (parser.get_status_code(), second.done) == (ours.status, 1)
    assert second.fields == ours.headers


@given(st.binary(max_size=200))
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_any_bytes_are_a_request_or_refused(data):
    """No input raises anything but a refusal, whole or not."""
    with contextlib.suppress(RefusedError):
        heads.parse_request(data + b"\r\n\r\n", limits=LIMITS)
    with contextlib.suppress(RefusedError):
        heads.judge_incomplete(data, limits=LIMITS)
    with contextlib.suppress(RefusedError):
        heads.parse_response(data + b"\r\n\r\n", b"GET", limits=LIMITS)


@pytest.mark.parametrize(
    ("request_head", "name"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "host-missing"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-twice"),
        *[
            (b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", "host-malformed")
            for host in (b"a/b", b"a?b", b"a#b", b"u@a", b"a,b", b"a b", b"a:x", b"[::1", b"a:123456")
        ],
        *[
            (b"GET / HTTP/1.1\r\n" + H + field + b"\r\n\r\n", "malformed")
            for field in (
                b"X : 1",
                b"X: a\0b",
                b"X: a\rb",
                b"X: a\x07",
                b"X: a\x7f",
                b"X: a\r\n b",
                b": x",
                b"X",
                b"X\xff: 1",
            )
        ],
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "bare-line-feed"),
        (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", "target-malformed"),
        (b"GET * HTTP/1.1\r\n" + H + b"\r\n", "target-malformed"),
        (b"GET admin HTTP/1.1\r\n" + H + b"\r\n", "target-malformed"),
        (b"GET ftp://a/ HTTP/1.1\r\n" + H + b"\r\n", "target-malformed"),
        (b"GET http://u@a/ HTTP/1.1\r\n" + H + b"\r\n", "host-malformed"),
        (b"GET /\x80 HTTP/1.1\r\n" + H + b"\r\n", "malformed"),
        (b"CONNECT h:80 HTTP/1.1\r\n" + H + b"\r\n", "method-refused"),
        (b"TRACE / HTTP/1.1\r\n" + H + b"\r\n", "method-refused"),
        (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", "malformed"),
        (b"GET / HTTP/2.0\r\n" + H + b"\r\n", "version-unknown"),
        (b"GET / HTTP/1.2\r\n" + H + b"\r\n", "version-unknown"),
        (b"GET / HTTP/1.1\r\n" + H + b"Expect: tea\r\n\r\n", "expectation-unknown"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n", "target-too-long"),
        (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 40000 + b"\r\n\r\n", "head-too-large"),
        (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n" * 100 + b"\r\n", "too-many-fields"),
    ],
)
def test_what_breaks_the_grammar_is_refused_by_name(request_head, name):
    """Each of these would reach somebody who reads it differently."""
    assert refusal_of(request_head) == name


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\x16\x03\x01\x02",
        b"GET /" + b"a" * 9000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 50000,
    ],
)
def test_a_hopeless_beginning_is_refused_before_its_end(data):
    """Nobody waits for the rest of what cannot become a request."""
    with pytest.raises(RefusedError):
        heads.judge_incomplete(data, limits=LIMITS)


@pytest.mark.parametrize(
    ("target", "sent", "host"),
    [
        (b"http://b:81/x?y", b"/x?y", b"b:81"),
        (b"HTTP://b", b"/", b"b"),
        (b"http://b?q", b"/?q", b"b"),
        (b"/a/../%2e?", b"/a/../%2e?", b"a"),
    ],
)
def test_one_authority_counts_and_the_path_stays_as_written(target, sent, host):
    """An absolute form's authority replaces Host (RFC 9112, 3.2.2); nothing is decoded or normalised."""
    request = heads.parse_request(b"GET " + target + b" HTTP/1.1\r\n" + H + b"\r\n", limits=LIMITS)

    assert (request.target, request.host) == (sent, host)
    assert request.path == sent.partition(b"?")[0]


def test_options_star_and_http_1_0_are_understood():
    """``OPTIONS *`` is a target, a missing Host is none of HTTP/1.0's, whose connections close by default."""
    assert heads.parse_request(b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", limits=LIMITS).target == b"*"
    assert heads.parse_request(b"OPTIONS http://b HTTP/1.1\r\n" + H + b"\r\n", limits=LIMITS).target == b"*"
    assert not heads.parse_request(b"GET / HTTP/1.0\r\n\r\n", limits=LIMITS).keep_alive


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        (b"close", False),
        (b"keep-alive, close", False),
        (b"close\r\nConnection: keep-alive", False),
        (b"keep-alive", True),
    ],
)
def test_close_wins_over_keep_alive_in_any_order(connection, kept):
    """A connection of which anyone said that it closes is not reused."""
    request = b"GET / HTTP/1.1\r\n" + H + b"Connection: " + connection + b"\r\n\r\n"

    assert heads.parse_request(request, limits=LIMITS).keep_alive is kept


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nInjected: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_a_doubtful_response_is_refused(head):
    """None of these reaches a client."""
    with pytest.raises(RefusedError):
        heads.parse_response(head, b"GET", limits=LIMITS)


def test_names_are_remembered_but_not_without_end():
    """A client that invents names does not fill our memory."""
    for number in range(heads._MARKS + 100):
        heads.mark_of(b"x-%d" % number)

    assert len(heads._marks) <= heads._MARKS
    assert heads.mark_of(b"ConTent-LENGTH") == b"content-length"
    assert framing.NO_BODY.kind == "none"
