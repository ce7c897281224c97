"""WebSockets through the proxy: cases 64 to 70."""

from __future__ import annotations

import struct

import pytest

from support.nasty_upstream import Gone, answer, ordinary, says
from support.proxied import told, word
from support.raw_client import request
from support.strict_http import Incomplete
from support.websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, accepted, frame, read_frame, shake, upgrade


def _read(peer):
    """Exactly so many bytes from the proxy, or fewer at the end."""

    def read(size):
        data = b""
        try:
            while len(data) < size:
                data += peer.wire.some(size - len(data))
        except Incomplete:
            pass
        return data

    return read


def _grants(*lines, after=b"", then=None, seen=None):
    """Grant the upgrade, with ``after`` glued behind it, and echo; or do what ``then`` does."""

    def script(peer):
        peer.request.complete = True
        peer.send(accepted(*lines) + after)
        try:
            if then:
                then(peer)
                return
            while received := read_frame(_read(peer)):
                if seen is not None:
                    seen.append(received)
                peer.send(frame(received.opcode, received.payload, masked=False, final=received.final))
                if received.opcode == CLOSE:
                    break
        except Gone:
            pass
        finally:
            if not peer.closed:
                peer.close()

    return script


@pytest.mark.parametrize("lacking", ["key", "version", "old version"])
def test_64_a_handshake_that_is_none_opens_nothing(proxy, lacking):
    """No key, no version, or one that nobody speaks: 400 or 426 from the proxy or the upstream, and no tunnel."""
    raw = {
        "key": upgrade(key=None),
        "version": upgrade(version=None),
        "old version": upgrade(version="7"),
    }[lacking]
    response = proxy.ask(raw, script=says(answer("426 Upgrade Required", "Sec-WebSocket-Version: 13", body=b"")))

    assert response.status in {400, 426}, f"client got {word(response)}"


@pytest.mark.parametrize(
    ("lacking", "status"), [({"key": None}, 400), ({"version": None}, 426), ({"version": "7"}, 426)]
)
def test_64_a_handshake_that_is_none_ends_here(ours, lacking, status):
    """An upstream that would grant anything is not asked."""
    response = ours.ask(upgrade(**lacking), script=_grants())
    ours.upstream.script = ordinary

    assert response.status == status, word(response)
    assert ours.seen() == []


def test_64_a_refusal_is_relayed(proxy):
    """The upstream answers 403: the client gets it with its body, and no tunnel."""
    proxy.upstream.script = says(answer("403 Forbidden", body=b"not you"))
    with proxy.connect() as client:
        response = client.send(upgrade()).answer()

    assert (response.status, response.body) == (403, b"not you"), f"client got {word(response)}"


@pytest.mark.parametrize("kind", ["unasked", "no upgrade", "wrong protocol"])
def test_64_a_bad_101_is_a_502(proxy, kind):
    """A 101 that nobody asked for, names no protocol or another one: 502."""
    head = {
        "unasked": accepted(),
        "no upgrade": answer("101 Switching Protocols"),
        "wrong protocol": answer("101 Switching Protocols", "Connection: Upgrade", "Upgrade: h2c"),
    }[kind]
    response = proxy.ask(request("GET", "/") if kind == "unasked" else upgrade(), script=says(head, then="close"))

    assert response.status == 502, f"client got {word(response)}"


def test_65_a_protocol_of_raw_bytes_hurts_nobody(proxy):
    """Sec-WebSocket-Protocol with bytes above 0x7f: any answer, and the next client is served."""
    with proxy.connect() as client:
        response = client.send(upgrade("/ws", b"Sec-WebSocket-Protocol: \x80\xff")).head()

    assert response.status in {200, 400, 101}, f"client got {word(response)}"
    assert proxy.get().status == 200


