"""Where one message ends and the next begins: cases 1 to 19."""

from __future__ import annotations

import pytest

from support.nasty_upstream import OK, answer, ordinary, says
from support.proxied import refused, told, word
from support.raw_client import chunk, request

CHUNKED = "Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"


def test_01_length_and_chunked_are_never_both_sent_on(proxy):
    """Content-Length with Transfer-Encoding is 400 and a close, or goes on as chunked alone and the connection ends."""
    with proxy.connect() as client:
        response = client.send(request("POST", "/", "Content-Length: 3", CHUNKED) + chunk(b"abcdef") + LAST).answer()
        gone = client.gone(within=0.7)

    seen = proxy.seen()
    assert all(not one.problem for one in seen), f"upstream got {seen[0].problem}"
    assert response.status == 400 or [one.framing for one in seen] == ["chunked"], f"{word(response)}, {told(seen)}"
    assert gone, f"{response.status}, connection left open"


def test_02_two_lengths_that_differ_are_refused(proxy):
    """Two Content-Length lines that differ: 400, and the upstream gets nothing."""
    refused(proxy, request("POST", "/", "Content-Length: 3", "Content-Length: 4") + b"abcd")


@pytest.mark.parametrize("length", ["+5", "-1", "0x5", "010", '""', "5,6", "5 5", "5;", "\uff19"])
def test_03_a_length_that_is_no_number_is_refused(proxy, length):
    """A Content-Length of anything but digits is 400; 010 may pass as ten."""
    raw = request("POST", "/", f"Content-Length: {length}") + b"0123456789"
    if length == "010":
        proxy.ask(raw)
        assert all(one.length == 10 for one in proxy.complete()), f"went on as {told(proxy.complete())}"
    else:
        refused(proxy, raw)


@pytest.mark.parametrize(
    "encoding",
    ["chunked, chunked", "chunked, gzip", "gzip", "identity", "xchunked", "chun\u212aed", "two lines", "\x0bchunked"],
)
def test_04_an_encoding_other_than_chunked_is_refused(proxy, encoding):
    """Any Transfer-Encoding but exactly chunked is 4xx or 501."""
    lines = [CHUNKED, CHUNKED] if encoding == "two lines" else [f"Transfer-Encoding: {encoding}"]
    refused(proxy, request("POST", "/", *lines) + chunk(b"abc") + LAST, 400, 411, 422, 501)


def test_05_chunked_in_http_1_0_never_keeps_the_connection(proxy):
    """Transfer-Encoding in an HTTP/1.0 request is 400, or is served and the connection ends, whatever it asked for."""
    start = b"POST / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n"
    with proxy.connect() as client:
        response = client.send(start + CHUNKED.encode() + b"\r\n\r\n" + chunk(b"abc") + LAST).answer()
        gone = client.gone(within=0.7)

    assert gone, f"{word(response)}, connection left open"
    assert all(not one.problem for one in proxy.seen())


@pytest.mark.parametrize(
    "size", ["+5", "-1", "0x5", "5_0", " 5", "5 ", "5\t", "00000000000000005", "10000000000000005", ";", "", "5;a\nb"]
)
def test_06_a_chunk_size_that_is_none_never_completes(proxy, size):
    """A chunk size that is no plain hex number is refused; the upstream never gets a complete request."""
    refused(proxy, request("POST", "/", CHUNKED) + size.encode() + b"\r\nabcde\r\n" + LAST)


@pytest.mark.parametrize(
    "body",
    [b"5\r\nabcdeXX0\r\n\r\n", b"5\r\nabcde0\r\n\r\n", b"5\nabcde\r\n0\r\n\r\n", b"5\r\nabcde\n0\r\n\r\n",
     b"5\r\nabcde\r\n0\n\r\n", b"5\r\nabcde\r\n0\r\n\n", b"5\rabcde\r\n0\r\n\r\n"],
    ids=["no CRLF", "missing CRLF", "LF after size", "LF after data", "LF after last", "LF at end", "CR after size"],
)  # fmt: skip
def test_07_a_chunk_without_its_line_ends_never_completes(proxy, body):
    """Chunk data without CRLF, or a bare LF or CR as a line end in chunks, is refused in the same way."""
    refused(proxy, request("POST", "/", CHUNKED) + body)


