from __future__ import annotations

import json
import time

import pytest

from crossfade.shim.comparison import Budget, Outcome, Rules, compare
from crossfade.shim.comparison.values import compare_values, identical

NAN = float("nan")
LARGE = Budget(nodes=10_000_000, seconds=60)
SOME, OTHER = ({"$redacted": digit * 32} for digit in "ab")
LIMITED = {"$redacted": "limit:nodes:0123abcd"}


def of(value):
    return Outcome(kind="value", value=value)


def judge(old, new, said=(), **options):
    return compare(of(old), of(new), Rules.parse(dict(said)), **options)


def found(old, new, said=(), **options):
    """What differs, as ``kind path``."""
    return [f"{d.kind} {d.path}" for d in judge(old, new, said, **options).differences]


# -- what is equal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (NAN, NAN),
        (float("nan"), -float("nan")),
        (2**60, float(2**60)),
        ([1, {"a": None}], [1.0, {"a": None}]),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1.0}),
        (10**400, 10**400),
        (SOME, dict(SOME)),
        ({"$redacted": "plain"}, {"$redacted": "plain"}),
    ],
)
def test_equal_json_matches(old, new):
    """One number type, unordered members; not a number is itself; equal hashes are equal secrets."""
    assert judge(old, new).kind == "match"


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        (1, True, ["type $"]),
        (0, False, ["type $"]),
        (True, False, ["changed $"]),
        (None, False, ["type $"]),
        (1, "1", ["type $"]),
        (NAN, "NaN", ["type $"]),
        (NAN, 1, ["changed $"]),
        (NAN, None, ["type $"]),
        (2**60, float(2**60) + 256, ["changed $"]),
        ("a", "A", ["changed $"]),
        ("é", "e\u0301", ["changed $"]),
        ([], {}, ["type $"]),
        ([], None, ["type $"]),
        ({"a": None}, {}, ["missing $.a"]),
        ({}, {"a": None}, ["extra $.a"]),
        ({"a": None}, {"a": 0}, ["type $.a"]),
        ([1, 2], [2, 1], ["changed $[0]", "changed $[1]"]),
        ([1, 2, 3], [1], ["missing $[1]", "missing $[2]"]),
        ([1], [1, None], ["extra $[1]"]),
        ([[1], [2]], [[1], [2, 3]], ["extra $[1][1]"]),
        ({"b": 1, "a": 1}, {"a": 2, "b": 2}, ["changed $.a", "changed $.b"]),
        ({"a b": {"": 1}}, {"a b": {"": 2}}, ['changed $["a b"][""]']),
        ([[1, [2]], 3], [[1, [0]], 0], ["changed $[0][1][0]", "changed $[1]"]),
        (SOME, OTHER, ["changed $"]),
        ({"p": SOME}, {}, ["missing $.p"]),
        ({"$redacted": "plain"}, {"$redacted": "other"}, ['changed $["$redacted"]']),
    ],
)
def test_each_difference_has_its_place_and_kind(old, new, differences):
    """In document order; missing is not null, true is not 1, positions count, nothing is normalised."""
    assert judge(old, new).kind == "mismatch"
    assert found(old, new) == differences


def test_both_sides_are_shown():
    """Shortened, and empty where nothing is there."""
    verdict = judge({"a": 1, "b": [1]}, {"a": "x", "c": {}})

    assert [(d.old, d.new) for d in verdict.differences] == [("1", '"x"'), ("[1]", ""), ("", "{}")]


# -- what is ignored ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [{"m": 2, "x": 1}, {"m": [1], "x": 1}, {"x": 1}, {"m": {"t": 2}, "x": 1}])
def test_what_differs_under_ignore_is_counted_apart(new):
    """Changed, of another type, missing or inside: not a match, not a mismatch, and the rule is named."""
    verdict = judge({"m": {"t": 1}, "x": 1}, new, {"$.m": "ignore"})

    assert (verdict.kind, verdict.rule, verdict.differences, verdict.more) == ("ignored", "$.m", (), 0)


def test_what_does_not_differ_is_a_match_under_ignore():
    """A rule that had nothing to ignore is not counted."""
    assert judge({"m": 1, "x": 1}, {"m": 1.0, "x": 1}, {"$.m": "ignore"}).kind == "match"


def test_a_difference_elsewhere_is_a_mismatch():
    """Ignoring covers its place alone, and ignored differences are not shown."""
    assert found({"m": 1, "x": 1}, {"m": 2, "x": 2}, {"$.m": "ignore"}) == ["changed $.x"]


def test_every_rule_that_ignored_is_named():
    """In one order, so that the text can be counted by."""
    said = {"$.b": "ignore", "$.a": "ignore", "$.c": "ignore"}

    assert judge({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 1}, said).rule == "$.a, $.b"


