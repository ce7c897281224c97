"""The meeting point: whoever answers keeps to its promises, and neither side loses a byte."""

from __future__ import annotations

import pytest

from crossfade.proxy.exchange import BodyTooLargeError, ClientLeftError, Exchange
from crossfade.proxy.framing import CHUNKED, UNTIL_CLOSE, length
from crossfade.proxy.headers import Hop, Peer, made_response
from crossfade.proxy.heads import parse_request, parse_response
from crossfade.proxy.limits import Limits


class Client:
    """A client connection that notes what is asked of it."""

    def __init__(self):
        self.peer = Peer("192.0.2.1", scheme=b"http", hop=Hop(name=b"cf"))
        self.writes, self.events = [], []

    def write(self, data):
        self.writes.append(data)

    def writelines(self, data):
        self.writes.append(b"".join(data))

    def pause_body(self):
        self.events.append("pause")

    def resume_body(self):
        self.events.append("resume")

    def answered(self, exchange):
        self.events.append("answered")

    def broken(self, exchange):
        self.events.append("broken")

    def keeps_alive(self, exchange):
        return True

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)


class Sink:
    def __init__(self):
        self.got = []

    def data(self, data):
        self.got.append(data)

    def end(self, trailers):
        self.got.append(list(trailers))

    def gone(self):
        self.got.append("gone")


class Tap:
    def __init__(self):
        self.seen = []

    def request_data(self, data):
        self.seen.append(data)

    def response_head(self, head):
        self.seen.append(head.status)

    def response_data(self, data):
        self.seen.append(data)

    def finished(self, *, whole):
        self.seen.append(whole)


def exchange(*fields: str, method: str = "GET", version: str = "1.1") -> tuple[Exchange, Client]:
    text = "\r\n".join([f"{method} / HTTP/{version}", "Host: a", *fields, "", ""])
    client = Client()
    return Exchange(client, parse_request(text.encode(), limits=Limits()), started=0.0), client


def test_an_answer_of_our_own_tells_its_length():
    """Content-Length is added when it is not there, and once when it is."""
    for headers in ([], [(b"content-length", b"2")]):
        ours, client = exchange()
        ours.start(200, b"OK", headers, length(2))
        ours.write(b"ok")
        ours.end()

        assert client.sent.lower().count(b"content-length: 2\r\n") == 1
        assert client.sent.endswith(b"\r\n\r\nok")
        assert client.events == ["answered"]


@pytest.mark.parametrize("pieces", [[b"o"], [b"ok", b"k"]])
def test_an_answer_that_breaks_its_promise_is_broken_off(pieces):
    """Shorter or longer than it said: the client must see that it is not whole, and no byte too many."""
    ours, client = exchange()
    ours.start(200, b"OK", [], length(2))
    for piece in pieces:
        ours.write(piece)
    ours.end()

    assert client.events == ["broken"]
    assert not client.sent.endswith(b"okk")
    assert ours.outcome == "cut"


@pytest.mark.parametrize(
    ("version", "framing", "end"),
    [
        ("1.0", CHUNKED, b"\r\n\r\nok"),
        ("1.1", UNTIL_CLOSE, b"2\r\nok\r\n0\r\n\r\n"),
        ("1.1", CHUNKED, b"2\r\nok\r\n0\r\n\r\n"),
    ],
)
def test_a_body_of_unknown_length_is_framed_as_its_client_understands(version, framing, end):
    """Chunks for HTTP/1.1, the connection's end for HTTP/1.0, which is told so."""
    ours, client = exchange(version=version)
    ours.start(200, b"OK", [], framing)
    ours.write(b"ok")
    ours.end()

    assert client.sent.endswith(end)
    assert (b"Connection: close" in client.sent) is (version == "1.0")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_what_has_no_body_gets_none(method, status):
    """Whatever its answerer writes."""
    ours, client = exchange(method=method)
    ours.start(status, b"X", [], length(2))
    ours.write(b"ok")
    ours.end()

    assert client.sent.endswith(b"\r\n\r\n")
    assert client.events == ["answered"]
    assert (b"Content-Length" in client.sent) is (status != 204)


