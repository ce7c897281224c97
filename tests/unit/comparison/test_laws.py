"""The laws of the comparison, and for each a broken kernel that it catches."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import re

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from crossfade.shim.comparison import Budget, Difference, Outcome, Rules, Verdict, compare
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.outcomes import ErrorRecord
from crossfade.shim.redaction import Redactor

NO_RULES = Rules()
UNBOUNDED = Budget(nodes=10**9, seconds=3600)
NAMES = ["id", "a", "b", "score", "two words", "", "$", "0", "é"]

numbers = st.integers(-3, 3) | st.integers() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, 2.0**60, 10**400])
texts = st.sampled_from(["", "1", "true", "NaN", "null", "x"]) | st.text(max_size=5)
scalars = st.none() | st.booleans() | numbers | texts
names = st.sampled_from(NAMES) | st.text(max_size=3)


def containers(inner):
    return st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)


values = st.recursive(scalars, containers, max_leaves=12)
errors = st.builds(
    ErrorRecord,
    type=st.sampled_from(["ValueError", "KeyError", "app.Oops"]),
    message=st.sampled_from(["", "x", "'x'", "y"]),
    args=st.lists(st.sampled_from(["", "x", "y", 1, True]), max_size=2).map(tuple),
)
durations = st.none() | st.floats(0, 10)
outcomes = (
    st.builds(Outcome, kind=st.just("value"), value=values, duration=durations)
    | st.builds(Outcome, kind=st.just("error"), error=errors, duration=durations)
    | st.builds(Outcome, kind=st.sampled_from(["unknown", "not-executed"]), reason=st.sampled_from(["", "late"]))
)
steps = st.sampled_from(["", "..id", ".a", ".id", ".*", "[*]", "[0]", "..*", "..[0]", '["two words"]', "..score"])
paths = st.lists(steps, max_size=3).map(lambda parts: "$" + "".join(parts)) | st.sampled_from(
    ["$error", "$error.message", "$error.args[0]", "$error..*"]
)
plain_rules = st.dictionaries(paths, st.sampled_from(["ignore", "exact"]), max_size=4)
matchers = st.sampled_from(
    ["ignore", "exact", "present", "type", "uuid", "set", "unordered"]
    + [{"matcher": "unordered", "key": "id"}, {"matcher": "approx", "abs": 1}, {"matcher": "approx", "rel": 0.5}]
    + [{"matcher": "regex", "pattern": "[a-z]*"}, {"matcher": "timestamp", "within": 5}]
    + [{"matcher": name, "normalise": ["json", "join", "strip", "casefold"]} for name in ("exact", "unordered", "type")]
)
rules = st.dictionaries(paths, matchers, max_size=4)


@st.composite
def neighbours(draw):
    """A value and a copy in which up to three places were changed."""
    value = draw(values)
    other = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        other = changed(other, draw)
    return value, other


def changed(value, draw):
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(value[at], draw), *value[at + 1 :]]
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: changed(value[name], draw)}
    if isinstance(value, list):
        return value[:-1] if value and draw(st.booleans()) else [*value, draw(scalars)]
    if isinstance(value, dict):
        return dict(list(value.items())[1:]) if value and draw(st.booleans()) else value | {"id": draw(values)}
    return draw(values)


pairs = st.tuples(values, values) | neighbours()


def of(value):
    return Outcome(kind="value", value=value)


def shuffled(value):
    """Equal by the rules: members in another order, whole numbers in their other notation."""
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    if type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


def canonical(value):
    """Equal exactly for equal JSON: the kernel's meaning of equal, said another way."""
    if isinstance(value, list):
        return ("list", *map(canonical, value))
    if isinstance(value, dict):
        return ("object", frozenset((name, canonical(member)) for name, member in value.items()))
    if isinstance(value, bool) or value is None:
        return ("word", str(value))
    if isinstance(value, str):
        return ("text", value)
    return ("number", "NaN" if math.isnan(value) else value) if isinstance(value, float) else ("number", value)


# -- the laws: each takes a kernel, so that a broken one can be tried ------------------------------------------------


def equal_values_match(kernel, value, said):
    """A value matches itself under any rules, however its members are ordered and its numbers are written."""
    assert kernel(of(value), of(copy.deepcopy(value)), Rules.parse(said)) == Verdict(kind="match")
    assert kernel(of(value), of(shuffled(value)), Rules.parse(said)).kind == "match"


def only_equal_values_match(kernel, pair):
    """Without rules, exactly what is equal JSON matches, and everything else is a mismatch with differences."""
    old, new = pair
    verdict = kernel(of(old), of(new), budget=UNBOUNDED)
    assert verdict.kind == ("match" if canonical(old) == canonical(new) else "mismatch")
    assert bool(verdict.differences) == bool(verdict.signature) == (verdict.kind == "mismatch")


