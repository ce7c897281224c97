from __future__ import annotations

import pytest

from crossfade.shim.comparison import MATCHERS, MISSING, WELL_FORMED, Outcome, Rules, compare
from crossfade.shim.errors import ConfigurationError


def judge(old, new, said):
    return compare(Outcome(kind="value", value=old), Outcome(kind="value", value=new), Rules.parse(said))


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


def test_exact_takes_no_options():
    """Unknown options are a named error."""
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


def test_what_a_matcher_calls_the_same_is_so_but_for_stronger_rules():
    """``$.x`` is settled as a whole, its version is compared, below objects and lists, and where a whole is gone."""
    said = {"$.x": "present", "$.x..version": "exact"}

    def found(old, new):
        return [f"{d.kind} {d.path}" for d in judge({"x": old}, {"x": new}, said).differences]

    assert found({"at": 1, "version": 1}, {"of": 2, "version": 1}) == []
    assert found({"a": [{"at": 1, "version": 1}]}, {"a": [{"version": 2}]}) == ["changed $.x.a[0].version"]
    assert found({"version": 1}, [3]) == ["missing $.x.version"]
    assert found([3], {"a": {"version": 1}}) == ["extra $.x.a.version"]


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


# -- each of them ------------------------------------------------------------------------------------------------------

ID, OTHER_ID = "3f2b8c1e-9a7d-4e65-8b10-1c2d3e4f5a6b", "urn:uuid:00000000-0000-0000-0000-000000000000"
APPROX = {"matcher": "approx", "abs": 0.1}
RELATIVE = {"matcher": "approx", "rel": 0.1}
PATTERN = {"matcher": "regex", "pattern": r"job-\d+"}
TIMES = {"matcher": "timestamp", "within": 2}


