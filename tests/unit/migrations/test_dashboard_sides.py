"""Both sides of a mismatch as lines, marked where they differ, however large they are."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.dashboard.sides import LINES, WIDTH, lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_lines_are_the_value(value):
    """Read together they are the same JSON."""
    assert json.loads("\n".join(line.text for line in lines(value, ()))) == value


def test_what_lies_where_the_sides_differ_is_marked_and_nothing_around_it():
    """A place marks all below it; a name that needs quotes is found, too; an error has places of its own."""
    value = {"a": {"b": [1, 2]}, "c d": 3, "e": 4}
    assert [line.text.strip() for line in lines(value, ["$.a.b", '$["c d"]']) if line.differs] == [
        '"b": [',
        "1,",
        "2",
        "]",
        '"c d": 3,',
    ]
    error = {"type": "KeyError", "message": "x"}
    marked = [line.text.strip() for line in lines(error, ["$error.message", "$.type"], root="$error") if line.differs]
    assert marked == ['"message": "x"']


def test_a_side_is_bounded_in_lines_and_in_width():
    """And says that there is more."""
    found = list(lines([*range(9 * LINES)], ()))
    assert (len(found), found[-1].text) == (LINES + 1, "… and more")
    (line,) = lines("x" * 9 * WIDTH, ())
    assert len(line.text) == WIDTH + 1
