"""Both sides of a mismatch as lines, marked where they differ, however large they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.dashboard.sides import LINES, WIDTH, Recorded, lines
from crossfade.shim.events import Event
from crossfade.shim.subjects import Subjects

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


async def test_of_a_stream_each_side_shows_its_items_and_the_error_behind_them():
    """An item that the handler lacks is marked where it is, not what stands at its place on the other side."""
    at = datetime(2026, 3, 2, tzinfo=UTC)
    failed = {"type": "ValueError", "message": "late"}
    told = {
        "o": {"arguments": {}, "outcome": "value", "stream": {"items": ["a", "b", "c"]}},
        "v": {"answer": {"outcome": "error", "stream": {"items": ["a", "c"]}, "error": failed}},
    }

    async def read(family, **_range):
        data = json.dumps(told[family.partition(".")[0][-1]]).encode()
        yield SimpleNamespace(event=Event(type="x", source="urn:x", id="c1", data=data), time=at)

    recorded = Recorded(SimpleNamespace(read=read), Subjects("t"), lambda value: value)
    sides = await recorded.find("web.lines", "c1", at=at, differing=[{"path": "$[1]", "kind": "missing"}])

    assert [line.text.strip() for line in sides.legacy if line.differs] == ['"b",']
    assert [line.text.strip() for line in sides.new][:4] == ["[", '"a",', '"c"', "]"]
    assert '"message": "late"' in [line.text.strip() for line in sides.new]
    assert not any(line.differs for line in sides.new)
