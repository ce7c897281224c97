from __future__ import annotations

import itertools
import random

import pytest

from crossfade.shim.comparison import Budget, Outcome, Rules, compare
from crossfade.shim.comparison.budget import Meter
from crossfade.shim.comparison.scopes import Scope
from crossfade.shim.comparison.unordered import Print, pair

SOME, OTHER = ({"$redacted": digit * 32} for digit in "ab")
LIMITED = {"$redacted": "limit:nodes:0123abcd"}
BY_ID = {"matcher": "unordered", "key": "id"}


def judge(old, new, said=None, **options):
    rules = Rules.parse(said or {"$": "unordered"})
    return compare(Outcome(kind="value", value=old), Outcome(kind="value", value=new), rules, **options)


def found(old, new, said=None):
    return [f"{d.kind} {d.path}" for d in judge(old, new, said).differences]


def test_only_what_has_no_partner_is_named():
    """Positions of what is missing are the legacy side's, of what is extra the new side's; in that order."""
    assert sorted(found([3, 1, 2], [2, 4, 3])) == ["extra $[1]", "missing $[1]"]
    assert found(["a"], ["b", "a", "c"]) == ["extra $[0]", "extra $[2]"]
    assert found([1, 1, 1], [1]) == ["missing $[1]", "missing $[2]"]


def test_types_are_no_less_apart_than_elsewhere():
    """``1`` is ``1.0`` and not ``true``, null is not missing, members have no order, nested lists have one."""
    assert found([1, None, {"a": 1, "b": 2}], [{"b": 2.0, "a": 1}, 1.0, None]) == []
    assert found([1], [True]) != []
    assert found([{"a": None}], [{}]) != []
    assert found([[1, 2]], [[2, 1]], {"$": "unordered", "$[*]": "exact"}) != []
    assert found([["a", "b"], "c"], [["ab"], "c"]) != []


def test_a_rule_holds_for_lists_below_it_too():
    """As every rule does: nested lists are without order unless something else is said of them."""
    assert found([[1, 2], [3]], [[3], [2, 1]]) == []
    assert found({"a": [1, 2], "b": [1, 2]}, {"a": [2, 1], "b": [2, 1]}, {"$.a": "unordered"}) != []


def test_a_key_pairs_what_differs():
    """The difference is named inside the item; without a key both items are named whole."""
    old = [{"id": 1, "price": 10}, {"id": 2, "price": 20}]
    new = [{"id": 2, "price": 25}, {"id": 1, "price": 10}]

    assert found(old, new, {"$": BY_ID}) == ["changed $[1].price"]
    assert sorted(found(old, new)) == ["extra $[0]", "missing $[1]"]


def test_rules_reach_below_paired_items():
    """By key, and without one where only what a rule has a say in differs."""
    old = [{"id": n, "at": n, "score": n} for n in range(5)]
    new = [{"id": n, "at": -n, "score": n + 0.01} for n in (3, 1, 4, 0, 2)]
    said = {"$[*].at": "ignore", "$[*].score": {"matcher": "approx", "abs": 0.1}}

    for order in ("unordered", BY_ID, "set"):
        verdict = judge(old, new, {"$": order, **said})
        assert (verdict.kind, verdict.rule) == ("ignored", "$[*].at")
    new[0]["score"] = 9
    assert found(old, new, {"$": BY_ID, **said}) == ["changed $[3].score"]


def test_a_key_may_be_of_several_members():
    """Items that agree in one of them are not the same."""
    said = {"$": {"matcher": "unordered", "key": ["kind", "id"]}}
    old = [{"kind": "a", "id": 1, "n": 1}, {"kind": "b", "id": 1, "n": 2}]

    assert found(old, [{"kind": "b", "id": 1, "n": 2}, {"kind": "a", "id": 1, "n": 3}], said) == ["changed $[0].n"]


def test_a_key_without_a_partner_is_missing_or_extra():
    """It is not compared with what has another key."""
    assert sorted(found([{"id": 1, "n": 1}], [{"id": 2, "n": 1}], {"$": BY_ID})) == ["extra $[0]", "missing $[0]"]


@pytest.mark.parametrize("item", [{}, {"id": None}, 5, [1], SOME, {"id": LIMITED}])
def test_what_has_no_key_is_paired_as_without_one(item):
    """An item that is no object, or lacks the member, does no harm."""
    verdict = judge([item, {"id": 1}], [{"id": 1}, item], {"$": BY_ID})

    assert verdict.kind == ("match" if item != {"id": LIMITED} else "inconclusive")


def test_one_key_twice_is_paired_once_each():
    """Two of one key meet two of it; a third is extra."""
    old = [{"id": 1, "n": 1}, {"id": 1, "n": 2}]

    assert found(old, [{"id": 1, "n": 2}, {"id": 1, "n": 1}], {"$": BY_ID}) == []
    assert found(old, [*old, {"id": 1, "n": 3}], {"$": BY_ID}) == ["extra $[2]"]