def test_66_the_chosen_protocol_is_the_upstreams(proxy):
    """The subprotocol that the upstream chose is the client's; no extension is granted that the upstream did not."""
    proxy.upstream.script = _grants("Sec-WebSocket-Protocol: v2")
    with proxy.connect() as client:
        response = shake(client, "Sec-WebSocket-Protocol: v1, v2", "Sec-WebSocket-Extensions: permessage-deflate")

    assert response.status == 101, f"client got {word(response)}"
    assert response.values("sec-websocket-protocol") == [b"v2"]
    assert response.value("sec-websocket-extensions") is None, "an extension nobody granted"
    assert proxy.upstream.requests[0].value("sec-websocket-protocol") == b"v1, v2", "the offer was changed"


@pytest.mark.parametrize("code", [1000, 3000, 4999])
@pytest.mark.parametrize("who", ["client", "upstream"])
def test_67_close_codes_and_reasons_pass(proxy, who, code):
    """Close 1000, 3000 and 4999 with a reason reach the other side as they are, and the answer to them too."""
    payload = struct.pack(">H", code) + "vorbei ✓".encode()
    seen = []

    def closes(peer):
        peer.send(frame(CLOSE, payload, masked=False))
        seen.append(read_frame(_read(peer)))

    proxy.upstream.script = _grants(then=closes if who == "upstream" else None, seen=seen)
    with proxy.connect() as client:
        assert shake(client).status == 101
        if who == "client":
            client.send(frame(CLOSE, payload, masked=True))
        got = read_frame(client.read)
        if who == "upstream":
            client.send(frame(CLOSE, payload, masked=True))
        ended = client.gone(within=2)

    assert proxy.upstream.until(lambda: seen)
    assert [got and got.payload, seen[0] and seen[0].payload] == [payload, payload], "changed"
    assert ended, "still open after the close"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_67_an_upstream_that_dies_never_looks_like_a_good_close(proxy, how):
    """The upstream's TCP ends without a close frame: the client sees an end, perhaps 1011 or 1014, never 1000."""
    proxy.upstream.script = _grants(then=lambda peer: (read_frame(_read(peer)), getattr(peer, how)()))
    with proxy.connect() as client:
        shake(client)
        client.send(frame(TEXT, b"hello", masked=True))
        got = read_frame(client.read)

    assert got is None or (got.opcode, got.code in {1011, 1014}) == (CLOSE, True), f"client got {got}"


def test_67_a_client_that_dies_ends_the_upstream(proxy):
    """The client's TCP ends without a close frame: the upstream's connection ends, with no close code of 1000."""
    seen = []

    def records(peer):
        seen.append(read_frame(_read(peer)))
        seen.append(peer.ended)

    proxy.upstream.script = _grants(then=records)
    with proxy.connect() as client:
        shake(client)
        client.reset()

    assert proxy.upstream.until(lambda: seen), "still open"
    assert seen[0] is None or seen[0].code != 1000, "1000"


def test_68_text_stays_text_and_fragments_stay_fragments(proxy):
    """Text, binary, pings and fragments reach the upstream and come back as they are."""
    seen = []
    sent = [
        (TEXT, "grüße".encode(), True),
        (BINARY, bytes(range(256)), True),
        (TEXT, b"one ", False),
        (PING, b"?", True),
        (CONTINUATION, b"message", True),
        (TEXT, b"", True),
    ]
    proxy.upstream.script = _grants(seen=seen)
    with proxy.connect() as client:
        shake(client)
        for opcode, payload, final in sent:
            client.send(frame(opcode, payload, masked=True, final=final))
        back = [read_frame(client.read) for _ in sent]

    assert [(one.opcode, one.payload, one.final) for one in seen] == sent, "changed on the way there"
    assert [one and (one.opcode, one.payload, one.final) for one in back] == sent, "changed on the way back"


def test_68_ten_thousand_fragments_pass(proxy):
    """A message of 10,000 fragments passes whole."""
    seen = []
    proxy.upstream.script = _grants(seen=seen)
    with proxy.connect(patience=10) as client:
        shake(client)
        middle = frame(CONTINUATION, b"x", masked=True, final=False) * 9_998
        client.send(frame(TEXT, b"x", masked=True, final=False) + middle + frame(CONTINUATION, b"x", masked=True))
        back = [read_frame(client.read) for _ in range(10_000)]

    assert len(seen) == 10_000, f"{len(seen)} arrived"
    assert back[-1] is not None
    assert back[-1].final, "the last came back as another"