def test_a_stronger_rule_compares_inside_an_ignored_part():
    """``$.meta`` is ignored, its version is not."""
    said = {"$.meta": "ignore", "$.meta.version": "exact"}

    assert judge({"meta": {"version": 1, "at": 1}}, {"meta": {"version": 1, "at": 2}}, said).kind == "ignored"
    assert found({"meta": {"version": 1, "at": 1}}, {"meta": {"version": 2, "at": 2}}, said) == [
        "changed $.meta.version"
    ]


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        ({"meta": {"version": 1, "at": 1}}, {}, ["missing $.meta.version"]),
        ({}, {"meta": {"at": 1, "version": 1}}, ["extra $.meta.version"]),
        ({"meta": {"version": 1}}, {"meta": 5}, ["missing $.meta.version"]),
        ({"meta": {"version": {"x": 1}}}, {"meta": [{"version": 1}]}, ["missing $.meta.version"]),
        ({"meta": {"at": 1}}, {}, []),
        ({"meta": SOME}, {}, []),
        ({"meta": "version"}, {}, []),
    ],
)
def test_an_ignored_part_cannot_take_along_what_is_compared(old, new, differences):
    """When the ignored whole is gone or is something else, the compared place in it is missing."""
    said = {"$.meta": "ignore", "$.meta.version": "exact"}

    assert found(old, new, said) == differences
    assert judge(old, new, said).kind == ("mismatch" if differences else "ignored")


def test_an_ignored_part_is_searched_at_any_depth():
    """Lists and objects inside what is gone are walked, too; the list's side first, so that sides are alike."""
    said = {"$": "ignore", "$..id": "exact"}
    one, other = [{"id": 1}, [[{"id": 2}]]], {"a": {"id": 3}}

    assert found(one, other, said) == ["missing $[0].id", "missing $[1][0][0].id", "extra $.a.id"]
    assert found(other, one, said) == ["extra $[0].id", "extra $[1][0][0].id", "missing $.a.id"]


def test_the_root_can_be_ignored():
    """Whatever is returned is fine; how the call ended is another matter."""
    assert judge(1, "x", {"$": "ignore"}).kind == "ignored"


# -- what cannot be told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SOME, "secret"),
        (SOME, None),
        (SOME, {}),
        (SOME, {"$redacted": "plain"}),
        (LIMITED, {"$redacted": "limit:nodes:0123abce"}),
        (LIMITED, SOME),
        (LIMITED, 1),
        ("[redacted:limit]", "[redacted:limit]"),
        ("[redacted:limit]", "x"),
        (SOME, "[redacted:limit]"),
    ],
)
def test_what_only_one_side_shows_is_undecided(old, new):
    """One redacted side, or one that was too large to hash, is neither equal nor different; in both directions."""
    for one, other in ((old, new), (new, old)):
        verdict = judge({"p": [one]}, {"p": [other]})

        assert (verdict.kind, verdict.reason, verdict.detail) == ("inconclusive", "redacted", "$.p[0]")


def test_a_visible_difference_outweighs_what_is_hidden():
    """It is a mismatch whatever the secret is."""
    assert found({"p": SOME, "x": 1}, {"p": 1, "x": 2}) == ["changed $.x"]


@pytest.mark.parametrize("new", [OTHER, "clear", LIMITED, b"bytes", {1: 2}])
def test_what_is_ignored_need_not_be_told(new):
    """An ignored secret, or an ignored value that is no JSON, leaves the verdict ignored."""
    assert judge({"p": SOME, "x": 1}, {"p": new, "x": 1}, {"$.p": "ignore"}).kind == "ignored"


@pytest.mark.parametrize("value", [b"x", (1,), {1: 2}, {1, 2}, object(), {"a": 1j}, {"a": {None: 1}}, [{b"": 1}]])
def test_what_is_no_json_is_undecided(value):
    """Only what a JSON decoder makes has a defined meaning here; anything else is said, not guessed."""
    verdict = judge({"v": value, "n": 1}, {"v": value, "n": 1.0})

    assert (verdict.kind, verdict.reason) == ("inconclusive", "not-json")
    assert verdict.detail.startswith("$.v")


def test_ignored_is_less_than_undecided():
    """Half a comparison is no verdict on the whole."""
    assert judge({"a": 1, "b": SOME}, {"a": 2, "b": 2}, {"$.a": "ignore"}).kind == "inconclusive"


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_budget_that_ends_is_no_verdict():
    """Neither match nor ignored: the rest was not seen."""
    old, new = [1] * 10, [1.0] * 10

    assert judge(old, new, budget=Budget(nodes=11)).kind == "match"
    assert judge(old, new, budget=Budget(nodes=10)) == judge([*old, 1], new, budget=Budget(nodes=10))
    assert judge(old, new, budget=Budget(nodes=10)).reason == "budget"
    assert judge([0, *old], [1, *new], {"$[0]": "ignore"}, budget=Budget(nodes=11)).kind == "inconclusive"


def test_a_mismatch_is_one_even_when_the_budget_ends():
    """What was found stays found; the reason says that there may be more."""
    verdict = judge([1] * 10, [2] * 10, budget=Budget(nodes=3))

    assert (verdict.kind, verdict.reason, len(verdict.differences)) == ("mismatch", "budget", 2)