def test_a_corked_answer_leaves_in_one_piece():
    """Head, body and end are one write; ``flush`` sends what is there."""
    ours, client = exchange()
    ours.cork()
    ours.relay(made_response(200, b"OK", []), CHUNKED)
    ours.write(b"a")
    assert client.writes == []
    ours.flush()
    ours.write(b"b")
    ours.end()

    assert len(client.writes) == 2
    assert client.sent.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


def test_a_body_that_comes_before_its_sink_waits_and_slows_its_client():
    """The first piece pauses the client; the sink gets everything in order, then the client goes on."""
    ours, client = exchange("Content-Length: 4", method="POST")
    ours.feed(b"ab")
    sink = Sink()
    ours.body_to(sink)
    ours.feed(b"cd")
    ours.feed_end([(b"X-Sum", b"1"), (b"Host", b"evil")])

    assert client.events == ["pause", "resume"]
    assert sink.got == [b"ab", b"cd", [(b"X-Sum", b"1")]]


def test_a_client_that_leaves_is_told_to_the_sink_once():
    """And whatever is written afterwards goes nowhere."""
    ours, client = exchange("Content-Length: 4", method="POST")
    sink = Sink()
    ours.body_to(sink)
    ours.leave()
    ours.leave()
    ours.start(200, b"OK", [], length(2))
    ours.write(b"ok")
    ours.end()

    assert sink.got == ["gone"]
    assert client.sent == b""
    assert ours.outcome == "left"


def test_interim_responses_are_for_those_who_understand_them():
    """HTTP/1.0 gets none, and nobody gets one behind a head."""
    for version, expected in (("1.0", b""), ("1.1", b"HTTP/1.1 103 Early Hints\r\n\r\n")):
        ours, client = exchange(version=version)
        ours.interim(made_response(103, b"Early Hints", [(b"Connection", b"x")]))
        assert client.sent == expected
        ours.start(200, b"OK", [], length(0))
        ours.interim(made_response(103, b"Early Hints", []))
        assert client.sent.count(b"103") == expected.count(b"103")


def test_a_tap_sees_everything_and_how_it_ended():
    """Body, answer, and whether the client got all of it."""
    ours, _ = exchange("Content-Length: 2", method="POST")
    ours.tap = Tap()
    ours.body_to(Sink())
    ours.feed(b"ab")
    ours.feed_end(())
    ours.problem(503, name="x", phase="queue", detail="y")

    assert ours.tap.seen[:2] == [b"ab", 503]
    assert b'"seam": "-"' in ours.tap.seen[2]
    assert ours.tap.seen[3:] == [True]


async def test_a_body_is_read_whole_or_not_at_all():
    """The limit and a client that leaves are errors, not shorter bodies."""
    import asyncio

    for feed, error in ((b"abcde", BodyTooLargeError), (b"", ClientLeftError), (b"abc", None)):
        ours, _ = exchange("Transfer-Encoding: chunked", method="POST")
        reading = asyncio.create_task(ours.read_body(4))
        await asyncio.sleep(0)
        if feed:
            ours.feed(feed)
            ours.feed_end(())
        else:
            ours.leave()
        if error is None:
            assert await reading == feed
        else:
            with pytest.raises(error):
                await reading


@pytest.mark.parametrize("size", [3, 100_000])
def test_an_answer_at_once_is_what_it_is_in_pieces(size):
    """The same bytes, counts and taps as ``relay``, ``write`` and ``end``; a small one leaves in one piece."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-A: 1\r\n\r\n" % size
    head, body = parse_response(raw, b"GET", limits=Limits()), b"x" * size
    (one, at_once), (other, in_pieces) = exchange(), exchange()
    one.tap, other.tap = Tap(), Tap()

    one.answer(head, body)
    other.relay(head, head.framing)
    other.write(body)
    other.end()

    assert at_once.sent == in_pieces.sent
    assert at_once.events == in_pieces.events == ["answered"]
    assert one.tap.seen == other.tap.seen
    assert (one.sent, one.outcome, one.status) == (other.sent, other.outcome, other.status) == (size, "whole", 200)
    assert len(at_once.writes) == (1 if size == 3 else 2)