def test_68_a_frame_of_10_mb_passes_both_ways(proxy):
    """A binary frame of 10 MB is echoed byte by byte."""
    payload = bytes(range(250)) * 40_000
    proxy.upstream.script = _grants()
    with proxy.connect(patience=20) as client:
        shake(client)
        client.send(frame(BINARY, payload, masked=True))
        back = read_frame(client.read)

    assert back is not None, "cut off"
    assert back.payload == payload, "changed"


def test_69_bytes_glued_behind_the_101_arrive(proxy):
    """A frame in the same packet as the upstream's 101 reaches the client."""
    proxy.upstream.script = _grants(after=frame(TEXT, b"first", masked=False))
    with proxy.connect() as client:
        shake(client)
        got = read_frame(client.read)

    assert got is not None, "lost"
    assert got.payload == b"first", f"client got {got.payload!r}"


def test_69_bytes_glued_behind_the_request_arrive_after_the_101_only(proxy):
    """A frame in one packet with the client's request reaches the upstream, not before it has granted the upgrade."""
    early = []

    def grants(peer):
        early.append(peer.wire.buffer)
        _grants()(peer)

    proxy.upstream.script = grants
    with proxy.connect() as client:
        client.send(upgrade() + frame(TEXT, b"eager", masked=True)).head()
        got = read_frame(client.read)

    assert early == [b""], "sent on before the 101"
    assert got is not None, "lost"
    assert got.payload == b"eager", f"client got {got.payload!r}"


def test_69_bytes_behind_a_request_that_was_not_granted_are_no_tunnel(proxy):
    """The upgrade is refused: what stood behind it is read as the next request, never sent on raw."""
    proxy.upstream.script = says(answer("403 Forbidden", body=b""))
    with proxy.connect() as client:
        client.send(upgrade() + frame(TEXT, b"eager", masked=True))
        statuses = [client.answer().status, client.answer().status]

    assert statuses[0] == 403, f"client got {statuses}"
    assert statuses[1] in {0, 400}, f"client got {statuses}"
    proxy.upstream.script = ordinary
    seen = proxy.seen()
    assert len(seen) == 1, told(seen)


def test_70_origin_and_host_reach_the_upstream(proxy):
    """Origin and Host arrive as sent, on the handshake and on ordinary requests, for the upstream's own check."""
    proxy.upstream.script = _grants()
    with proxy.connect() as client:
        shake(client, "Origin: http://evil.test")
    proxy.upstream.script = ordinary
    proxy.get("/", "Origin: http://evil.test")

    got = [(one.value("origin"), one.value("host")) for one in proxy.seen()]
    assert got == [(b"http://evil.test", b"shop.test")] * 2, f"upstream got {got}"


def test_69_a_half_closed_tunnel_still_carries_the_other_way(proxy):
    """The client sends FIN within a tunnel: what the upstream still says arrives, and then the tunnel ends."""
    after = []

    def talks_on(peer):
        after.append(_read(peer)(1 << 20))
        peer.send(b"goodbye")
        peer.close()

    proxy.upstream.script = _grants(then=talks_on)
    with proxy.connect() as client:
        shake(client)
        client.send(b"hello").half_close()
        rest = client.rest()

    assert (after, rest) == ([b"hello"], b"goodbye"), "cut off"


def test_67_a_tunnel_that_is_silent_is_ended(proxy):
    """A tunnel in which nobody speaks ends at its limit; one in which only one side speaks does not."""

    def speaks(peer):
        try:
            for _ in range(8):
                peer.send(frame(PING, b"", masked=False))
                if peer.gone(within=0.35):
                    return
        finally:
            peer.gone(within=4)

    proxy.upstream.script = _grants(then=speaks)
    with proxy.connect() as client:
        shake(client)
        pings = [read_frame(client.read) for _ in range(8)]
        ended = client.gone(within=3.5)

    assert None not in pings, "ended too early"
    assert ended, "still open"