def test_time_is_bounded():
    """A clock that has run out ends a long comparison and leaves a short one alone."""
    times = iter([0.0, 0.4, 0.6])
    budget = Budget(seconds=0.5, clock=lambda: next(times))

    assert judge([1] * 1000, [1.0] * 1000, budget=budget).reason == "budget"
    assert next(times, None) is None


def test_an_object_too_wide_to_sort_is_not_sorted():
    """The budget is asked before the work, on whichever side the object is, ignored or not."""
    wide, narrow = dict.fromkeys(map(str, range(50)), 1), {"x": 1}

    for old, new in ((wide, narrow), (narrow, wide)):
        assert judge(old, new, budget=Budget(nodes=50)).kind == "inconclusive"
        assert judge(old, new, budget=Budget(nodes=60)).kind == "mismatch"
    said = {"$.a": "ignore", "$.a.0": "exact"}
    assert judge({"a": wide}, {}, said, budget=Budget(nodes=51)).kind == "inconclusive"
    assert judge({"a": wide}, {}, said, budget=Budget(nodes=52)).kind == "mismatch"


def nested(depth, inner, wrap):
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def members(inner):
    return {"a": inner, "b": 0}


@pytest.mark.parametrize(
    ("wrap", "said", "depth"),
    [
        (lambda inner: [inner], {}, 30_000),
        (members, {"$..id": "ignore"}, 20_000),
        (members, {"$": "ignore", "$..b.c": "exact"}, 20_000),
    ],
    ids=["list", "object", "ignored"],
)
def test_depth_overflows_nothing(wrap, said, depth):
    """Values are compared, differ at the bottom, or are missing whole, at depths where recursion dies at 1,000."""
    old, same, other = (nested(depth, leaf, wrap) for leaf in (1, 1.0, 2))
    ignored = "$" in said

    assert judge(old, same, said, budget=LARGE).kind == "match"
    assert judge(old, other, said, budget=LARGE).kind == ("ignored" if ignored else "mismatch")
    assert judge(old, None, said, budget=LARGE).kind == ("ignored" if ignored else "mismatch")


def test_depth_with_many_differences_stays_linear():
    """30,000 differences below 30,000 levels: a path text for each would be 2.7 GB."""
    began = time.process_time()
    old, new = (nested(30_000, [leaf] * 30_000, lambda inner: [inner]) for leaf in (1, 2))

    verdict = judge(old, new, budget=LARGE)

    assert verdict.more == 29_990
    assert time.process_time() - began < 10


def test_a_value_that_contains_itself_ends():
    """No JSON, but no hang either."""
    old, new = [1], [2]
    old.append(old)
    new.append(new)

    assert judge(old, new).reason == "budget"


def test_shared_parts_do_not_explode():
    """2**60 leaves in 60 lists: decided by the short cut or ended by the budget, at once."""
    old, new = [1], [1.0]
    for _ in range(60):
        old, new = [old, old], [new, new]

    assert judge(old, new).reason == "budget"


# -- the short cut -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, True), ([0], [False]), ({"a": 1}, {"a": 1.0}), ("a", b"a"), ([1], (1,)), (NAN, "nan"), ("1", 1), ([], {})],
)
def test_the_short_cut_takes_nothing_for_equal_that_is_not(old, new):
    """It may miss equal values (1 and 1.0), never the other way round: where ``==`` is wrong it is not."""
    assert not identical(old, new)
    assert not identical([old], [new])


def test_the_short_cut_is_taken_and_agrees():
    """It says equal for two readings of one text, as the walk does."""
    text = json.dumps({"a": [1, 2.5, None, True, "é", {"b": "x" * 300}], "c": -(10**40)})
    old, new = json.loads(text), json.loads(text)

    assert identical(old, new)
    walked = compare_values(old, new, Rules(), Budget())
    assert (walked.differences, walked.undecided, walked.exhausted) == ([], None, False)


def test_the_short_cut_leaves_unsearched_texts_to_the_walk():
    """Two texts too long to be searched for secrets look equal and may not have been."""
    assert not identical(["[redacted:limit]"], ["[redacted:limit]"])


def test_equal_answers_cost_next_to_nothing(note):
    """10 KB of equal JSON take well under a millisecond; one difference in it costs the walk."""
    hit = {"id": "4f", "title": "A title", "score": 0.5, "url": "https://example.com/x", "text": "x" * 100, "ok": True}
    text = json.dumps({"hits": [{**hit, "id": str(n)} for n in range(55)], "total": 55})
    old, new, other = (json.loads(text) for _ in range(3))
    other["hits"][54]["score"] = 1

    equal, walked = (fastest(lambda side=side: judge(old, side)) for side in (new, other))

    note(f"compare {len(text)} bytes of JSON: equal {equal * 1e6:.0f} us, one difference {walked * 1e6:.0f} us")
    assert judge(old, new).kind == "match"
    assert equal < 0.000_5
    assert walked < 0.01


def fastest(run):
    """Seconds of the fastest of 50 rounds: what the machine is also busy with only adds."""
    times = []
    for _ in range(50):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)
