"""What wrk prints becomes a window, or a reason why there is none."""

from __future__ import annotations

import json

import pytest

from crossfade.migrations.bench import wrk
from crossfade.migrations.bench.environments import PeerUnavailableError
from crossfade.migrations.bench.wrk import Load, LoadError, parse

SMALL = Load(target="/bench/1kb", size=1_000, connections=16)
LARGE = Load(target="/bench/10mb", size=10_000_000, connections=256)
SEEN = {"requests": 4000, "bytes": 5_200_000, "seconds": 2.0, "p50": 0.001, "p99": 0.004, "failed": 0}


def printed(**changes: float) -> str:
    return "Running 2s test\n  4000 requests in 2.00s\n\n" + json.dumps(SEEN | changes) + "\n"


def test_the_last_line_is_the_window():
    """wrk's own table before it is for people."""
    window = parse(printed(), SMALL)

    assert (window.rate, window.p50, window.p99) == (2000, 0.001, 0.004)


def test_large_answers_under_way_count_in_part():
    """Three came whole, and half of 256 others: what was done for these was done within the window."""
    window = parse(printed(requests=3, bytes=1_310_000_000), LARGE)

    assert window.answers == 131


def test_small_answers_are_counted_whole():
    """Their heads are a third of the bytes, which would count as answers."""
    assert parse(printed(), SMALL).answers == 4000


@pytest.mark.parametrize("changes", [{"failed": 1}, {"requests": 0}])
def test_a_failed_request_spoils_the_window(changes):
    """A proxy that refuses is fast, and one that never answers has no figures."""
    with pytest.raises(LoadError, match="were answered"):
        parse(printed(**changes), SMALL)


def test_without_wrk_the_remedy_is_named(monkeypatch, tmp_path):
    """The line that brings it is in the text."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PeerUnavailableError, match="apt-get install wrk"):
        wrk.find()
