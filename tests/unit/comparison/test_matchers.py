from __future__ import annotations

import pytest

from crossfade.shim.comparison import MATCHERS, MISSING, Outcome, Rules, compare
from crossfade.shim.errors import ConfigurationError


class Planted:
    """A matcher and its factory; keeps what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, options, *, where):
        return self

    def judge(self, old, new):
        self.asked.append((old, new))
        return self.answer(old, new)


def judged(answer, old, new, path="$.x"):
    planted = Planted(answer)
    rules = Rules.parse({path: "planted"}, matchers={**MATCHERS, "planted": planted})
    return compare(Outcome(kind="value", value=old), Outcome(kind="value", value=new), rules), planted.asked


def test_there_are_exact_and_ignore():
    """More come later under other names; unknown options are a named error."""
    assert sorted(MATCHERS) == ["exact", "ignore"]
    with pytest.raises(ConfigurationError, match=r"^here\.abs: 'exact' takes no options"):
        MATCHERS["exact"]({"abs": 1}, where="here")


def test_exact_is_what_holds_without_rules():
    """Naming it only matters where another rule would hold."""
    assert judged(MATCHERS["exact"]({}, where="").judge, {"x": 1}, {"x": 2})[0].kind == "mismatch"


def test_a_matcher_that_says_same_ends_the_matter():
    """Nothing below is looked at, and the verdict is a plain match."""
    verdict, asked = judged(lambda old, new: "same", {"x": [1, 2]}, {"x": [3]})

    assert verdict.kind == "match"
    assert asked == [([1, 2], [3])]


def test_a_matcher_that_says_different_ends_the_matter():
    """One difference at its place, not one for each part."""
    verdict, asked = judged(lambda old, new: "different", {"x": [1, 2]}, {"x": [3]})

    assert [(d.path, d.kind, d.old, d.new) for d in verdict.differences] == [("$.x", "changed", "[1, 2]", "[3]")]
    assert asked == [([1, 2], [3])]


def test_a_matcher_without_opinion_is_asked_below():
    """Lists and members are taken apart for it; equal scalars are not worth a question."""
    verdict, asked = judged(lambda old, new: "descend", {"x": [1, {"y": 2}]}, {"x": [1, {"y": 3}, 4]})

    assert asked == [
        ([1, {"y": 2}], [1, {"y": 3}, 4]),
        ({"y": 2}, {"y": 3}),
        (2, 3),
        (MISSING, 4),
    ]
    assert [d.path for d in verdict.differences] == ["$.x[1].y", "$.x[2]"]


def test_a_matcher_never_sees_a_redacted_value():
    """Hashes are compared as such; a matcher would judge the mark instead of what it stands for."""
    one, other = ({"$redacted": digit * 32} for digit in "12")

    verdict, asked = judged(lambda old, new: "same", {"x": one}, {"x": other})

    assert verdict.kind == "mismatch"
    assert asked == []


def broken(old, new):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (broken, "$.x: ZeroDivisionError"),
        (lambda old, new: True, "$.x: answered true"),
        (lambda old, new: [], "$.x: answered []"),
    ],
)
def test_a_broken_matcher_measures_nothing(answer, detail):
    """It is neither a match nor a mismatch, and the place is named."""
    verdict, _ = judged(answer, {"x": 1}, {"x": 2})

    assert (verdict.kind, verdict.reason, verdict.detail) == ("inconclusive", "matcher", detail)


def test_a_broken_matcher_hides_no_mismatch():
    """What is decided elsewhere stays decided."""
    assert judged(broken, {"x": 1, "y": 1}, {"x": 2, "y": 2})[0].kind == "mismatch"
