"""What leaves is one message, with the same body, without what concerned one hop; order stays."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given

from crossfade.proxy import headers
from crossfade.proxy.framing import CHUNKED, NO_BODY, RefusedError, length
from crossfade.proxy.heads import parse_request, parse_response
from crossfade.proxy.limits import Limits
from unit.proxy.messages import requests, responses

LIMITS = Limits()
HOP = headers.Hop(name=b"crossfade-test", trusted=(ipaddress.ip_network("10.0.0.0/8"),))
STRANGER = headers.Peer("192.0.2.1", scheme=b"http", hop=HOP)
BALANCER = headers.Peer("10.0.0.1", scheme=b"https", hop=HOP)
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"te",
    b"upgrade",
    b"http2-settings",
}


def request(*fields: str, minor: int = 1) -> bytes:
    return "\r\n".join([f"GET / HTTP/1.{minor}", "Host: shop", *fields, "", ""]).encode("latin-1")


def upstream(data: bytes, peer: headers.Peer = STRANGER) -> list[tuple[bytes, bytes]]:
    sent = headers.to_upstream(parse_request(data, limits=LIMITS), peer=peer, authority=b"up:1")
    return parse_request(sent, limits=LIMITS).headers


@given(requests())
def test_what_goes_upstream_is_exactly_one_request_with_the_same_body(message):
    """It parses again, its framing is the same, its target and method too."""
    ours = parse_request(message[0], limits=LIMITS)
    sent = headers.to_upstream(ours, peer=STRANGER, authority=b"up:1")
    again = parse_request(sent, limits=LIMITS)

    assert sent.endswith(b"\r\n\r\n")
    assert sent.count(b"\r\n\r\n") == 1
    assert (again.method, again.target, again.host) == (ours.method, ours.target, b"shop.example")
    assert again.framing == ours.framing


@given(requests())
def test_hop_by_hop_fields_never_leak_and_the_rest_keeps_its_order(message):
    """Nothing of one hop, nothing ``Connection`` lists, no underscore, no claim of origin; all else in order."""
    ours = parse_request(message[0], limits=LIMITS)
    sent = parse_request(headers.to_upstream(ours, peer=STRANGER, authority=b"up"), limits=LIMITS).headers
    listed = set(ours.connection) - {b"host", b"content-length"}
    tail = [name for name, _ in sent].index(b"X-Forwarded-For")
    kept = [
        field
        for field in ours.headers
        if field[0].lower() not in HOP_BY_HOP | listed | headers._ORIGIN | {b"transfer-encoding"}
        and b"_" not in field[0]
        and not field[0].lower().startswith((b"x-forwarded-", b"x-crossfade-"))
    ]

    assert sent[:tail] == kept
    assert [value for name, value in sent if name.lower() == b"x-forwarded-for"] == [b"192.0.2.1"]


@given(responses())
def test_what_goes_to_the_client_is_one_response_with_the_framing_it_was_given(message):
    """It parses again; hop-by-hop fields are gone."""
    head = parse_response(message[0], b"GET", limits=LIMITS)
    framing = CHUNKED if head.framing.kind == "until-close" else head.framing
    sent = headers.to_client(head, via=b"v", minor=1, framing=framing, keep_alive=True, keeps_length=head.status == 304)
    again = parse_response(sent, b"GET", limits=LIMITS)

    assert again.framing == framing
    assert {name.lower() for name, _ in again.headers}.isdisjoint(HOP_BY_HOP - {b"http2-settings"})


def test_connection_cannot_take_out_what_we_add():
    """CVE-2025-48865: listed names are dropped from what came, and ours are added afterwards."""
    sent = upstream(
        request("Connection: close, X-Forwarded-For, X-User, Authorization", "X-User: a", "Authorization: b")
    )

    assert (b"X-Forwarded-For", b"192.0.2.1") in sent
    assert {b"X-User", b"Authorization"}.isdisjoint(name for name, _ in sent)


def test_a_strangers_word_about_itself_is_replaced():
    """Whoever is not trusted cannot claim an address, a scheme, a host, or one of our own fields."""
    claims = ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: b", "X-Forwarded-Uri: /x"]
    sent = upstream(request(*claims, "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1", "X-Crossfade-Path: bus"))

    assert sent == [
        (b"Host", b"shop"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"shop"),
        (b"Via", b"1.1 crossfade-test"),
    ]


def test_a_trusted_peers_word_is_kept_and_the_peer_appended():
    """The chain grows by the peer; the client is the right-most address that is not trusted."""
    data = request("X-Forwarded-For: 6.6.6.6, 192.0.2.9", "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.9")
    sent = dict(upstream(data, BALANCER))

    assert sent[b"X-Forwarded-For"] == b"6.6.6.6, 192.0.2.9, 10.0.0.1"
    assert sent[b"X-Forwarded-Proto"] == b"https"
    assert sent[b"Forwarded"] == b"for=192.0.2.9, for=10.0.0.1;proto=https"
    head = parse_request(data, limits=LIMITS)
    assert headers.client_address(head, peer=BALANCER, trusted=HOP.trusted) == "192.0.2.9"
    assert headers.client_address(head, peer=STRANGER, trusted=HOP.trusted) == "192.0.2.1"


@pytest.mark.parametrize(
    ("address", "trusted"), [("10.1.1.1", True), ("::ffff:10.1.1.1", True), ("::1", False), ("x", False)]
)
def test_trust_is_by_network(address, trusted):
    """An IPv4 address written as IPv6 is the same address; what is no address is not trusted."""
    assert headers.is_trusted(address, HOP.trusted) is trusted


def test_a_loop_is_refused_at_the_second_visit():
    """Our own name twice in Via; a name that only begins like ours does not count."""
    assert upstream(request("Via: 1.1 crossfade-test, 1.1 crossfade-test2, 1.0 other"))
    with pytest.raises(RefusedError):
        upstream(
            request("Via: 1.1 crossfade-test", "Via: 1.1 x, 1.1 Crossfade-Test".replace("C", "c").replace("T", "t"))
        )


def test_an_empty_host_stays_the_only_one():
    """A Host without a value is a Host; a client of HTTP/1.0 without one gets the upstream's."""
    assert [field for field in upstream(b"GET / HTTP/1.1\r\nHost:\r\n\r\n") if field[0] == b"Host"] == [(b"Host", b"")]
    assert upstream(b"GET / HTTP/1.0\r\n\r\n")[0] == (b"Host", b"up:1")


