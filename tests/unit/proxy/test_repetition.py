"""A head that repeats the last one's fields is read as if it were the first: the shortcut changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy import headers
from crossfade.proxy.framing import RefusedError
from crossfade.proxy.heads import RequestHead, parse_request
from crossfade.proxy.limits import Limits

LIMITS = Limits()
PEER = headers.Peer("192.0.2.1", scheme=b"http", hop=headers.Hop(name=b"crossfade-test"))
blocks = st.sampled_from(
    [
        "Host: a\r\n\r\n",
        "Host: a\r\nConnection: close, X\r\nX: 1\r\n\r\n",
        "Host: b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nX_U: 1\r\n\r\n",
        "Connection: upgrade\r\nUpgrade: foo\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n",
        "Host: a\r\nVia: 1.1 crossfade-test, 1.1 crossfade-test\r\n\r\n",
        "Host: a\r\nHost: a\r\n\r\n",
    ]
)
lines = st.tuples(
    st.sampled_from(["GET", "POST", "OPTIONS"]),
    st.sampled_from(["/", "/x?y", "*", "http://other/z", "http://other", "/#"]),
    st.sampled_from(["1.0", "1.1"]),
)


def read(data: bytes, last: RequestHead | None) -> tuple[object, RequestHead | None]:
    try:
        head = parse_request(data, limits=LIMITS, last=last)
    except RefusedError as refused:
        return refused.refusal, None
    facts = {name: getattr(head, name) for name in RequestHead.__slots__ if name not in {"sent", "_headers", "block"}}
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
    for (method, target, version), block in messages:
        data = f"{method} {target} HTTP/{version}\r\n{block}".encode()
        facts, head = read(data, last)

        assert facts == read(data, None)[0]
        last = head or last
