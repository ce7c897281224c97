"""What is written to a NATS server is one message: no header and no subject can begin another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.nats._client import QuickClient, write_headers
from crossfade.adapters.nats._wire import parse_headers
from crossfade.shim.errors import BusRefusedError

_START = b"NATS/1.0\r\n"
names = st.text("abcdefghijklmnopqrstuvwxyzABC-_", min_size=1, max_size=12)
values = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20).map(
    lambda text: text.strip(" \t")
)


@given(st.dictionaries(names, values, min_size=1, max_size=5))
def test_headers_come_back_as_they_were(headers):
    """Any text but a line break, and any of the separators that only Python takes for one."""
    block = write_headers(headers)
    assert block.startswith(_START)
    assert block.endswith(b"\r\n\r\n")
    assert parse_headers(block.removeprefix(_START)) == headers


@given(
    st.dictionaries(names, values, max_size=3),
    st.sampled_from(["\r\n", "\n", "\r", "\r\n\r\n", "1\r\nNats-Msg-Id: x", "\n\r"]),
    st.booleans(),
)
def test_a_header_that_would_end_its_line_is_not_sent(headers, text, in_name):
    """Neither a name nor a value adds a header of its own, or ends the headers."""
    with pytest.raises(BusRefusedError, match="line break"):
        write_headers({**headers, **({f"a{text}b": "1"} if in_name else {"a": f"b{text}c"})})


@pytest.mark.parametrize("headers", [None, {}])
def test_no_headers_are_no_bytes(headers):
    """The message is published without a header block."""
    assert write_headers(headers) == b""


def test_what_waits_for_the_socket_outlives_a_lost_connection():
    """The base sends it when it has reconnected; a flush in between drops nothing."""
    client = QuickClient()
    client._pending, client._pending_data_size = [b"PUB a 0\r\n\r\n"], 11
    client._flush()
    assert client._pending == [b"PUB a 0\r\n\r\n"]
    assert client.pending_data_size == 11