def sides_are_alike(kernel, old, new, said, nodes):
    """Swapping the sides changes no kind, no reason and no rule, at any budget; missing becomes extra."""
    budget = Budget(nodes=nodes, seconds=3600)
    there = kernel(old, new, Rules.parse(said), budget=budget)
    back = kernel(new, old, Rules.parse(said), budget=budget)
    swapped = {"missing": "extra", "extra": "missing"}
    assert (there.kind, there.reason, there.rule, there.more) == (back.kind, back.reason, back.rule, back.more)
    turned = [Difference(path=d.path, kind=swapped.get(d.kind, d.kind), old=d.new, new=d.old) for d in back.differences]
    if any(rule.matcher in ("set", "unordered") for rule in Rules.parse(said).rules):
        assert list(map(anywhere, there.differences)) == list(map(anywhere, turned))
    else:
        assert list(there.differences) == turned


def anywhere(difference):
    """A difference without positions: where order says nothing they are the legacy side's."""
    return re.sub(r"\[\d+\]", "[]", difference.path), difference.kind, difference.old, difference.new


def ignoring_finds_no_more(kernel, pair, said, path):
    """One more ignored path makes no mismatch, and shows no difference that was not there."""
    before = kernel(of(pair[0]), of(pair[1]), Rules.parse(said), budget=UNBOUNDED)
    after = kernel(of(pair[0]), of(pair[1]), Rules.parse({**said, path: "ignore"}), budget=UNBOUNDED)
    assert after.kind == "mismatch" or not after.differences
    assert before.kind == "mismatch" or after.kind != "mismatch" or settles(said)
    if any(how not in ("ignore", "exact") for how in said.values()):
        return  # what a matcher called the same as a whole is named by its parts, and items find other partners
    # A part that an ignored whole lacks is named itself where a stronger rule asks for it: its whole was there.
    assert all(any(d.path.startswith(b.path) for b in before.differences) for d in after.differences)


def settles(said):
    """Whether a rule may call a whole the same, inside which the new one then parts the strong from the weak."""
    return "present" in said.values()


def order_says_nothing(kernel, lists, said, seed, nodes):
    """Under ``unordered`` and ``set``, how the items lie changes neither kind, reason and signature, nor how many."""
    rules = Rules.parse({**said, "$": "unordered"} if seed % 2 else {**said, "$": {"matcher": "set"}})
    old, new = lists
    chance = random.Random(seed)
    budget = Budget(nodes=nodes, seconds=3600)
    first = kernel(of(old), of(new), rules, budget=UNBOUNDED)
    moved = kernel(of(chance.sample(old, len(old))), of(chance.sample(new, len(new))), rules, budget=UNBOUNDED)
    assert seen(first) == seen(moved)
    assert kernel(of(old), of(chance.sample(old, len(old))), rules, budget=budget).kind in ("match", "inconclusive")
    assert kernel(of(old), of(chance.sample(old, len(old))), rules, budget=UNBOUNDED).kind == "match"


def seen(verdict):
    return verdict.kind, verdict.reason, verdict.rule, verdict.signature, len(verdict.differences) + verdict.more


def ignored_is_no_match(kernel, pair):
    """When everything is ignored, what differs is ``ignored`` and only what does not differ is a ``match``."""
    verdict = kernel(of(pair[0]), of(pair[1]), Rules.parse({"$": "ignore"}), budget=UNBOUNDED)
    assert verdict == (
        Verdict(kind="match") if canonical(pair[0]) == canonical(pair[1]) else Verdict(kind="ignored", rule="$")
    )


def differences_add_up(kernel, pair, beside, said):
    """What is a mismatch stays one whatever stands beside it, and what is none never becomes a match."""
    inner = kernel(of(pair[0]), of(pair[1]), Rules.parse({f"$.in{path[1:]}": how for path, how in said.items()}))
    assume(inner.kind != "inconclusive")
    rules = Rules.parse({f"$.in.in{path[1:]}": how for path, how in said.items()})
    old, new = ({"in": {"in": side}, "beside": other} for side, other in zip(pair, beside, strict=True))
    alone = kernel(of({"in": {"in": pair[0]}}), of({"in": {"in": pair[1]}}), rules, budget=UNBOUNDED)
    both = kernel(of(old), of(new), rules, budget=UNBOUNDED)
    strength = ["match", "ignored", "mismatch"]
    assert strength.index(both.kind) >= strength.index(alone.kind)


