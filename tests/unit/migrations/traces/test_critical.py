"""What a run waited for: without gaps, and adding up to its length."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.traces.critical import critical_path
from unit.migrations.traces.calls import call, run


def pieces(found):
    return [(piece.node.call.id if piece.node else "-", piece.part, piece.seconds) for piece in critical_path(found)]


def test_of_two_calls_at_once_the_longer_is_waited_for():
    """The shorter one cost nothing."""
    found = run(call("a", took=10), call("b", parent="a", at=1, took=3), call("c", parent="a", at=1, took=7))
    assert pieces(found) == [("a", "handler", 1), ("c", "handler", 7), ("a", "handler", 2)]


def test_queue_transport_and_idle_are_told_apart():
    """A call over the bus, a pause, another."""
    found = run(call("a", path="bus", took=4, queue=1, handler=2), call("b", at=5, took=1))
    assert pieces(found) == [
        ("a", "queue", 1),
        ("a", "handler", 2),
        ("a", "transport", 1),
        ("-", "idle", 1),
        ("b", "handler", 1),
    ]


calls = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 20), st.integers(0, 20), st.integers(0, 9), st.integers(0, 20)),
    min_size=1,
    max_size=8,
)


@given(calls)
def test_the_pieces_lie_end_to_end_from_the_first_moment_to_the_last(told):
    """Whatever clocks said: children outside their parents, handlers longer than their calls."""
    found = run(
        *(
            call(str(at), parent=str(parent), at=began, took=took, path="bus", queue=queue, handler=handler)
            for at, (parent, began, took, queue, handler) in enumerate(told)
        )
    )
    path = critical_path(found)
    assert sum(piece.seconds for piece in path) == pytest.approx(found.seconds)
    assert all(first.ended == pytest.approx(second.began) for first, second in itertools.pairwise(path))
