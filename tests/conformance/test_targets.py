"""What is asked for, of whom, and how much of it: cases 20 to 27."""

from __future__ import annotations

import pytest

from support.nasty_upstream import answer
from support.proxied import refused, told, word
from support.raw_client import request


@pytest.mark.parametrize(
    "hosts",
    [[], ["a.test", "b.test"], ["a/b"], ["a?b"], ["a#b"], ["u@a.test"], ["a,b"], ["a b"], ["a.test:80:80"], ["a\\b"]],
    ids=lambda hosts: " and ".join(hosts) or "none",
)
def test_20_a_host_in_doubt_is_refused(proxy, hosts):
    """No Host, two Hosts, and a Host with `/ ? # @ , \\`, a space or two ports are 400."""
    refused(proxy, request("GET", "/", *(f"Host: {host}" for host in hosts), host=None), closes=False)


def test_20_an_empty_host_stays_the_only_one(proxy):
    """An empty Host, legal where there is no authority, is 400 or goes on as one Host."""
    response = proxy.ask(request("GET", "/", host=""))

    seen = proxy.seen()
    assert all(not one.problem for one in seen), f"upstream got {seen[0].problem}"
    assert response.status in {200, 400}, f"client got {word(response)}"


def test_21_one_authority_is_used_and_the_target_never_steers_the_dial(proxy):
    """An absolute target with another Host goes on with one authority, or is 400; only our upstream is dialed."""
    response = proxy.ask(request("GET", "http://127.0.0.1:1/a", host="other.test"))

    seen = proxy.seen()
    assert response.status == 400 or len(seen) == 1, f"client got {word(response)}, upstream got {told(seen)}"
    for one in seen:
        host = (one.value("host") or b"").decode()
        authority = one.target.decode().removeprefix("http://").partition("/")[0] if one.target[:1] != b"/" else host
        assert host == authority, f"target says {authority}, Host says {host}"
        assert host == "127.0.0.1:1", f"Host {host} is not what the target asked for"


@pytest.mark.parametrize(
    ("start", "statuses"),
    [
        ("GET *", (400,)),
        ("GET admin", (400,)),
        ("GET ftp://a.test/", (400,)),
        ("CONNECT h:80", (400, 403, 404, 405, 501)),
        ("CONNECT /", (400, 403, 404, 405, 501)),
        ("TRACE /", (405, 501)),
    ],
    ids=["GET *", "GET admin", "GET ftp", "CONNECT h:80", "CONNECT path", "TRACE"],
)
def test_22_a_target_that_names_nothing_here_is_refused(proxy, start, statuses):
    """`GET *`, `GET admin`, CONNECT and TRACE are 4xx or 501, and nothing is dialed."""
    refused(proxy, request(*start.split(" ")), *statuses, closes=False)


def test_22_options_asterisk_is_served(proxy):
    """`OPTIONS *` goes on as it is, or is answered."""
    response = proxy.ask(request("OPTIONS", "*"))

    assert response.status in {200, 204}, f"client got {word(response)}"
    assert [one.target for one in proxy.seen()] in ([b"*"], []), f"went on as {proxy.upstream.requests[0].target!r}"


@pytest.mark.parametrize(
    "target",
    ["/a%2Fb", "//x", "/a/../b", "/a/./b", "/%2e%2e/", "/;p=1", "/?a=1&a=2", "/?", "/a%", "/%zz", "/a//b", "/%41",
     "/a?b?c", "/[x]|y", "/a%00", "/\\a", "/a+b%20c"],
)  # fmt: skip
def test_23_the_path_goes_on_byte_by_byte(proxy, target):
    """Escapes, double slashes, dots, parameters and an empty query arrive as sent, or the request is 400."""
    response = proxy.get(target)

    targets = [one.target.decode() for one in proxy.seen()]
    assert response.status == 400 or targets == [target], f"{word(response)}, went on as {targets}"


def test_24_a_fragment_is_refused_or_goes_on_whole(proxy):
    """`/a#b` is 400, or arrives as the string that was routed by."""
    response = proxy.get("/a#b")

    targets = [one.target.decode() for one in proxy.seen()]
    assert response.status == 400 or targets == ["/a#b"], f"{word(response)}, went on as {targets}"


@pytest.mark.parametrize("byte", [b"\x80", b"\xff", b"\x01", b"\x7f", b"\0", b"\t"], ids=lambda byte: f"0x{byte.hex()}")
def test_25_a_raw_byte_in_the_target_crashes_nothing(proxy, byte):
    """Bytes above 0x7f and controls in the target are 400, or arrive escaped."""
    response = proxy.ask(request("GET", b"/a" + byte + b"b"))

    targets = [one.target for one in proxy.seen()]
    escaped = b"/a%%%02Xb" % byte[0]
    assert response.status in {400, 0} or targets == [escaped], f"{word(response)}, went on as {targets}"
    assert all(not one.problem for one in proxy.upstream.requests), "went on raw"


@pytest.mark.parametrize("method", ["FOO", "GET", "DELETE", "PATCH", "M-SEARCH", "PURGE", "get"])
def test_26_any_method_goes_on_with_its_body(proxy, method):
    """An unknown method, and a body where none is usual, arrive intact."""
    response = proxy.ask(request(method, "/", body=b"abcde"))

    assert response.status == 200, f"client got {word(response)}"
    assert [(one.method, one.body) for one in proxy.complete()] == [(method, b"abcde")], told(proxy.upstream.requests)


def test_27_a_uri_of_9_kib_is_a_414(proxy):
    """A target above 8 KiB is 414."""
    refused(proxy, request("GET", "/" + "a" * 9 * 1024), 414)


@pytest.mark.parametrize("size", ["100 KiB", "1000 fields"])
def test_27_too_large_a_header_is_a_431(proxy, size):
    """A header of 100 KiB, and one of 1,000 fields, is 431."""
    lines = [f"X-A: {'a' * 100 * 1024}"] if size == "100 KiB" else [f"X-{number}: 1" for number in range(1000)]
    refused(proxy, request("GET", "/", *lines), 431)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_27_a_body_over_its_limit_is_a_413(proxy, framing):
    """A body one byte over a limit of 64 KiB is 413; a declared length is judged before a byte of it is read."""
    size = 64 * 1024 + 1
    with proxy.another(body_bytes=64 * 1024) as tight, tight.connect() as client:
        if framing == "length":
            client.send(request("POST", "/", f"Content-Length: {size}"))
        else:
            client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"%x\r\n" % size + b"a" * size + b"\r\n")
        response = client.answer()

        assert response.status == 413, f"client got {word(response)}"
        assert not tight.complete(), f"went on as {told(tight.upstream.requests)}"


def test_27_a_body_at_its_limit_is_served(proxy):
    """A body of exactly the limit arrives."""
    with proxy.another(body_bytes=64 * 1024) as tight:
        response = tight.ask(request("POST", "/", body=b"a" * 64 * 1024), script=_sizes)

    assert (response.status, response.body) == (200, b"65536"), f"client got {word(response)}"


def _sizes(peer):
    peer.body()
    peer.send(answer("200 OK", body=b"%d" % peer.request.length))