def signatures_forget_values(kernel, pair, padding):
    """Other values of the same types and another list position keep the signature."""
    old, new = pair
    verdict = kernel(of([old]), of([new]), budget=UNBOUNDED)
    moved = kernel(of([*padding, old]), of([*padding, new]), budget=UNBOUNDED)
    revalued = kernel(of([revalue(old)]), of([revalue(new)]), budget=UNBOUNDED)
    assert verdict.signature == moved.signature == revalued.signature


def revalue(value):
    """Other values, equal where they were equal."""
    if isinstance(value, list):
        return [revalue(item) for item in value]
    if isinstance(value, dict):
        return {name: revalue(member) for name, member in value.items()}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return f"<{value}>"
    return repr_number(value)


def repr_number(value):
    """An integer that stands for a number, the same for both notations of it."""
    if isinstance(value, float) and not value.is_integer():
        return 7 * 10**400 + int.from_bytes(repr(value).encode(), "big")
    return int(value) + 5


def verdicts_travel(kernel, old, new, said):
    """A verdict survives JSON text."""
    verdict = kernel(old, new, Rules.parse(said))
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def decisions_last(kernel, pair, said, nodes, more, ticks):  # noqa: PLR0917 - drawn in this order
    """What is decided within a budget is decided alike within any larger one."""
    small = Budget(nodes=nodes, seconds=ticks, clock=itertools.count().__next__)
    large = Budget(nodes=nodes + more, seconds=ticks + more, clock=itertools.count().__next__)
    first = kernel(of(pair[0]), of(pair[1]), Rules.parse(said), budget=small)
    last = kernel(of(pair[0]), of(pair[1]), Rules.parse(said), budget=large)
    assert first.kind == last.kind or (first.kind, first.reason) == ("inconclusive", "budget")


def redaction_hides_no_difference(kernel, pair, path):
    """Redacting both sides under one key keeps the kind, or says that it cannot tell."""
    redactor = Redactor(b"0123456789abcdef", paths=[path])
    old, new = (redactor.value(side) for side in pair)
    clear = kernel(of(pair[0]), of(pair[1]), budget=UNBOUNDED)
    hidden = kernel(of(old), of(new), budget=UNBOUNDED)
    assert hidden.kind in (clear.kind, "inconclusive") or written_differently(*pair)


def written_differently(old, new):
    """Whether ``1`` and ``1.0`` or ``0.0`` and ``-0.0`` are about: a hash is of the text."""
    return json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True) and canonical(old) == canonical(new)


budgets = st.integers(1, 40)
items = st.recursive(scalars, containers, max_leaves=4) | st.fixed_dictionaries({"id": st.integers(0, 2), "a": scalars})
list_pairs = st.tuples(st.lists(items, max_size=5), st.lists(items, max_size=5))
item_rules = st.dictionaries(
    st.sampled_from(["$[*].a", "$[*].id", "$..a", "$[0]", "$[*][*]"]),
    st.sampled_from(["ignore", "exact", "type", "present", "unordered", {"matcher": "unordered", "key": "id"}]),
    max_size=2,
)
LAWS = {
    order_says_nothing: (list_pairs, item_rules, st.integers(0, 9), st.integers(1, 60)),
    equal_values_match: (values, rules),
    only_equal_values_match: (pairs,),
    sides_are_alike: (outcomes, outcomes, rules, budgets),
    ignoring_finds_no_more: (pairs, rules, paths),
    ignored_is_no_match: (pairs,),
    differences_add_up: (
        pairs,
        pairs,
        plain_rules.map(lambda said: {k: v for k, v in said.items() if k[:6] != "$error"}),
    ),
    signatures_forget_values: (pairs, st.lists(scalars, min_size=1, max_size=3)),
    verdicts_travel: (outcomes, outcomes, rules),
    decisions_last: (pairs, rules, budgets, st.integers(1, 300), st.integers(1, 3)),
    redaction_hides_no_difference: (pairs, st.sampled_from(["$.id", "$.a", "$[0]", "$.*.id", "$[*]"])),
}


def hold(law, kernel, **options):
    @settings(**options)
    @given(st.tuples(*LAWS[law]))
    def check(drawn):
        law(kernel, *drawn)

    check()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_kernel_keeps(law):
    """Each law holds for whatever JSON, rules and budgets Hypothesis finds."""
    hold(law, compare)


def test_long_values_keep_the_laws_of_budgets():
    """Time is looked at every 256 nodes, so monotony and symmetry are tried on values longer than that."""
    long = [{"id": n, "a": [n]} for n in range(400)]
    other = copy.deepcopy(long)
    other[300]["a"] = []
    for nodes, ticks in itertools.product((1, 500, 901, 902, 1200, 5000), (1, 2, 3, 4, 9)):
        decisions_last(compare, (long, other), {}, nodes, 1, ticks)
        decisions_last(compare, (long, other), {"$..a": "ignore"}, nodes, 700, ticks)
        sides_are_alike(compare, of(long), of(other), {}, nodes)


