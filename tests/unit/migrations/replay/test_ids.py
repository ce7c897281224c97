"""Which values are ids, and which pairs of them may stand for each other."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.migrations.replay.ids import IdMap

A, B, C = (str(uuid.UUID(int=n)) for n in (1, 2, 3))
ULID, OTHER_ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ"

ids = st.uuids().map(str)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("new", [B, B.replace("-", ""), ULID])
def test_an_id_made_anew_is_paired(new):
    """Alone, inside a text, deep inside, whatever form it has now; the texts around must be the same."""
    known = IdMap()
    pairs = known.fits({"order": A, "path": [f"/orders/{A}"]}, {"order": new, "path": [f"/orders/{new}"]})
    known.learn(pairs)

    assert known.to_recorded({"seen": [new, f"id={new}"]}) == {"seen": [A, f"id={A}"]}
    assert known.to_replayed(A) == new


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        ({"q": "tigers"}, {"q": "lions"}),
        ({"id": A, "n": 1}, {"id": B, "n": 2}),
        ([A, A], [B, C]),
        ([A, B], [C, C]),
        ({"id": A}, {"id": B, "more": 1}),
        ([A], [A, A]),
        (1, True),
        ("deadbeef", "feedbeef"),
    ],
)
def test_what_differs_in_more_than_ids_is_no_pair(recorded, replayed):
    """Another text, one id for two, two for one, another shape, a number for a flag: not the same call."""
    assert IdMap().fits(recorded, replayed) is None


def test_what_was_learnt_holds():
    """An id that stands for one already stands for no other."""
    known = IdMap()
    known.learn(known.fits([ULID], [OTHER_ULID]))

    assert known.fits([ULID], [A]) is None
    assert known.fits([B], [OTHER_ULID]) is None
    assert known.fits([ULID, B], [OTHER_ULID, C]) == [(ULID, OTHER_ULID), (B, C)]


@settings(max_examples=40)
@given(values)
def test_the_same_is_the_same(value):
    """A value fits itself, and nothing is translated by that."""
    known = IdMap()
    known.learn(known.fits(value, value))
    assert (len(known), known.to_replayed(value)) == (0, value)


@settings(max_examples=40)
@given(values, st.dictionaries(ids, ids))
def test_there_and_back(value, renamed):
    """What was renamed one to one fits, and is recorded again after translating back."""
    used = set(renamed) | set(renamed.values())
    fresh = {old: str(uuid.uuid5(uuid.UUID(int=0), old)) for old in used}
    known = IdMap()
    known.learn(list(fresh.items()))
    there = known.to_replayed([value, *renamed])

    assert known.to_recorded(there) == [value, *renamed]
    assert IdMap().fits([value, *renamed], there) is not None
