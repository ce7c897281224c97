from __future__ import annotations

import pytest

from crossfade.shim.comparison import Budget, Outcome, Rules, compare
from crossfade.shim.comparison.findings import fold, signature
from crossfade.shim.outcomes import ErrorRecord


def of(value):
    return Outcome(kind="value", value=value)


def failed(name):
    return Outcome(kind="error", error=ErrorRecord(type=name, message="x"))


def mark(old, new):
    return compare(old, new).signature


def test_a_signature_is_the_same_in_every_version():
    """Evidence of months is grouped by it; if this fails, groups split on an upgrade."""
    assert mark(of({"hits": [{"score": 1}]}), of({"hits": [{"score": 2}]})) == "a4d084c53143a115"
    assert mark(of(1), failed("KeyError")) == "01109e5329a4a16c"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"a": 1}, {"a": 2}), ({"a": "x"}, {"a": "y"})),
        (([1], [2]), ([0, 0, 1], [0, 0, 2])),
        (([1, 1], [2, 2]), ([1], [2])),
        (
            ({"h": [{"s": 1}], "t": 1}, {"h": [{"s": 2}], "t": 2}),
            ({"t": 1, "h": [{"s": 1}] * 9}, {"t": 3, "h": [{"s": 4}] * 9}),
        ),
        (([], [1]), ([1], [1, 2, 3])),
    ],
)
def test_what_differs_alike_has_one_signature(one, other):
    """Values, list positions, how many items and the order of members do not matter."""
    assert mark(*map(of, one)) == mark(*map(of, other)) != ""


DISTINCT = [
    (of(1), of(2)),
    (of(1), of("1")),
    (of([1]), of([2])),
    (of([[1]]), of([[2]])),
    (of({"a": 1}), of({"a": 2})),
    (of({"a": 1}), of({"a": "1"})),
    (of({"a": 1}), of({})),
    (of({}), of({"a": 1})),
    (of({"a": {"b": 1}}), of({"a": {"b": 2}})),
    (of({"a.b": 1}), of({"a.b": 2})),
    (of({"[]": 1}), of({"[]": 2})),
    (of({"a": 1, "b": 1}), of({"a": 2, "b": 2})),
    (of({"$error": 1}), of({"$error": 2})),
    (of(1), failed("KeyError")),
    (of(1), failed("TimeoutError")),
    (failed("KeyError"), of(1)),
    (failed("KeyError"), failed("TimeoutError")),
]


def test_what_differs_otherwise_has_another():
    """Place, kind, and for an outcome its direction and the error's type tell mismatches apart."""
    assert len({mark(*pair) for pair in DISTINCT}) == len(DISTINCT)


def test_only_a_mismatch_has_a_signature():
    """Groups are of mismatches."""
    assert mark(of(1), of(1)) == ""
    assert compare(of(1), of(2), Rules.parse({"$": "ignore"})).signature == ""
    assert compare(of([1] * 9), of([1.0] * 9), budget=Budget(nodes=2)).signature == ""


def test_differences_are_capped_and_counted():
    """10 alike, 50 in all; the rest is a number, and what is not shown still counts for the signature."""
    wide = compare(of([0] * 100), of([1] * 100))
    assert (len(wide.differences), wide.more) == (10, 90)
    assert wide.differences[9].path == "$[9]"

    many = compare(of(dict.fromkeys("abcdefgh", [0] * 20)), of(dict.fromkeys("abcdefgh", [1] * 20)))
    assert (len(many.differences), many.more) == (50, 110)
    fewer = compare(of(dict.fromkeys("abcdefg", [0] * 20)), of(dict.fromkeys("abcdefg", [1] * 20)))
    assert len(fewer.differences) == 50
    assert fewer.signature != many.signature


def test_a_long_drift_does_not_hide_the_rest():
    """One field that drifts in every item leaves room for the one that is missing."""
    old = {"hits": [{"score": n} for n in range(500)], "total": 500}
    new = {"hits": [{"score": n + 1} for n in range(500)]}

    assert compare(of(old), of(new)).differences[-1].path == "$.total"


def test_a_place_folds_like_its_neighbours():
    """Every index is one place, every name another; the document itself adds nothing."""
    assert fold(b"$", None) == b"$"
    assert fold(b"$", 0) == fold(b"$", 7) != fold(b"$", "a") != fold(b"$", "b")
    assert fold(b"$", "\ud800") != fold(b"$", "\ud801")


def test_a_signature_is_of_a_set():
    """Order and repetition do not matter."""
    assert signature([b"a", b"b", b"a"]) == signature([b"b", b"a"]) != signature([b"ab"])
