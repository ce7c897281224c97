"""Large bodies, slow readers and many of them, through little memory: case 48."""

from __future__ import annotations

import threading
import time

import pytest

from support.nasty_upstream import answer
from support.proxied import word
from support.raw_client import chunk, request
from support.websocket import BINARY, accepted, frame, shake

MIB = 1 << 20
BLOCK = bytes(range(256)) * 256  # 64 KiB
GROWTH = 8 * MIB  # what one stream may cost, the notes' bound
SIZES = [pytest.param(128, id="128 MiB"), pytest.param(1024, id="1 GiB", marks=pytest.mark.slow)]


class Peak:
    """The most memory a process has resident while this runs, above what it had before."""

    def __init__(self, front):
        self._front = front
        self._before = self._most = front.resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._over.wait(0.02):
            self._most = max(self._most, self._front.resident())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    @property
    def growth(self):
        return self._most - self._before


def _warm(proxy):
    """Leave out of the figures what any first megabyte costs."""
    proxy.upstream.script = _sends(2)
    assert proxy.get().length == 2 * MIB
    assert proxy.ask(request("PUT", "/", body=BLOCK * 32)).status == 200


def _sends(mib, *, chunked=False):
    def script(peer):
        peer.body()
        if peer.request.method == "PUT":
            peer.send(answer("200 OK", body=b"%d" % peer.request.length))
        elif chunked:
            peer.send(answer("200 OK", "Transfer-Encoding: chunked"), *[chunk(BLOCK)] * (mib * 16), b"0\r\n\r\n")
        else:
            peer.send(answer("200 OK", f"Content-Length: {mib * MIB}"), *[BLOCK] * (mib * 16))

    return script


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_48_a_large_answer_costs_little_memory(ours, note, mib, chunked):
    """A large answer passes whole, and the proxy grows by less than 8 MiB."""
    with ours.another() as proxy:
        _warm(proxy)
        proxy.upstream.script = _sends(mib, chunked=chunked)
        began = time.monotonic()
        with Peak(proxy.front) as peak, proxy.connect() as client:
            response = client.send(request("GET", "/")).answer()
        took = time.monotonic() - began

    assert (response.complete, response.length) == (True, mib * MIB), word(response)
    note(f"conformance: answer of {mib} MiB, {mib / took:.0f} MiB/s, the proxy grew by {peak.growth / MIB:.1f} MiB")
    assert peak.growth < GROWTH


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_48_a_large_upload_costs_little_memory(ours, note, mib, chunked):
    """A large upload passes whole, and the proxy grows by less than 8 MiB."""
    with ours.another() as proxy:
        _warm(proxy)
        blocks = mib * 16
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {mib * MIB}"
        pieces = [chunk(BLOCK)] * blocks + [b"0\r\n\r\n"] if chunked else [BLOCK] * blocks
        began = time.monotonic()
        with Peak(proxy.front) as peak, proxy.connect() as client:
            response = client.send(request("PUT", "/", framing), *pieces).answer()
        took = time.monotonic() - began

    assert response.body == b"%d" % (mib * MIB), word(response)
    note(f"conformance: upload of {mib} MiB, {mib / took:.0f} MiB/s, the proxy grew by {peak.growth / MIB:.1f} MiB")
    assert peak.growth < GROWTH


@pytest.mark.parametrize("way", ["answer", "upload"])
def test_48_a_slow_reader_holds_the_writer_back(ours, note, way):
    """One side reads 64 KiB every 50 ms: the other is held back, the proxy keeps less than 8 MiB of it."""
    with ours.another(send_timeout=20) as proxy:  # slow is not silent, on a busy machine either
        _warm(proxy)
        sent = []
        with Peak(proxy.front) as peak:
            _slow_answer(proxy, sent) if way == "answer" else _slow_upload(proxy, sent)

    note(f"conformance: slow {way}: {len(sent) // 16} MiB taken in, the proxy grew by {peak.growth / MIB:.1f} MiB")
    assert peak.growth < GROWTH
    assert len(sent) < 16 * 24, "the writer was not held back"


