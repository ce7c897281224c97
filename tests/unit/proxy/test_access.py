"""A line per request, that no client can forge."""

from __future__ import annotations

import json

from crossfade.proxy.access import line_of


def test_a_line_stays_one_line():
    """Control characters are escaped; every field is there."""
    line = line_of((0.0, "::1", "GET", '/a\r\n{"status": 200}\u2028"', 499, 0.25, 1, 2, "http.a", "left", ""))

    assert line.count("\n") == 1
    assert "\r" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "client": "::1",
        "method": "GET",
        "path": '/a\r\n{"status": 200}\u2028"',
        "status": 499,
        "seconds": 0.25,
        "received": 1,
        "sent": 2,
        "seam": "http.a",
        "outcome": "left",
    }