def test_08_a_space_before_the_colon_is_refused(proxy):
    """`Content-Length : 5` is 400."""
    refused(proxy, request("POST", "/", "Content-Length : 5") + b"abcde")


@pytest.mark.parametrize("fold", [b"X-A: one\r\n two", b"X-A: one\r\n\ttwo", b" X-A: one"], ids=["SP", "TAB", "first"])
def test_09_a_folded_header_is_never_sent_on_folded(proxy, fold):
    """A folded header is 400, or goes on joined by spaces."""
    response = proxy.ask(b"GET / HTTP/1.1\r\n" + fold + b"\r\nHost: shop.test\r\n\r\n")

    seen = proxy.seen()
    assert all(not one.problem for one in seen), f"upstream got a {seen[0].problem}"
    assert response.status == 400 or [one.value("x-a") for one in seen if one.complete] == [b"one two"], (
        f"client got {word(response)}, X-A went on as {[one.value('x-a') for one in seen]}"
    )


@pytest.mark.parametrize("byte", [b"\0", b"\r", b"\x07", b"\x7f"], ids=["NUL", "CR", "BEL", "DEL"])
def test_10_a_control_byte_in_a_value_is_refused(proxy, byte):
    """NUL, a bare CR, BEL and DEL in a header's value are 400."""
    refused(proxy, request("GET", "/", b"X-A: one" + byte + b"two"))


def test_11_a_second_request_on_the_wire_is_a_request_of_its_own(proxy):
    """Two requests sent at once are two at the upstream, each with its own headers treated, with answers in order."""
    proxy.upstream.script = lambda peer: peer.send(answer("200 OK", body=peer.request.target + peer.body()))
    first = request("POST", "/first", body=b"abcde")
    with proxy.connect() as client:
        client.send(first + request("GET", "/second", "Connection: X-Secret", "X-Secret: 1"))
        bodies = [client.answer().body, client.answer().body]

    seen = proxy.complete()
    assert bodies == [b"/firstabcde", b"/second"], f"answers {bodies}"
    assert [(one.method, one.target) for one in seen] == [("POST", b"/first"), ("GET", b"/second")], told(seen)
    assert seen[1].value("x-secret") is None, "the second's Connection header was not obeyed"


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Cookie"])
def test_12_a_trailer_never_becomes_a_header(proxy, name):
    """Trailer fields that frame, route or authorise are dropped or refused, never merged into the headers."""
    response = proxy.ask(
        request("POST", "/", CHUNKED, "Trailer: " + name) + chunk(b"abc") + b"0\r\n" + f"{name}: 7\r\n\r\n".encode()
    )

    for one in proxy.complete():
        assert b"7" not in one.values(name.lower()), "merged into the headers"
        assert name.lower() not in {key.decode().lower() for key, _ in one.trailers}, "sent on as a trailer"
    assert response.status in {200, 400}, f"client got {word(response)}"


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: +2",
    ],
    ids=["two lengths", "length and chunked", "unknown encoding", "chunked in 1.0", "bad length"],
)
def test_13_an_answer_framed_in_doubt_is_a_502(proxy, head):
    """Duplicate lengths, length and chunked, an unknown encoding or chunked in HTTP/1.0 from the upstream: 502."""
    body = b"2\r\nok\r\n0\r\n\r\n" if "chunked" in head else b"ok"
    response = proxy.get(script=says(head.encode() + b"\r\n\r\n" + body, then="close"))

    assert response.status == 502, f"client got {word(response)}"


