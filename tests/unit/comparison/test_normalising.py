from __future__ import annotations

import pytest

from crossfade.shim.comparison import Budget, Outcome, Rules, compare
from crossfade.shim.comparison.normalising import STEPS, normalised


def judge(old, new, *steps, matcher="exact", more=None, **options):
    rules = Rules.parse({"$": {"matcher": matcher, "normalise": list(steps)}, **(more or {})})
    return compare(Outcome(kind="value", value=old), Outcome(kind="value", value=new), rules, **options)


@pytest.mark.parametrize(
    ("step", "value", "made"),
    [
        ("strip", " a b\n", "a b"),
        ("collapse", " a \n\t b ", "a b"),
        ("casefold", "Straße", "strasse"),
        ("json", ' {"a": [1]}', {"a": [1]}),
        ("json", "[1", "[1"),
        ("json", "[" * 100_000, "[" * 100_000),
        ("json", "1", "1"),
        ("join", ["to", "ken"], "token"),
        ("join", [], ""),
        ("join", ["a", 1], ["a", 1]),
        ("strip", 5, 5),
        ("join", {"a": 1}, {"a": 1}),
    ],
)
def test_each_step_does_one_thing(step, value, made):
    """What it does not fit stays as it is."""
    assert normalised(value, (step,)) == made


def test_steps_are_done_in_order():
    """A text is joined before it is read as JSON."""
    assert normalised(['{"a"', ": 1}"], ("join", "json")) == {"a": 1}
    assert normalised(['{"a"', ": 1}"], ("json", "join")) == '{"a": 1}'


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        ({"a": "X "}, {"a": "x"}, ["strip", "casefold"]),
        (["to", "ken"], ["tok", "en"], ["join"]),
        ('{"a": 1}', '{ "a" : 1.0 }', ["json"]),
        ('{"a": 1}', {"a": 1}, ["json"]),
    ],
)
def test_what_is_alike_after_it_matches(old, new, steps):
    """At the rule's place and below; without it, it does not."""
    assert judge(old, new, *steps).kind == "match"
    assert judge(old, new, "strip").kind == ("mismatch" if steps != ["strip"] else "match")


def test_rules_reach_into_json_in_a_text():
    """The members of what was read have paths."""
    old, new = '{"at": 1, "n": 1}', '{"n": 2, "at": 2}'

    verdict = judge(old, new, "json", more={"$.at": "ignore"})

    assert [(d.path, d.old, d.new) for d in verdict.differences] == [("$.n", "1", "2")]


def test_a_matcher_judges_what_was_made_of_it():
    """The steps come first, whatever the matcher is."""
    rules = {"$": {"matcher": "regex", "pattern": "job-[0-9]+", "normalise": ["join", "strip"]}}
    old, new = (Outcome(kind="value", value=value) for value in (["job", "-1 "], ["job-2"]))

    assert compare(old, new, Rules.parse(rules)).kind == "match"


@pytest.mark.parametrize("hidden", ["[redacted:limit]", {"$redacted": "a" * 32}])
def test_what_is_hidden_stays_undecided(hidden):
    """No step makes a mark look like a value."""
    assert judge({"a": hidden}, {"a": "x"}, *STEPS).kind == "inconclusive"
    assert judge('{"a": "[redacted:limit]"}', '{"a": "[redacted:limit]" }', "json").reason == "redacted"


def test_long_texts_are_paid_for():
    """What a step looks through counts against the budget, so that it is bounded as everything is."""
    text = "x" * 256 * 100

    assert judge([text], [text + " "], "strip", budget=Budget(nodes=150)).reason == "budget"
    assert judge([text], [text + " "], "strip", budget=Budget(nodes=250)).kind == "match"