def test_te_trailers_and_an_upgrade_are_said_again_for_this_hop():
    """They concern one hop, so each hop says them itself."""
    sent = upstream(request("Connection: TE, Upgrade", "TE: gzip, trailers", "Upgrade: foo"))

    assert sent[-3:] == [(b"TE", b"trailers"), (b"Upgrade", b"foo"), (b"Connection", b"TE, Upgrade")]


def test_an_answer_tells_its_client_what_happens_to_the_connection():
    """``close`` when it closes; ``keep-alive`` only to HTTP/1.0, which would not know."""
    head = parse_response(
        b"HTTP/1.1 204 N\r\nContent-Length: 0\r\nConnection: x\r\nX: 1\r\n\r\n", b"GET", limits=LIMITS
    )

    def sent(**facts) -> bytes:
        return headers.to_client(head, via=b"v", framing=NO_BODY, keeps_length=False, **facts)

    assert sent(minor=1, keep_alive=True) == b"HTTP/1.1 204 N\r\nVia: 1.1 v\r\n\r\n"
    assert b"Connection: close\r\n" in sent(minor=1, keep_alive=False)
    assert b"Connection: keep-alive\r\n" in sent(minor=0, keep_alive=True)


def test_trailers_that_frame_route_or_authenticate_are_dropped():
    """RFC 9110, 6.5.1."""
    bad = [b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Cookie", b"X-Forwarded-For", b"X_Sum"]

    assert headers.allowed_trailers([(name, b"1") for name in [*bad, b"X-Sum"]]) == [(b"X-Sum", b"1")]


def test_a_made_response_is_clean():
    """Answers of our own go through the same hygiene."""
    head = headers.made_response(200, b"OK", [(b"Connection", b"x"), (b"Content-Length", b"2")])

    sent = headers.to_client(head, via=b"v", minor=1, framing=length(2), keep_alive=True, keeps_length=False)
    assert sent == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 v\r\n\r\n"
