from __future__ import annotations

import pytest

from crossfade.shim.comparison.sse import read_events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        ("data: a\n\ndata:b\n\n", [{"data": "a"}, {"data": "b"}]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", [{"data": "a"}, {"data": "b"}, {"data": "c"}]),
        ("\ufeffdata: a\n\n", [{"data": "a"}]),
        ("event: x\nid: 1\ndata: a\ndata\ndata:  b\n\n", [{"event": "x", "id": "1", "data": "a\n\n b"}]),
        (": comment\nretry: 10\nother: x\n\ndata: a\n\n", [{"data": "a"}]),
        ("data: cut", [{"data": "cut"}]),
        ("data: {\u2028}\n\n", [{"data": "{\u2028}"}]),
    ],
)
def test_events_are_read_as_a_browser_reads_them(text, events):
    """Line ends of all three kinds, several lines of data, no comments; a last one that was cut is kept."""
    assert read_events(text) == events
