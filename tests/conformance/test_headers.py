"""What a header becomes on its way: cases 28 to 35."""

from __future__ import annotations

import gzip
import time

import pytest

from support.fronts import PEERS
from support.nasty_upstream import answer, says
from support.nats_server import free_port
from support.proxied import told, word
from support.raw_client import request

HOP_BY_HOP = {
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authorization": "Basic c2VjcmV0",
    "Proxy-Authenticate": "Basic",
    "TE": "gzip",
    "Upgrade": "h2c",
    "X-Listed": "1",
}

# What servers believe about where a request comes from.
CLAIMS = (
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Uri",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "Forwarded",
    "X-Real-IP",
    "X-Crossfade-Stage",
)


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_28_hop_by_hop_headers_end_here(proxy, name):
    """Connection, what it lists, and the hop-by-hop set reach neither the upstream nor the client."""
    field = f"{name}: {HOP_BY_HOP[name]}"
    listed = "Connection: X-Listed" if name == "X-Listed" else "X-Other: 1"
    response = proxy.get("/", field, listed, script=says(answer("200 OK", field, listed, body=b"ok")))

    seen = proxy.seen()
    assert response.status in {200, 400}, f"client got {word(response)}"
    assert all(one.value(name.lower()) is None for one in seen), "the upstream got it"
    if name != "Proxy-Authenticate":  # the origin's own challenge; RFC 9110, 11.7.1 leaves it to the proxy
        assert response.value(name.lower()) in {None, b"timeout=2"}, "the client got it"


def test_28_te_trailers_may_stay(proxy):
    """`TE: trailers` is dropped or sent on as the proxy's own wish, never with what else it named."""
    proxy.get("/", "TE: trailers, gzip;q=0.5", "Connection: TE")

    assert [one.value("te") for one in proxy.seen()] in ([None], [b"trailers"]), (
        f"{proxy.upstream.requests[0].value('te')}"
    )


@pytest.mark.parametrize(
    "listed", ["close, X-Forwarded-For, X-Forwarded-Proto, X-User, Authorization", "Host", "Content-Length"]
)
def test_29_connection_cannot_take_away_the_proxys_own_headers(proxy, listed):
    """`Connection: X-Forwarded-For, ...` keeps from the upstream nothing that the proxy adds, frames or routes by."""
    raw = request("POST", "/", f"Connection: {listed}", body=b"abc")
    response = proxy.ask(raw)

    seen = proxy.seen()
    assert response.status == 400 or [one.body for one in seen] == [b"abc"], f"{word(response)}, {told(seen)}"
    assert all(one.value("host") == b"shop.test" for one in seen), "Host went away"
    assert all(one.value("x-forwarded-for") for one in seen), "X-Forwarded-For went away"


@pytest.mark.parametrize("name", ["X_Forwarded_For", "X-Forwarded_User", "Content_Length", "X_Crossfade_Seam"])
def test_30_a_header_with_an_underscore_is_dropped(proxy, name):
    """A name with an underscore, which some servers read as a dash, is dropped or 400."""
    response = proxy.get("/", f"{name}: 1")

    assert all(one.value(name.lower()) is None for one in proxy.seen()), "the upstream got it"
    assert response.status in {200, 400}, f"client got {word(response)}"


@pytest.mark.parametrize("name", CLAIMS)
def test_31_a_strangers_forwarded_headers_are_overwritten(proxy, name):
    """What a client that nobody trusts says about where it comes from is overwritten or dropped."""
    value = "for=6.6.6.6" if name == "Forwarded" else "6.6.6.6"
    proxy.get("/", f"{name}: {value}")

    seen = proxy.seen()
    assert len(seen) == 1, told(seen)
    assert not any(b"6.6.6.6" in got for got in seen[0].values(name.lower())), "believed"


def test_31_a_trusted_peers_forwarded_headers_are_continued(ours):
    """A trusted address's X-Forwarded-For is appended to, so that the upstream finds the right-most untrusted one."""
    with ours.another(settings={"trust": ["127.0.0.0/8"]}) as trusting:
        trusting.get("/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")

        (seen,) = trusting.seen()
        hops = b", ".join(seen.values("x-forwarded-for")).replace(b" ", b"").split(b",")
        assert hops == [b"192.0.2.7", b"127.0.0.1"]
        assert seen.value("x-forwarded-proto") == b"https"


