"""Where a body ends is never a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy import framing as f


@pytest.mark.parametrize(
    ("lengths", "codings", "minor", "refusal"),
    [
        ([b"5"], [b"chunked"], 1, f.LENGTH_AND_CODING),
        ([b"5", b"6"], [], 1, f.LENGTHS_DIFFER),
        ([b"5", b"5"], [], 1, f.LENGTHS_DIFFER),
        *[
            ([text], [], 1, f.LENGTH_MALFORMED)
            for text in (b"+5", b"-1", b"0x5", b"010", b"", b"5,6", b"5_0", b"9" * 19)
        ],
        ([], [b"chunked, chunked"], 1, f.CODING_MALFORMED),
        ([], [b"chunked", b"chunked"], 1, f.CODING_MALFORMED),
        ([], [b"gzip, chunked"], 1, f.CODING_MALFORMED),
        ([], [b"identity"], 1, f.CODING_MALFORMED),
        ([], [b"xchunked"], 1, f.CODING_UNKNOWN),
        ([], [b"chun\xe2\x84\xaaed"], 1, f.CODING_MALFORMED),
        ([], [b"chunked"], 0, f.CODING_IN_1_0),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(lengths, codings, minor, refusal):
    """Each has its name, for requests and for responses alike."""
    with pytest.raises(f.RefusedError) as refused:
        f.request_framing(minor, lengths, codings)
    assert refused.value.refusal is refusal

    with pytest.raises(f.RefusedError):
        f.response_framing(b"GET", 200, minor, lengths, codings)


@given(st.integers(0, 10**18 - 1))
def test_a_plain_length_is_a_length(size):
    """Any number of up to 18 digits."""
    assert f.request_framing(1, [b"%d" % size], []) == f.length(size)


@pytest.mark.parametrize(
    ("method", "status", "lengths", "codings", "framing"),
    [
        (b"GET", 200, [], [], f.UNTIL_CLOSE),
        (b"GET", 200, [], [b"ChunKed"], f.CHUNKED),
        (b"GET", 200, [b"0"], [], f.length(0)),
        (b"HEAD", 200, [b"5"], [], f.NO_BODY),
        (b"HEAD", 200, [], [b"chunked"], f.NO_BODY),
        (b"GET", 304, [b"5"], [], f.NO_BODY),
        (b"GET", 204, [], [], f.NO_BODY),
    ],
)
def test_a_response_ends_by_its_request_its_status_and_its_fields(method, status, lengths, codings, framing):
    """In that order (RFC 9112, 6.3)."""
    assert f.response_framing(method, status, 1, lengths, codings) == framing
