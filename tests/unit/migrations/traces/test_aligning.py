"""Two trees side by side: every call once, and what differs is called by its name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.traces.aligning import align, changes
from unit.migrations.traces.calls import call, run


def told(old, new):
    return [(pair.seam, pair.change) for pair in align(old.roots, new.roots)]


def agent(*seams, took=0.5):
    return run(
        call("a", took=99), *(call(f"{at}", seam, parent="a", at=at, took=took) for at, seam in enumerate(seams))
    )


def test_missing_and_extra_calls_are_told_with_what_they_called():
    """Order of the rest is the same."""
    assert told(agent("x", "y"), agent("x", "z")) == [("a", "same"), ("x", "same"), ("y", "missing"), ("z", "extra")]
    assert told(agent("x"), agent("x", "x"))[-1] == ("x", "extra")


def test_a_call_that_comes_later_is_reordered_and_the_others_are_not():
    """The fewest that must move."""
    assert told(agent("x", "y", "z"), agent("y", "z", "x")) == [
        ("a", "same"),
        ("x", "reordered"),
        ("y", "same"),
        ("z", "same"),
    ]


def test_calls_under_way_together_have_no_order():
    """Swapped concurrent siblings are the same."""
    assert changes(align(agent("x", "y", took=5).roots, agent("y", "x", took=5).roots)) == {"same": 3}


def test_a_call_that_another_makes_has_moved():
    """It is one difference, not two."""
    old = run(call("a", took=9), call("b", parent="a", at=1), call("c", parent="a", at=3))
    new = run(call("a", took=9), call("b", parent="a", at=1), call("c", parent="b", at=1.5))
    assert changes(align(old.roots, new.roots)) == {"same": 2, "moved": 1}


def test_another_outcome_is_told_beside_the_tree():
    """An error on one side, or another error."""
    old, new = run(call("a", outcome="value")), run(call("a", outcome="error", reason="ValueError"))
    (pair,) = align(old.roots, new.roots)
    assert (pair.change, pair.outcome_differs) == ("same", True)


trees = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 8)), max_size=9).map(
    lambda items: run(*(call(f"{at}", seam, parent=f"{up}", at=at) for at, (seam, up) in enumerate(items)))
)


@given(trees, trees)
def test_every_call_of_both_sides_is_there_once(old, new):
    """Whatever the trees."""
    pairs = align(old.roots, new.roots)
    for side, tree in (("old", old), ("new", new)):
        mine = [getattr(pair, side).call.id for pair in pairs if getattr(pair, side)]
        assert sorted(mine) == sorted(node.call.id for node, _ in tree.walk())


@given(trees)
def test_a_tree_beside_itself_has_no_difference(tree):
    """None at all."""
    assert set(changes(align(tree.roots, tree.roots))) <= {"same"}
