"""A head that repeats the last one's fields is read as if it were the first: the shortcut changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy import headers
from crossfade.proxy.framing import Framing, RefusedError
from crossfade.proxy.heads import RequestHead, ResponseHead, parse_request, parse_response
from crossfade.proxy.limits import Limits

LIMITS = Limits()
PEER = headers.Peer("192.0.2.1", scheme=b"http", hop=headers.Hop(name=b"crossfade-test"))
# What it means is all but how it came to be read.
MEANT = [
    *("connection", "framing", "keep_alive", "lines", "logs_in", "marked", "measured", "minor", "start", "upgrade"),
    *("expects_continue", "host", "method", "path", "query", "rewritten_host", "target", "line", "reason", "status"),
]
blocks = st.sampled_from(
    [
        "Host: a\r\n\r\n",
        "Host: a\r\nConnection: close, X\r\nX: 1\r\n\r\n",
        *(f"Host: b\r\nContent-Length:{n}\r\nExpect: 100-continue\r\n\r\n" for n in (" 5", "5", " 70", " x", " +1")),
        *(f"Host: b\r\nContent-Length: 5\r\n{name}: {n}\r\n\r\n" for name in ("Content-Length", "X") for n in "56"),
        "Host: a\r\nTransfer-Encoding: chunked\r\nX_U: 1\r\n\r\n",
        "Connection: upgrade\r\nUpgrade: foo\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n",
        "Host: a\r\nVia: 1.1 crossfade-test, 1.1 crossfade-test\r\n\r\n",
        "Host: a\r\nHost: a\r\n\r\n",
        *(
            f"Connection: X-B{told}\r\nX-A: {a}\r\nX-B: {b}\r\n{name}: {value}\r\n\r\n"
            for told in ("", ", Keep-Alive")
            for a in ("1", "2\x01", "")
            for b in ("3", "4\n")
            for name, value in (("Host", "a"), ("Host", "b"), ("X-C", "c"), ("Upgrade", "foo"))
        ),
    ]
)
lines = st.tuples(
    st.sampled_from(["GET", "POST", "OPTIONS"]),
    st.sampled_from(["/", "/x?y", "*", "http://other/z", "http://other", "/#"]),
    st.sampled_from(["1.0", "1.1"]),
)


answers = st.tuples(
    st.sampled_from(["200 OK", "200 Fine", "304 Not Modified", "204 None"]),
    st.sampled_from(
        [
            "Content-Length: 0",
            "Content-Length: 7",
            "Content-Length: 7x",
            "Connection: close",
            "Connection: X-B",
            "X-D: 1",
        ]
    ),
    st.sampled_from(["X-B: 1", "X-B: 2", "X-B:", "X-B: \x01", "X_B: 3", "Via: 1.1 a"]),
    st.sampled_from(["Date: Sun", "Date: Mon", "Upgrade: foo"]),
)
circumstances = st.tuples(st.sampled_from([0, 1]), st.booleans(), st.booleans())


def read(data: bytes, last: RequestHead | None, other: RequestHead | None) -> tuple[object, RequestHead | None]:
    try:
        head = parse_request(data, limits=LIMITS, last=last, other=other)
    except RefusedError as refused:
        return refused.refusal, None
    facts = {name: getattr(head, name, None) for name in MEANT}
    facts["headers"] = head.headers
    try:
        facts["upstream"] = headers.to_upstream(head, peer=PEER, authority=b"up")
    except RefusedError as refused:
        facts["upstream"] = refused.refusal
    return facts, head


@given(st.lists(st.tuples(lines, blocks), min_size=2, max_size=8))
def test_a_repeated_head_means_what_it_means_alone(messages):
    """Whatever came before on the connection, also an absolute form, a refusal, or another version."""
    last: RequestHead | None = None
    other: RequestHead | None = None
    for (method, target, version), block in messages:
        data = f"{method} {target} HTTP/{version}\r\n{block}".encode()
        facts, head = read(data, last, other)

        assert facts == read(data, None, None)[0]
        if head is not None:
            last, other = head, last


def answered(data: bytes, last: ResponseHead | None, given: tuple[int, bool, bool]):
    try:
        head = parse_response(data, b"GET", limits=LIMITS, last=last)
    except RefusedError as refused:
        return refused.refusal, None
    facts = {name: getattr(head, name, None) for name in MEANT}
    facts["headers"] = head.headers
    minor, keep_alive, keeps_length = given
    facts["client"] = headers.to_client(
        head, via=b"v", minor=minor, framing=head.framing, keep_alive=keep_alive, keeps_length=keeps_length
    )
    return facts, head


@given(st.lists(st.tuples(answers, circumstances), min_size=2, max_size=8))
def test_an_answer_like_the_last_means_what_it_means_alone(messages):
    """Whatever the upstream said before, for whichever client."""
    last: ResponseHead | None = None
    for (status, *fields), given_ in messages:
        data = "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()
        facts, head = answered(data, last, given_)

        assert facts == answered(data, None, given_)[0]
        last = head or last


def test_lines_that_changed_reach_the_other_side_in_their_places():
    """The shortcut is taken: the head after the first is made of what was sent, and of what changed."""
    first, second = (
        f"GET / HTTP/1.1\r\nX-A: {n}\r\nConnection: close\r\nHost: a\r\nX-B: {n}\r\n\r\n".encode() for n in "12"
    )
    head = parse_request(first, limits=LIMITS)
    headers.to_upstream(head, peer=PEER, authority=(up := b"up"))
    again = parse_request(second, limits=LIMITS, last=head)

    assert again.values == [b" 2", b" 2"]
    assert headers.to_upstream(again, peer=PEER, authority=up).startswith(
        b"GET / HTTP/1.1\r\nX-A: 2\r\nHost: a\r\nX-B: 2\r\n"
    )


def test_a_length_that_changed_is_the_new_one():
    """The shortcut is taken, and neither the framing nor what is told of the head is the last one's."""
    first, second = (f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n".encode() for n in "25")
    again = parse_request(second, limits=LIMITS, last=parse_request(first, limits=LIMITS))

    assert again.values == [b" 5"]
    assert (again.framing, again.marked[1]) == (Framing("length", 5), (1, b"content-length", b"5"))
