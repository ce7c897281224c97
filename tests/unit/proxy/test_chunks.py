"""The chunked coding comes apart the same however it is cut, and is refused where readers differ."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.chunks import Decoder, encode, last
from crossfade.proxy.framing import RefusedError
from crossfade.proxy.limits import Limits

LIMITS = Limits()


def decoded(data: bytes, cuts: list[int]) -> tuple[bytes, bytes | None, list]:
    decoder = Decoder(LIMITS)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    body = b""
    for begin, end in pairwise(edges):
        pieces, rest = decoder.feed(data[begin:end])
        body += b"".join(pieces)
        if rest is not None:
            return body, rest + data[end:], decoder.trailers
    return body, None, decoder.trailers


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.lists(st.integers(0, 500), max_size=8),
    st.sampled_from([[], [(b"X-Sum", b"1")]]),
    st.binary(max_size=5),
)
def test_whatever_was_encoded_comes_back_however_it_is_cut(pieces, cuts, trailers, behind):
    """Body, trailers and what follows are those that went in."""
    data = b"".join(b"".join(encode(piece)) for piece in pieces) + last(trailers) + behind

    assert decoded(data, cuts) == (b"".join(pieces), behind, trailers)


@pytest.mark.parametrize(
    "data",
    [
        *[size + b"\r\nabcde\r\n0\r\n\r\n" for size in (b"+5", b"-1", b"0x5", b"5_0", b" 5", b"5 ", b"5;", b"", b"g")],
        b"0" * 16 + b"5\r\nabcde\r\n0\r\n\r\n",
        b"5;" + b"a" * 600 + b"\r\nabcde\r\n0\r\n\r\n",
        b"5\nabcde\n0\n\n",
        b"5\r\nabcdeX\r\n0\r\n\r\n",
        b"5\r\nabcde0\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nX : 1\r\n\r\n",
        b"5\r\nabcde\r\n0\r\n\n",
        b"5\r\nabcde\r\n0\r\nX: 1\n\r\n",
        b'5;a="\n"\r\nabcde\r\n0\r\n\r\n',
    ],
)
@pytest.mark.parametrize("cuts", [[], list(range(700))])
def test_a_malformed_chunk_is_refused(data, cuts):
    """At once, also when it comes byte by byte."""
    with pytest.raises(RefusedError):
        decoded(data, cuts)


def test_extensions_are_dropped():
    """They are read by their grammar and concern nobody behind us."""
    assert decoded(b'3;a;b=c;d="e\\"f"\r\nabc\r\n0;x\r\n\r\n', []) == (b"abc", b"", [])


def test_trailers_have_the_limits_of_a_head():
    """A trailer section is no way round them."""
    with pytest.raises(RefusedError):
        decoded(b"0\r\n" + b"X: 1\r\n" * 200 + b"\r\n", [])
    with pytest.raises(RefusedError):
        decoded(b"0\r\nX: " + b"1" * 40000, [])