# -- a law that no kernel can break is no law ------------------------------------------------------------------------


def says_match(old, new, *args, **options):
    """Whatever is compared is equal."""
    return Verdict(kind="match")


def uses_python_equality(old, new, *args, **options):
    """``True == 1`` and ``NaN != NaN``."""
    same = old.value == new.value
    return Verdict(kind="match") if same else compare(old, of([new.value]), budget=UNBOUNDED)


def compares_texts(old, new, *args, **options):
    """The order of members and the notation of numbers count."""
    return Verdict(kind="match" if json.dumps(old.value) == json.dumps(new.value) else "mismatch")


def counts_ignored_as_match(old, new, rules=NO_RULES, **options):
    """What Scientist once did."""
    verdict = compare(old, new, rules, **options)
    return Verdict(kind="match") if verdict.kind == "ignored" else verdict


def prefers_the_old(old, new, rules=NO_RULES, **options):
    """Extra members are fine."""
    verdict = compare(old, new, rules, **options)
    return Verdict(kind="match") if {d.kind for d in verdict.differences} == {"extra"} else verdict


def dislikes_rules(old, new, rules=NO_RULES, **options):
    """An ignore rule makes a difference of its own."""
    verdict = compare(old, new, rules, **options)
    ignoring = any(rule.ignores for rule in rules.rules)
    shown = (Difference(path="$", kind="changed"),)
    return Verdict(kind="mismatch", differences=shown, signature="s") if ignoring else verdict


def lets_differences_cancel(old, new, rules=NO_RULES, **options):
    """An even number of differences is none."""
    verdict = compare(old, new, rules, **options)
    return Verdict(kind="match") if len(verdict.differences) % 2 == 0 else verdict


def signs_values(old, new, rules=NO_RULES, **options):
    """The signature is of everything shown."""
    verdict = compare(old, new, rules, **options)
    return Verdict.from_json({**verdict.to_json(), "signature": str(verdict.differences)})


def signs_paths(old, new, rules=NO_RULES, **options):
    """The signature holds list positions."""
    verdict = compare(old, new, rules, **options)
    return Verdict.from_json({**verdict.to_json(), "signature": str([(d.path, d.kind) for d in verdict.differences])})


def loses_a_field(old, new, rules=NO_RULES, **options):
    """A verdict whose count is no JSON integer."""
    verdict = compare(old, new, rules, **options)
    return Verdict(kind=verdict.kind, detail="x", more=True) if verdict.kind == "mismatch" else verdict


def gives_up_on_large_budgets(old, new, rules=NO_RULES, *, budget):
    """More budget, less decided."""
    verdict = compare(old, new, rules, budget=budget)
    return Verdict(kind="inconclusive", reason="budget") if budget.nodes > 100 else verdict


def ignores_marks(old, new, *args, **options):
    """A redacted value is equal to any other."""
    verdict = compare(old, new, *args, **options)
    hidden = all("$redacted" in d.old + d.new for d in verdict.differences)
    return Verdict(kind="match") if hidden and verdict.kind == "mismatch" else verdict


def keeps_positions(old, new, rules=NO_RULES, **options):
    """Items are compared where they lie, whatever the rules say."""
    return compare(old, new, **options)


CATCHES = [
    (order_says_nothing, keeps_positions),
    (equal_values_match, compares_texts),
    (equal_values_match, dislikes_rules),
    (only_equal_values_match, says_match),
    (only_equal_values_match, uses_python_equality),
    (sides_are_alike, prefers_the_old),
    (ignoring_finds_no_more, dislikes_rules),
    (ignored_is_no_match, counts_ignored_as_match),
    (differences_add_up, lets_differences_cancel),
    (signatures_forget_values, signs_values),
    (signatures_forget_values, signs_paths),
    (verdicts_travel, loses_a_field),
    (decisions_last, gives_up_on_large_budgets),
    (redaction_hides_no_difference, ignores_marks),
]


@pytest.mark.parametrize(("law", "kernel"), CATCHES, ids=lambda each: each.__name__)
def test_a_broken_kernel_is_caught(law, kernel):
    """Each law fails for a kernel that breaks it, within as many examples as it is given."""
    with pytest.raises((AssertionError, MalformedEventError)):
        hold(
            law,
            kernel,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            max_examples=500,
            report_multiple_bugs=False,
        )


def test_every_law_has_a_kernel_that_breaks_it():
    """No law is there for show."""
    assert {law for law, _ in CATCHES} == set(LAWS)
