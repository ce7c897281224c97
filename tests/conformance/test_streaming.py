"""Bytes that go on as they come, and ends that come in the middle: cases 46 to 51."""

from __future__ import annotations

import json
import threading
import time

import pytest

from support.nasty_upstream import OK, Gone, answer, ordinary, says
from support.proxied import word
from support.raw_client import chunk, request
from support.strict_http import Incomplete, read_body

CHUNKED = "Transfer-Encoding: chunked"
SSE = answer("200 OK", "Content-Type: text/event-stream", CHUNKED)
LAST = b"0\r\n\r\n"


def test_46_every_event_comes_when_it_is_sent(proxy):
    """Each event of a stream is at the client before the upstream sends the next, also when they are far apart."""
    go = threading.Semaphore(0)

    def streaming(peer):
        peer.send(SSE)
        for number in range(5):
            go.acquire(timeout=5)
            peer.send(chunk(b"data: %d\n\n" % number))
        peer.send(LAST)

    proxy.upstream.script = streaming
    with proxy.connect() as client:
        client.send(request("GET", "/events", "Accept: text/event-stream")).head()
        took = []
        for number in range(5):
            began = time.monotonic()
            go.release()
            assert client.until(b"\n\n").endswith(b"data: %d\n\n" % number), "an event was held back"
            took.append(time.monotonic() - began)

    assert sorted(took)[2] < 0.05, "the median event took more than 50 ms"


def test_46_heartbeats_keep_a_stream_alive(proxy):
    """A stream of heartbeats outlives every limit on silence."""
    beats = [chunk(b":\n\n")] * 8
    response = proxy.get(script=says(SSE, *beats, LAST, every=0.3))

    assert response.complete, word(response)
    assert response.length == 24


def test_47_both_directions_run_at_once(proxy):
    """One byte at a time in both directions: each answers the other, while the request is not yet at its end."""

    def echo(peer):
        peer.send(answer("200 OK", CHUNKED))
        for _ in range(5):
            at = peer.request.length
            while peer.request.length == at:
                _one_chunk(peer)
            peer.send(chunk(b"%d" % peer.request.length))
        read_body(peer.wire, peer.request)
        peer.send(LAST)

    proxy.upstream.script = echo
    with proxy.connect() as client:
        client.send(request("POST", "/", CHUNKED) + chunk(b"a"))
        response = client.head()
        for number in range(1, 6):
            assert client.until(b"%d\r\n" % number), "nothing came back"
            client.send(chunk(b"a") if number < 5 else LAST)
        end = client.until(LAST)

    assert response.status == 200, word(response)
    assert end.endswith(LAST), "the answer has no end"
    (seen,) = proxy.seen()
    assert seen.complete, "the request has no end"


def _one_chunk(peer):
    size = int(peer.wire.line(), 16)
    peer.request.feed(peer.wire.some(size))
    peer.wire.line()


def test_49_a_refusal_during_an_upload_is_read(proxy):
    """The upstream answers 413 and closes during a 15 MiB upload: the client reads it, neither connection is reused."""

    def refusing(peer):
        peer.part(64 * 1024)
        peer.send(answer("413 Content Too Large", "Connection: close", body=b"too large"))
        peer.close()

    proxy.upstream.script = refusing
    with proxy.connect() as client:
        sender = threading.Thread(target=client.send, args=(request("POST", "/", body=b"a" * (15 << 20)),))
        sender.start()
        response = client.answer()
        gone = client.gone(within=4)
        sender.join(5)
    proxy.upstream.script = ordinary

    assert (response.status, response.body) == (413, b"too large"), f"client got {word(response)}"
    assert gone, "the client's connection was left open"
    assert proxy.get().status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["before headers", "in a stream", "in a full pipe"])
