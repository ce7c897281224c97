"""Who may keep whom waiting, and for how long: cases 52 to 54."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from support.nasty_upstream import answer
from support.nats_server import free_port
from support.proxied import word
from support.raw_client import chunk, request

CHUNKED = "Transfer-Encoding: chunked"


def _discreet(response, *secrets):
    """No address, no file, no library, no stack in an error's body or headers."""
    text = response.body + b"".join(value for name, value in response.headers if name.lower() != b"server")
    for secret in (b"127.0.0.1", b"Traceback", b".py", b"Errno", *secrets):
        assert secret not in text, f"the error says {secret.decode()}"


def test_52_a_refused_connection_is_a_502(proxy):
    """Nobody listens at the upstream: 502 at once, and its body says nothing internal."""
    port = free_port()
    with proxy.another(upstream=f"127.0.0.1:{port}") as dead, dead.connect(patience=2) as client:
        response = client.send(request("GET", "/")).answer()

    assert response.status == 502, f"client got {word(response)}"
    _discreet(response, b"%d" % port)


def test_52_a_connection_that_is_not_answered_is_a_504(proxy):
    """The upstream's queue is full and no SYN is answered: 504 at the limit for connecting."""
    with _full_backlog() as port, proxy.another(upstream=f"127.0.0.1:{port}") as deaf:
        began = time.monotonic()
        with deaf.connect() as client:
            response = client.send(request("GET", "/")).answer()
        took = time.monotonic() - began

    assert response.status == 504, f"client got {word(response)}"
    assert took < 2.5, f"after {took:.0f} s"
    _discreet(response, b"%d" % port)


@contextlib.contextmanager
def _full_backlog():
    """A listener whose queue takes no more: it accepts nothing, so that the kernel drops every further SYN."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def test_52_a_name_that_does_not_resolve_is_a_502(ours):
    """An upstream's name that does not exist: 502, at the first request, not at the start."""
    with ours.another(upstream="no-such-host.invalid:80") as lost:
        response = lost.get()

    assert response.status == 502, f"client got {word(response)}"
    _discreet(response, b"no-such-host")


def test_53_a_silent_upstream_is_a_504(proxy):
    """The upstream reads the request and says nothing: 504 at the limit for the answer's head."""
    began = time.monotonic()
    response = proxy.get(script=lambda peer: peer.gone(within=4) and peer.drop())
    took = time.monotonic() - began

    assert response.status == 504, f"client got {word(response)}"
    assert 0.8 < took < 2.5, f"after {took:.0f} s"
    _discreet(response)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_53_an_upstream_silent_in_its_body_is_cut(proxy, framing):
    """The upstream falls silent within its body: the client's connection ends in error at the limit for silence."""
    head = (
        answer("200 OK", CHUNKED) + chunk(b"abc")
        if framing == "chunked"
        else answer("200 OK", "Content-Length: 9") + b"abc"
    )
    proxy.upstream.script = lambda peer: (peer.send(head), peer.gone(within=4), peer.drop())
    began = time.monotonic()
    with proxy.connect(patience=3) as client:
        response = client.send(request("GET", "/")).answer()
        took = time.monotonic() - began

    assert not response.complete, "client got a clean end"
    assert 0.8 < took < 2.5, f"after {took:.0f} s"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-A: ", b"a"),
        (b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 99\r\n\r\n", b""),
        (b"POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b""),
    ],
    ids=["no bytes", "half a line", "a header byte by byte", "no body", "half a chunk"],
)
def test_54_a_client_that_keeps_it_waiting_is_ended(proxy, first, then):
    """No bytes, half a head, a head by drips, a body that stalls: 408, 504 or an end within the limit, never a 2xx."""
    with proxy.connect() as client:
        client.send(first)
        began = time.monotonic()
        while then and time.monotonic() - began < 2.5 and not client.ended:
            client.send(then)
            client.gone(within=0.2)
        gone = client.gone(within=2.5)
        took = time.monotonic() - began

    assert gone, "still open"
    assert took < 2.6, f"after {took:.0f} s"
    assert not any(one.complete for one in proxy.seen()), "a complete request went on"


def test_54_an_idle_connection_is_ended(proxy):
    """A connection that asks nothing more is ended at the limit for idling, not before."""
    with proxy.connect() as client:
        client.send(request("GET", "/")).answer()
        early = client.gone(within=1.2)
        gone = client.gone(within=2)

    assert not early, "ended too early"
    assert gone, "still open"


def test_54_a_client_that_never_reads_is_ended(proxy):
    """A client that asks for 64 MiB and reads nothing is ended within the limit, and the upstream's connection too."""
    ended = threading.Event()

    def much(peer):
        peer.body()
        try:
            peer.send(answer("200 OK", "Content-Length: 67108864"), *[b"a" * 65536] * 1024)
        finally:
            ended.set()

    proxy.upstream.script = much
    with proxy.connect(receive_buffer=4096) as client:
        client.send(request("GET", "/"))
        assert ended.wait(3), "still open after 3 s"


def test_54_slow_clients_cost_the_others_nothing(proxy):
    """With 100 clients that send half a head, 200 ordinary requests are answered as quickly as before."""
    before = _p90(proxy)
    slow = [proxy.connect().send(b"GET / HTTP/1.1\r\nHost: sh") for _ in range(100)]
    during = _p90(proxy)
    for client in slow:
        client.close()

    assert during < before * 3 + 0.02, "more than three times as slow"


def _p90(proxy):
    took = []
    with proxy.connect() as client:
        for _ in range(200):
            began = time.monotonic()
            assert client.send(request("GET", "/")).answer().status == 200
            took.append(time.monotonic() - began)
    return sorted(took)[180]
