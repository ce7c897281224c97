"""Hypothesis strategies for messages as clients and upstreams write them."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
names = st.one_of(
    st.text(TOKEN, min_size=1, max_size=12),
    st.sampled_from(
        ["Accept", "X-Forwarded-For", "x-forwarded-host", "Forwarded", "X-Real-IP", "X-User", "X_User", "Via"]
    ),
    st.sampled_from(
        ["Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "Proxy-Authorization", "Cookie", "HTTP2-Settings"]
    ),
)
values = st.text([chr(code) for code in (9, *range(0x20, 0x7F), *range(0x80, 0x100))], max_size=20).map(
    lambda text: text.strip(" \t")
)
SPECIAL = {"host", "content-length", "transfer-encoding", "connection", "expect", "authorization"}
fields = st.lists(st.tuples(names.filter(lambda name: name.lower() not in SPECIAL), values), max_size=8)
methods = st.sampled_from(["GET", "POST", "DELETE", "FOO", "M-SEARCH", "get"])
targets = st.text("abcXYZ019/%?&=;:.,~!$'()*+-_@[]|", max_size=20).map(lambda text: "/" + text)
options = st.lists(
    st.sampled_from(["close", "keep-alive", "X-User", "Host", "Content-Length", "x-forwarded-for"]), max_size=3
)
framings = st.one_of(
    st.just(("", b"")),
    st.integers(0, 40).map(lambda size: (f"Content-Length: {size}\r\n", b"x" * size)),
    st.just(("transfer-encoding: Chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")),
)


@st.composite
def requests(draw):
    """A well-formed request as (head, body)."""
    framing, body = draw(framings)
    lines = [f"{name}: {value}\r\n" for name, value in draw(fields)]
    listed = draw(options)
    if listed:
        lines.append(f"Connection: {', '.join(listed)}\r\n")
    lines.append(framing)
    lines = draw(st.permutations([*lines, "Host: shop.example\r\n"]))
    head = f"{draw(methods)} {draw(targets)} HTTP/1.1\r\n{''.join(lines)}\r\n"
    return head.encode("latin-1"), body


@st.composite
def responses(draw):
    """A well-formed response as (head, body)."""
    framing, body = draw(framings)
    lines = draw(st.permutations([*(f"{name}: {value}\r\n" for name, value in draw(fields)), framing]))
    return f"HTTP/1.1 {draw(st.integers(200, 599))} Fine\r\n{''.join(lines)}\r\n".encode("latin-1"), body