def test_50_a_client_that_leaves_frees_the_upstream(proxy, when, how):
    """The client leaves: the upstream's connection ends within a second, nothing is sent twice, the next is served."""
    ended = threading.Event()

    def waiting(peer):
        peer.body()
        if when != "before headers":
            peer.send(SSE, chunk(b"data: 1\n\n"))
        if when == "in a full pipe":
            try:
                for _ in range(400):
                    peer.send(chunk(b"a" * 65536))
            except Gone:
                ended.set()
                return
        if peer.gone(within=0.9 if when == "before headers" else 3):
            ended.set()
        peer.drop()

    proxy.upstream.script = waiting
    client = proxy.connect()
    client.send(request("GET", "/"))
    assert proxy.upstream.until(lambda: proxy.upstream.requests), "the request never arrived"
    if when != "before headers":
        client.until(b"data: 1\n\n")
    getattr(client, how)()

    assert ended.wait(1), "the upstream's connection was left open for a second"
    proxy.upstream.script = ordinary
    assert len(proxy.seen()) == 1, "it was sent again"


def test_51_a_client_that_half_closes_still_gets_its_answer(proxy):
    """FIN after a whole request: the answer comes all the same."""

    def later(peer):
        peer.body()
        time.sleep(0.1)
        peer.send(OK)

    proxy.upstream.script = later
    with proxy.connect() as client:
        client.send(request("POST", "/", body=b"abc")).half_close()
        response = client.answer()

    assert response.status == 200, f"client got {word(response)}"


def test_51_an_upstream_that_half_closes_still_gets_the_request(proxy):
    """FIN of the upstream after its whole answer, before it read the request: the client has the answer."""

    def early(peer):
        peer.send(answer("200 OK", "Connection: close", body=b"early"))
        peer.half_close()
        try:
            peer.body()
        except Incomplete:
            peer.drop()

    proxy.upstream.script = early
    with proxy.connect() as client:
        client.send(request("POST", "/", "Content-Length: 10") + b"abcde")
        response = client.answer()
        client.send(b"fghij")

    assert response.body == b"early", f"client got {word(response)}"


@pytest.mark.parametrize("body", [b"", b"ab"], ids=["no body", "half a body"])
def test_51_an_end_behind_an_unfinished_second_request_is_noticed(proxy, body):
    """FIN while the first request is still being answered, and the second on the wire lacks its body: no hang."""

    def later(peer):
        peer.body()
        time.sleep(0.1)
        peer.send(OK)

    proxy.upstream.script = later
    with proxy.connect() as client:
        client.send(request("GET", "/1") + request("POST", "/2", "Content-Length: 5") + body).half_close()
        first = client.answer()
        gone = client.gone(within=2.5)

    assert first.status == 200, f"client got {word(first)}"
    assert gone, "still open"
    assert not any(one.complete for one in proxy.seen() if one.method == "POST"), "the half upload was completed"


def test_50_a_client_that_left_is_logged_as_499(ours, tmp_path):
    """The access log has 499 for a client that left before its answer, and no 2xx; the next request has its 200."""
    log = tmp_path / "access.log"
    with ours.another(settings={"access_log": str(log)}) as proxy:
        proxy.upstream.script = lambda peer: peer.gone(within=3) and peer.drop()
        with proxy.connect() as client:
            client.send(request("GET", "/gone"))
            assert proxy.upstream.until(lambda: proxy.upstream.requests)
        assert proxy.upstream.until(lambda: proxy.upstream.peers[0].ended)
        proxy.upstream.script = ordinary
        proxy.get("/served")
        lines = _logged(proxy, log, 2)

    assert [(line["path"], line["status"]) for line in lines] == [("/gone", 499), ("/served", 200)]


def test_19_a_half_upload_is_not_logged_as_served(ours, tmp_path):
    """The access log has no 2xx for an upload that was cut short."""
    log = tmp_path / "access.log"
    with ours.another(settings={"access_log": str(log)}) as proxy:
        with proxy.connect() as client:
            client.send(request("PUT", "/half", "Content-Length: 100") + b"half of it")
            assert proxy.upstream.until(lambda: proxy.upstream.requests)
        (line,) = _logged(proxy, log, 1)

    assert line["path"] == "/half"
    assert not 200 <= line["status"] < 300, line


def _logged(proxy, log, count):
    """So many lines of the access log, which is written off the path of a request."""

    def lines():
        return log.read_text().splitlines() if log.exists() else []

    assert proxy.upstream.until(lambda: len(lines()) >= count), lines()
    return [json.loads(line) for line in lines()]
