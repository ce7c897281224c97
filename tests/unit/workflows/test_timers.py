"""The heap of due times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.workflows.timers import Timers


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 50)), max_size=300))
def test_it_takes_what_a_plain_table_would(sets):
    """Whatever is set and set again, each key is due once, at its last time, in order."""
    timers, table = Timers(), {}
    for key, due in sets:
        timers.set(key, due)
        table[key] = due
    due = {key: at for key, at in table.items() if at is not None}

    assert len(timers) == len(due)
    assert timers.next() == min(due.values(), default=None)
    taken = timers.take(25)
    assert sorted(taken) == sorted(key for key, at in due.items() if at <= 25)
    assert [due[key] for key in taken] == sorted(due[key] for key in taken)
    assert timers.take(25) == []


def test_what_was_replaced_does_not_pile_up():
    """A timer that is moved for ever keeps the heap small."""
    timers = Timers()
    for at in range(10_000):
        timers.set("a", at)
    assert len(timers._heap) < 100


def test_what_may_be_old_only_makes_it_sooner():
    """A look at every instance takes time; what an event has set meanwhile is not forgotten by it."""
    timers = Timers()
    timers.set("a", 10)
    timers.hint("a", None)
    timers.hint("a", 20)
    assert timers.next() == 10
    timers.hint("a", 5)
    timers.hint("b", 7)
    assert timers.take(30) == ["a", "b"]
