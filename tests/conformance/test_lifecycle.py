"""A proxy that comes and goes: cases 61 to 63."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

import pytest

from support.nasty_upstream import OK, answer, ordinary
from support.proxied import word
from support.raw_client import Client, chunk, request
from support.websocket import accepted, shake

SSE = answer("200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")


def _exits(front, within):
    try:
        return front.process.wait(within)
    except subprocess.TimeoutExpired:
        return None


def _serves(slow):
    """By path: an answer that takes a while, a stream without end, a tunnel, or the ordinary."""

    def script(peer):
        peer.body()
        if peer.request.target == b"/slow":
            slow.wait(5)
            peer.send(OK)
        elif peer.request.target == b"/events":
            peer.send(SSE, chunk(b"data: 1\n\n"))
            peer.gone(within=10)
            peer.drop()
        elif peer.request.target == b"/ws":
            peer.send(accepted())
            peer.gone(within=10)
            peer.drop()
        else:
            peer.send(OK)

    return script


def test_61_a_drain_finishes_what_is_in_flight(proxy):
    """The signal to drain with a slow answer, streams, tunnels and idle connections: the answer arrives whole, the idle
    connections end, nothing new is accepted, the rest is ended, and it exits with 0 by the deadline.
    """
    slow = threading.Event()
    with proxy.another(
        response_timeout=8, read_timeout=8, body_timeout=8, keepalive_timeout=20, tunnel_timeout=20
    ) as draining:
        draining.upstream.script = _serves(slow)
        idle = [draining.connect() for _ in range(20)]
        for client in idle:
            client.send(request("GET", "/")).answer()
        streams = [draining.connect() for _ in range(3)]
        for client in streams:
            client.send(request("GET", "/events")).until(b"data: 1\n\n")
        tunnels = [draining.connect() for _ in range(2)]
        for client in tunnels:
            shake(client)
        busy = draining.connect()
        busy.send(request("GET", "/slow"))
        draining.upstream.until(lambda: any(one.target == b"/slow" for one in draining.upstream.requests))

        began = time.monotonic()
        draining.front.drain()
        idle_ended = [client.gone(within=1.5) for client in idle]
        slow.set()
        response = busy.answer()
        ended = [client.gone(within=5) for client in streams + tunnels]
        code = _exits(draining.front, 5)
        took = time.monotonic() - began

    assert response.status == 200, f"the slow answer was {word(response)}"
    assert all(idle_ended), f"{idle_ended.count(False)} idle connections left open"
    assert all(ended), "streams or tunnels left open"
    assert code == 0, f"exit code {code}"
    assert took < 4.5, f"after {took:.0f} s"


def test_61_a_drain_with_nothing_to_do_is_over_at_once(proxy):
    """The signal to drain with nothing in flight: exit 0 within a second, and the port refuses."""
    with proxy.another() as draining:
        assert draining.get().status == 200
        draining.front.drain()
        code = _exits(draining.front, 1.5)
        with pytest.raises(OSError, match="refused"):
            Client(draining.front.port)

    assert code == 0, f"exit code {code}"


def test_61_a_keepalive_client_is_told_to_go(proxy):
    """A request in flight when the drain begins is answered with `Connection: close`."""
    slow = threading.Event()
    with proxy.another(response_timeout=8, read_timeout=8) as draining:
        draining.upstream.script = _serves(slow)
        with draining.connect() as client:
            client.send(request("GET", "/slow"))
            draining.upstream.until(lambda: draining.upstream.requests)
            draining.front.drain()
            time.sleep(0.2)  # the signal has no other sign than its effect
            slow.set()
            response = client.answer()
            gone = client.gone(within=1)

    assert response.status == 200, f"client got {word(response)}"
    assert response.value("connection") == b"close", "not told to go"
    assert gone, "left open"


def test_62_a_reload_fails_no_request(ours):
    """100 reloads by SIGHUP under load: every request is answered by the old or the new, none fails."""
    stop = threading.Event()
    failed, served = [], []

    def load(proxy):
        while not stop.is_set():
            response = proxy.get("/")
            (served if response.status == 200 else failed).append(response.status)

    with ours.another() as reloading:
        threads = [threading.Thread(target=load, args=(reloading,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            reloading.front.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert reloading.front.alive(), "a reload ended it"

    assert failed == []
    assert len(served) > 100


def test_63_a_killed_proxy_starts_again_on_its_port(ours):
    """kill -9, started again on the same port: what the upstream had was sent once, the next is served."""
    with ours.another() as first:
        port = first.front.port
        first.upstream.script = lambda peer: (peer.body(), first.front.process.kill(), peer.gone(within=2), peer.drop())
        cut = first.ask(request("POST", "/pay", body=b"100"))
        first.front.process.wait(5)  # its port may be shared for as long as it lives
        first.upstream.script = ordinary
        with first.another(port=port) as second:
            assert second.get("/next").status == 200

    assert cut.status == 0, f"client got {word(cut)}"
    assert [one.target for one in ours.upstream.requests] == [b"/pay", b"/next"]