def test_close_numbers_meet():
    """What ``approx`` judges is paired by size, however it lies."""
    said = {"$": "unordered", "$[*]": {"matcher": "approx", "abs": 0.1}}

    for new in itertools.permutations([1.01, 5.01, 9.01]):
        assert judge([5, 1, 9], list(new), said).kind == "match"


def test_a_set_counts_nothing_twice():
    """Also where a rule takes several for the same."""
    assert judge([1, 1, 2], [2, 1.0], {"$": "set"}).kind == "match"
    said = {"$": "set", "$[*].at": "ignore"}
    assert judge([{"a": 1, "at": 1}, {"a": 1, "at": 2}], [{"a": 1, "at": 3}], said).kind == "ignored"
    assert judge([{"a": 1, "at": 1}, {"a": 2, "at": 2}], [{"a": 1, "at": 3}], said).kind == "mismatch"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ([SOME, 1], [1, SOME], "match"),
        ([SOME], [OTHER], "mismatch"),
        ([{"id": 1, "p": SOME}], [{"id": 1, "p": OTHER}], "mismatch"),
        ([SOME, 1], [1, "clear"], "inconclusive"),
        ([{"p": SOME}], [{"p": "clear"}], "inconclusive"),
        ([LIMITED, 1], [1, LIMITED], "inconclusive"),
        ([LIMITED], ["x"], "inconclusive"),
        (["[redacted:limit]"], ["[redacted:limit]"], "inconclusive"),
        ([SOME], [], "mismatch"),
        ([SOME, 2], [1], "mismatch"),
        ([b"x", 1], [1, b"x"], "inconclusive"),
        ([{1: 2}], [{1: 2.0}], "inconclusive"),
    ],
)
def test_what_is_hidden_is_never_guessed(old, new, kind):
    """Equal hashes are equal, two hashes differ, one that meets a clear value tells nothing; in both directions."""
    assert judge(old, new).kind == kind
    assert judge(new, old).kind == kind


def test_normalising_comes_before_pairing():
    """Items meet as what they are made of them."""
    said = {"$": {"matcher": "unordered", "normalise": ["json", "casefold"]}}

    assert judge(["A", '{"n": 1}'], ['{"n":1.0}', "a"], said).kind == "match"
    assert found([{"id": "A", "n": 1}], [{"id": "a", "n": 2}], {"$": {**BY_ID, "normalise": "casefold"}}) == [
        "changed $[0].n"
    ]


def cost(old, new, said):
    """The nodes that pairing pays for."""
    scope, meter = Scope.of(Rules.parse(said), "$"), Meter(Budget(nodes=10**6, seconds=3600))
    pair(old, new, scope.order, scope, meter)
    return meter._spent


@pytest.mark.parametrize("said", [{"$": "unordered"}, {"$": BY_ID}, {"$": "set", "$[*].at": "ignore"}], ids=str)
@pytest.mark.parametrize("change", ["none", "all"])
def test_the_cost_is_linear(said, change):
    """Ten times the items cost ten times the nodes, whether nothing or everything differs: never their square."""
    costs = []
    for size in (50, 500):
        old = [{"id": n, "at": n, "x": [n]} for n in range(size)]
        new = random.Random(size).sample(old, size)
        if change == "all":
            new = [{**item, "at": -1, "x": [0, 1]} for item in new]
        costs.append(cost(old, new, said))
    assert costs[1] <= costs[0] * 11
    assert 500 * 2 < costs[1] <= 500 * 40


def test_depth_overflows_nothing():
    """Hashing does not recurse either."""
    old, new = [1], [1.0]
    for _ in range(5_000):
        old, new = [old], [new]

    assert judge([old, 1], [1, new], budget=Budget(nodes=10**6, seconds=60)).kind == "match"


def test_equal_values_have_one_print_and_others_another():
    """Also where texts look like numbers, and parts could be drawn together differently."""
    scope = Scope.of(Rules(), "$")
    values = [1, "1", True, None, "", [], {}, [1], [[1]], ["1"], {"a": 1}, {"a": [1]}, [["a"], "b"], ["a", ["b"]]]
    values += [["ab"], ["a", "b"], {"a": {}}, {"a": []}, 2, 1.5, float("inf"), -float("inf"), float("nan"), 10**400]

    assert len({Print(Meter(Budget()), loose=False).of(value, scope) for value in values}) == len(values)
    pairs = [(1, 1.0), (0.0, -0.0), (2**60, float(2**60)), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    for one, other in pairs:
        assert len({Print(Meter(Budget()), loose=False).of(value, scope) for value in (one, other)}) == 1