@pytest.mark.parametrize(
    ("said", "old", "new", "same"),
    [
        ("present", 1, "x", True),
        ("present", None, {"a": 1}, True),
        ("present", [1], [2, 3], True),
        ("type", 1, 2.5, True),
        ("type", "a", "b", True),
        ("type", True, False, True),
        ("type", 1, True, False),
        ("type", 1, None, False),
        ("type", {"a": 1}, {"a": 2}, True),
        ("type", {"a": 1}, {"b": 2}, False),
        ("type", [1], ["x"], False),
        ("type", [1], [2, 3], False),
        (APPROX, 1, 1.05, True),
        (APPROX, 1, 1.2, False),
        (APPROX, 1, "1", False),
        (APPROX, True, 1.0, False),
        (APPROX, [1, {"a": 2}], [1.01, {"a": 1.99}], True),
        (APPROX, 10**400, 10**400 + 1, False),
        (APPROX, float("inf"), 1, False),
        (APPROX, float("nan"), 1, False),
        (RELATIVE, 100, 109, True),
        (RELATIVE, 100, 120, False),
        (RELATIVE, 0, 0.001, False),
        (PATTERN, "job-1", "job-22", True),
        (PATTERN, "job-1", "task-1", False),
        (PATTERN, "job-1", "job-2 ", False),
        (PATTERN, "job-1", 1, False),
        (PATTERN, "job-" + "1" * 20_000, "job-1", False),
        (TIMES, "2026-01-01T00:00:00Z", "2026-01-01T01:00:01.5+01:00", True),
        (TIMES, "2026-01-01T00:00:00Z", "2026-01-01T00:00:03Z", False),
        (TIMES, "2026-01-01 00:00:00", "2026-01-01T00:00:01", True),
        (TIMES, "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", False),
        (TIMES, 1767225600, 1767225601.5, True),
        (TIMES, 1767225600, 1767225700, False),
        (TIMES, 1767225600, "2026-01-01T00:00:00Z", False),
        (TIMES, "2026-01-01T00:00:00Z", "yesterday", False),
        (TIMES, "today", "yesterday", False),
        (TIMES, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", False),
        (TIMES, 10**400, 1, False),
        ("uuid", ID, OTHER_ID, True),
        ("uuid", ID.upper(), OTHER_ID.replace("-", ""), True),
        ("uuid", ID, "7", False),
        ("uuid", ID, 7, False),
        ("set", [1, 2, 2], [2, 1.0], True),
        ("set", [1, 2], [1, 3], False),
        ("set", [1], {"a": 1}, False),
        ("unordered", [1, 2], [2, 1], True),
        ("unordered", [1, 2, 2], [2, 1], False),
        ("exact", 1, 2, False),
    ],
)
def test_each_matcher_has_its_meaning(said, old, new, same):
    """Of two values, in both directions; equal ones are equal under any of them."""
    for one, other in ((old, new), (new, old)):
        assert judge({"x": one}, {"x": other}, {"$.x": said}).kind == ("match" if same else "mismatch")
    for value in (old, new):
        assert judge({"x": [value]}, {"x": [value]}, {"$.x": said}).kind == "match"


@pytest.mark.parametrize("said", ["present", "type", "set", "unordered", "uuid", APPROX, PATTERN, TIMES], ids=str)
def test_no_matcher_but_ignore_makes_up_for_what_is_missing(said):
    """A place that one side lacks is a difference, and never an error of the matcher."""
    for kind, old, new in (("missing", {"x": ID}, {}), ("extra", {}, {"x": [1]})):
        assert [d.kind for d in judge(old, new, {"$.x": said}).differences] == [kind]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"matcher": "type", "of": 1}, "\"$.x\".of: 'type' takes no options"),
        ({"matcher": "approx"}, '"$.x": say abs = 0.01 (how far apart) or rel = 0.05'),
        ({"matcher": "approx", "abs": 0}, '"$.x": say abs = 0.01'),
        ({"matcher": "approx", "abs": "x"}, "\"$.x\".abs: 'x' is no number that is 0 or more"),
        ({"matcher": "approx", "abs": True}, '"$.x".abs: True is no number'),
        ({"matcher": "approx", "abs": float("nan")}, '"$.x".abs: nan is no number'),
        ({"matcher": "approx", "rel": 2}, '"$.x".rel: 2 is no number that is between 0 and 1'),
        ({"matcher": "approx", "absolute": 1}, '"$.x".absolute: it takes abs, rel'),
        ({"matcher": "regex"}, '"$.x".pattern: must be the regular expression'),
        ({"matcher": "regex", "pattern": "("}, "\"$.x\".pattern: '(' cannot be used: missing ), "),
        ({"matcher": "regex", "pattern": "(?=a)"}, "\"$.x\".pattern: '(?=a)' cannot be used: "),
        ({"matcher": "timestamp"}, '"$.x".within: must be the seconds that two times may be apart'),
        ({"matcher": "timestamp", "within": -1}, '"$.x".within: -1 is no number'),
        ({"matcher": "set", "key": "id"}, "\"$.x\".key: 'set' takes no options"),
        ({"matcher": "unordered", "key": 1}, '"$.x".key: must be a member\'s name, or a list of names, not 1'),
        ({"matcher": "unordered", "key": []}, '"$.x".key: must be a member\'s name'),
        ({"matcher": "unordered", "keys": "id"}, "\"$.x\".keys: did you mean 'key'? it takes key"),
    ],
)
def test_a_wrong_option_is_named_when_the_rule_is_read(said, error):
    """Not at the first comparison, a week later; by whoever keeps rules, too."""
    for matchers in (MATCHERS, WELL_FORMED):
        with pytest.raises(ConfigurationError) as caught:
            Rules.parse({"$.x": said}, where="rules", matchers=matchers)
        assert str(caught.value).startswith(f"rules.{error}")


def test_both_registries_know_the_same_matchers():
    """A rule that a policy takes is one that a worker knows."""
    assert set(WELL_FORMED) == set(MATCHERS)
