"""Where the parts of a run are drawn: on one scale, within it, adding up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.traces import geometry
from unit.migrations.traces.calls import call, run


def test_waiting_running_and_coming_back_lie_apart_on_the_scale_of_the_run():
    """And a call that began halfway is drawn from there."""
    found = run(
        call("a", at=0.0, took=10.0, queue=1.0, handler=8.0, path="bus"), call("b", parent="a", at=5.0, took=2.0)
    )
    first, second = geometry.rows(found, most=9)
    parts = {bar.part: (bar.low, bar.high) for bar in first.bars if bar.part != "critical"}
    assert parts == {"queue": (0.0, 0.1), "handler": (0.1, pytest.approx(0.9)), "transport": (pytest.approx(0.9), 1.0)}
    assert (second.depth, second.bars[0].low, second.bars[0].high) == (1, 0.5, 0.7)
    assert [bar.part for bar in second.bars] == ["handler", "critical"]


def test_a_handler_that_took_no_time_is_drawn_and_a_run_of_no_length_is_too():
    """Nothing is divided by nothing."""
    (row,) = geometry.rows(run(call("a", took=0.0)), most=9)
    assert [(bar.part, bar.low, bar.high) for bar in row.bars] == [("handler", 0.0, 0.0)]


def test_no_more_calls_are_laid_out_than_asked_for():
    """A run of thousands stays a page."""
    assert len(geometry.rows(run(*(call(f"c{n}", at=n) for n in range(9))), most=4)) == 4


@given(
    st.lists(
        st.tuples(*(st.floats(0, 100) for _ in range(4)), st.sampled_from(["legacy", "bus", "shadow"])),
        min_size=1,
        max_size=12,
    )
)
def test_what_a_run_waited_for_covers_it_without_gap_or_overlap(drawn):
    """Whatever calls it had; nothing lies outside of the scale."""
    calls = [
        call(f"c{n}", parent=f"c{n // 2 - 1}", at=at, took=took, queue=queue, handler=handler, path=path)
        for n, (at, took, queue, handler, path) in enumerate(drawn)
    ]
    found = run(*calls)
    waits = geometry.waits(found)
    assert sum(bar.seconds for bar in waits) == pytest.approx(found.seconds, abs=1e-6)
    assert all(one.high == pytest.approx(other.low, abs=1e-9) for one, other in itertools.pairwise(waits))
    for row in geometry.rows(found, most=99):
        assert all(0 <= bar.low <= bar.high <= 1 for bar in row.bars)