@pytest.mark.parametrize("value", [b"a\nX-Injected: 1", b"a\0b", b"a\rX-Injected: 1"], ids=["LF", "NUL", "CR"])
def test_14_a_bad_byte_in_the_upstreams_header_is_a_502(proxy, value):
    """A bare LF, CR or NUL in a header of the upstream's is 502, and injects no header."""
    response = proxy.get(script=says(answer("200 OK", b"X-A: " + value, body=b"ok"), then="close"))

    assert "x-injected" not in response.names(), "a header was injected"
    assert response.status == 502, f"client got {word(response)}"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_15_bytes_after_the_answer_are_cut_and_the_connection_is_not_reused(proxy, chunked):
    """More bytes than the answer's length never reach the client, and that upstream connection serves nobody else."""
    framed = answer("200 OK", CHUNKED) + chunk(b"12345678") + LAST if chunked else answer("200 OK", body=b"12345678")
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    proxy.upstream.script = says(framed + poison)
    with proxy.connect() as client:
        response = client.send(request("GET", "/one")).answer()
        proxy.upstream.script = ordinary
        second = client.send(request("GET", "/two")).answer()

    assert response.body == b"12345678", f"client got {response.length} bytes"
    assert second.body != b"poison", "the next answer is the rest of the first"
    assert len(proxy.upstream.peers) == 2 or second.status in {0, 502}, "connection reused"


def test_16_an_upgrade_that_was_not_granted_opens_no_tunnel(proxy):
    """`Upgrade: foo` and a second request behind it: the upstream's 200 opens no tunnel, the second is ordinary."""
    upgrade = request("GET", "/first", "Connection: Upgrade", "Upgrade: foo")
    with proxy.connect() as client:
        client.send(upgrade + request("GET", "/admin"))
        client.gone(within=0.5)

    seen = proxy.seen()
    assert all(one.complete for one in seen), told(seen)
    assert all(one.value("x-forwarded-for") for one in seen), "the second request went through a tunnel"


def test_16_an_upgrade_to_h2c_does_not_go_on(ours):
    """What would hide further requests in HTTP/2 from here is an ordinary request to the upstream."""
    response = ours.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    (seen,) = ours.seen()
    assert response.status == 200, word(response)
    assert not seen.names() & {"upgrade", "http2-settings"}, "the upstream was asked to switch"


def test_17_an_unread_body_never_becomes_a_request(proxy):
    """The upstream answers before the body it was promised: the body's bytes never become a request."""
    smuggled = request("GET", "/admin").ljust(50, b" ")

    def early(peer):
        peer.send(OK)

    proxy.upstream.script = early
    with proxy.connect() as client:
        client.send(request("GET", "/", f"Content-Length: {len(smuggled)}", "Expect: 100-continue"))
        response = client.answer()
        client.send(smuggled).gone(within=0.5)

    seen = proxy.seen()
    assert response.status in {200, 400, 417}, f"client got {word(response)}"
    assert b"/admin" not in [one.target for one in seen], "the body became a request"


def test_18_a_chunked_upload_cut_short_is_not_completed(proxy):
    """The client leaves in the middle of a chunked upload: the upstream sees an end, and no last chunk."""
    with proxy.connect() as client:
        client.send(request("POST", "/", CHUNKED) + chunk(b"half of it"))
        arrived = proxy.upstream.until(lambda: proxy.upstream.peers and b"half" in proxy.upstream.peers[0].raw)

    seen = proxy.seen()
    assert arrived or not seen, "the chunk never arrived"
    over = proxy.upstream.until(lambda: all(peer.ended or peer.request.complete for peer in proxy.upstream.peers))
    assert not any(one.complete for one in seen), "the half upload was completed"
    assert over, "upstream's connection left open"


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_19_an_upload_of_known_length_cut_short_is_not_completed(proxy, how):
    """The client leaves in mid-upload: the upstream gets fewer bytes and an end, once, and no 2xx is sent."""
    client = proxy.connect()
    client.send(request("POST", "/", "Content-Length: 100") + b"half of it")
    proxy.upstream.until(lambda: proxy.upstream.peers and b"half" in proxy.upstream.peers[0].raw)
    getattr(client, how)()
    response = client.answer() if how == "half_close" else None
    client.close()

    seen = proxy.seen()
    assert proxy.upstream.until(lambda: all(peer.ended for peer in proxy.upstream.peers)), (
        "upstream's connection left open"
    )
    assert not any(one.complete for one in seen), "the half upload was completed"
    assert len(seen) <= 1, f"sent {len(seen)} times"
    assert response is None or not 200 <= response.status < 300, f"client got {word(response)}"