def _slow_answer(proxy, sent):
    def script(peer):
        peer.body()
        peer.send(answer("200 OK", f"Content-Length: {64 * MIB}"))
        for _ in range(64 * 16):
            peer.send(BLOCK)
            sent.append(1)

    proxy.upstream.script = script
    with proxy.connect(receive_buffer=65536) as client:
        client.send(request("GET", "/")).head()
        for _ in range(20):
            client.read(65536)
            time.sleep(0.05)


def _slow_upload(proxy, sent):
    over = threading.Event()

    def script(peer):
        peer.slow_reader()
        for number in range(1, 21):
            peer.part(number * 65536)
            time.sleep(0.05)
        over.set()
        peer.reset()

    def upload(client):
        client.send(request("PUT", "/", f"Content-Length: {64 * MIB}"))
        while len(sent) < 64 * 16 and not over.is_set():
            client.send(BLOCK)
            sent.append(1)

    proxy.upstream.script = script
    with proxy.connect() as client:
        sender = threading.Thread(target=upload, args=(client,))
        sender.start()
        assert over.wait(30), "the upstream was starved"
        client.gone(within=2)
        sender.join(5)


def test_48_twenty_slow_readers_cost_twenty_times_little(ours, note):
    """20 clients that ask for 16 MiB each and read nothing: less than 2 MiB each, and others are served meanwhile."""
    with ours.another(send_timeout=20) as proxy:
        _warm(proxy)
        proxy.upstream.script = _sends(16)
        with Peak(proxy.front) as peak:
            slow = [proxy.connect(receive_buffer=65536).send(request("GET", f"/{number}")) for number in range(20)]
            assert proxy.upstream.until(lambda: len(proxy.upstream.requests) >= 20)
            proxy.seen()  # an ordinary client
            time.sleep(0.3)  # in which more would be taken in, were it not held back
        for client in slow:
            client.reset()

    note(f"conformance: 20 slow readers, the proxy grew by {peak.growth / MIB:.1f} MiB")
    assert peak.growth < 20 * 2 * MIB


def test_68_frames_of_10_mb_cost_little_memory(ours, note):
    """Ten WebSocket frames of 10 MB to an upstream that reads them slowly: the proxy grows by less than 8 MiB."""
    got = []
    sent = frame(BINARY, bytes(10_000_000), masked=True)

    def script(peer):
        peer.request.complete = True
        peer.send(accepted())
        while sum(got) < 10 * len(sent):
            got.append(len(peer.wire.some(1 << 18)))
            time.sleep(0.001)
        peer.close()

    with ours.another(tunnel_timeout=20) as proxy:
        _warm(proxy)
        proxy.upstream.script = script
        with Peak(proxy.front) as peak, proxy.connect(patience=20) as client:
            assert shake(client).status == 101
            client.send(*[sent] * 10)
            assert client.gone(within=20)

    assert sum(got) == 10 * len(sent)
    note(f"conformance: 10 frames of 10 MB, the proxy grew by {peak.growth / MIB:.1f} MiB")
    assert peak.growth < GROWTH


def test_48_nothing_is_left_when_all_have_gone(ours):
    """After 300 connections that end in every way, the proxy has as many descriptors open as before."""
    with ours.another(upstream_idle_timeout=0.5) as proxy:
        proxy.seen()
        before = proxy.front.descriptors()
        endings = [b"", b"GET / HT", request("GET", "/"), request("POST", "/", "Content-Length: 9"), b"\0\r\n\r\n"]
        for number in range(300):
            client = proxy.connect().send(endings[number % len(endings)])
            client.reset() if number % 2 else client.close()
        end = time.monotonic() + 5
        while (after := proxy.front.descriptors()) > before + 4 and time.monotonic() < end:
            time.sleep(0.05)

    assert after <= before + 4, f"{after - before} more descriptors than before"
