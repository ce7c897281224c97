"""The ring keeps the newest of everybody in order and knows how far back it reaches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.control.ring import Ring

OWNERS = [("acme", "alice"), ("acme", "bob"), ("-", "alice")]


@given(st.lists(st.sampled_from(OWNERS), max_size=60), st.integers(1, 20), st.integers(0, 60))
def test_it_holds_exactly_the_newest(owners, limit, after):
    """Whatever came: what is behind a number and not forgotten is there, once, in order, for its owner."""
    ring = Ring(events=limit)
    for n, owner in enumerate(owners, start=1):
        ring.add(owner, str(n), kind="k", callid="", data=b"x")

    kept = range(max(0, len(owners) - limit) + 1, len(owners) + 1)
    assert len(ring) == len(kept)
    assert ring.floor == len(owners) - len(kept)
    for owner in OWNERS:
        expected = [str(n) for n in kept if owners[n - 1] == owner and n > after]
        assert [entry.position for entry in ring.after(owner, after)] == expected
    assert [ring.number_of(str(n)) for n in kept] == list(kept)
    assert ring.number_of(str(ring.floor)) is None


def test_bytes_count_as_well():
    """Large events push out more; one that is larger than everything is kept alone."""
    ring = Ring(size=100)
    for n in range(5):
        ring.add(OWNERS[0], str(n), kind="k", callid="", data=b"x" * 40)
    assert [entry.position for entry in ring.after(OWNERS[0], 0)] == ["3", "4"]
    ring.add(OWNERS[0], "large", kind="k", callid="", data=b"x" * 1000)
    assert [entry.position for entry in ring.after(OWNERS[0], 0)] == ["large"]


def test_clearing_forgets_everything_and_numbers_go_on():
    """Nobody takes a new event for one that they have seen."""
    ring = Ring()
    ring.add(OWNERS[0], "1", kind="k", callid="", data=b"")
    ring.clear()
    ring.add(OWNERS[0], "1", kind="k", callid="", data=b"")
    assert (len(ring), ring.last, ring.floor, ring.number_of("1")) == (1, 2, 1, 2)