@pytest.mark.parametrize("way", ["request", "response"])
def test_32_repeated_headers_keep_their_order_and_count(proxy, way):
    """Three Set-Cookie and two X-A stay as many, in order, unjoined; bytes above 0x7f stay as they are."""
    lines = [
        b"X-A: 1",
        b"Set-Cookie: a=1; Path=/",
        b"Set-Cookie: b=2",
        b"X-A: 2",
        b"Set-Cookie: c=3",
        b"X-Raw: \xe9\xff",
    ]
    response = proxy.get("/", *(lines if way == "request" else []), script=says(answer("200 OK", *lines, body=b"")))
    message = response if way == "response" else proxy.seen()[0]

    got = [(name.decode().lower(), value) for name, value in message.headers]
    wanted = [(name.decode().lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    assert [pair for pair in got if pair in wanted] == wanted, "order or count changed"


def test_33_nothing_is_added_and_nothing_decoded(proxy):
    """No User-Agent, Accept or Accept-Encoding is added; a gzip body, ETag, Date and Server come as they were sent."""
    body = gzip.compress(b"a" * 1000, mtime=0)
    lines = ["Content-Encoding: gzip", 'ETag: W/"1"', "Date: Tue, 01 Jan 2019 00:00:00 GMT", "Server: own"]
    response = proxy.get("/", script=says(answer("200 OK", *lines, body=body)))

    (seen,) = proxy.seen()
    added = seen.names() & {"user-agent", "accept", "accept-encoding", "content-type", "accept-language"}
    assert not added, f"added {', '.join(sorted(added))}"
    assert response.body == body, "the body was changed"
    changed = [
        line for line in lines if response.values(line.partition(":")[0].lower()) != [line.partition(": ")[2].encode()]
    ]
    assert not changed, f"changed {', '.join(line.partition(':')[0] for line in changed)}"


def test_33_names_keep_their_case(proxy):
    """`X-camelCase` is `X-camelCase` on the other side, for what reads header names by their bytes."""
    response = proxy.get("/", "X-camelCase: 1", script=says(answer("200 OK", "X-backWard: 1", body=b"")))

    (seen,) = proxy.seen()
    assert b"X-camelCase" in [name for name, _ in seen.headers], "changed on the way there"
    assert b"X-backWard" in [name for name, _ in response.headers], "changed on the way back"


def test_34_a_get_without_body_stays_without(proxy):
    """A GET with no body arrives with neither Transfer-Encoding nor Content-Length."""
    proxy.get("/")

    (seen,) = proxy.seen()
    assert not seen.names() & {"transfer-encoding", "content-length"}, f"framed as {seen.framing}"


def test_35_via_is_appended_each_way(proxy):
    """A Via of before is kept and the proxy's own added, in both directions."""
    response = proxy.get("/", "Via: 1.1 before", script=says(answer("200 OK", "Via: 1.1 behind", body=b"")))

    (seen,) = proxy.seen()
    for message, first in ((seen, b"1.1 before"), (response, b"1.1 behind")):
        hops = b", ".join(message.values("via")).split(b", ")
        assert hops[0] == first, f"Via is {b', '.join(hops).decode()}"
        assert len(hops) == 2, "no Via of its own"


def test_35_a_loop_ends(proxy):
    """A proxy that is its own upstream answers 508 or 502 within a few turns, and leaves no descriptor open."""
    port = free_port()
    itself = "127.0.0.1" if proxy.kind in PEERS else "127.1"  # ours refuses a configuration that names itself plainly
    with proxy.another(upstream=f"{itself}:{port}", port=port) as looping:
        before = looping.front.descriptors()
        response = looping.get("/")
        end = time.monotonic() + 1.5
        while (after := looping.front.descriptors()) > before + 8 and time.monotonic() < end:
            time.sleep(0.05)

    assert response.status in {502, 508}, f"client got {word(response)}"
    assert after <= before + 8, "descriptors left open"
