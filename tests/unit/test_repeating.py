"""Runs of what answers otherwise each time: most decide, structure is exact, and two variances are told apart."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison import Outcome, Rules, Verdict, compare, semantic
from crossfade.shim.judging import Recorded
from crossfade.shim.repeating import judge_runs, majority

KINDS = ("match", "mismatch", "ignored", "skipped", "inconclusive")
RULES = {"$.text": {"matcher": "semantic", "by": "asked"}}
SAME = {"tool": "search", "arguments": {"q": "tigers", "limit": 3}, "text": "Tigers are striped"}


@pytest.fixture
def comparator(monkeypatch):
    """Installs a comparator of texts."""

    def install(function):
        monkeypatch.setattr(semantic, "_installed", lambda: {"asked": lambda: function})

    return install


def judged(*answers, legacy=SAME, rules=RULES, lost=0):
    """What runs with these ``answers`` amount to."""

    def judge(old, new, by, *, asks):
        return compare(old.outcome, new, by)

    recorded = Recorded(arguments=b"{}", outcome=Outcome(kind="value", value=legacy), policy_revision=1)
    ended = [Outcome(kind="value", value=answer) for answer in answers]
    late = [Verdict(kind="inconclusive", reason="timeout")] * lost
    return judge_runs(recorded, ended, Rules.parse(rules), judge, redaction="", lost=late)


def verdicts(*kinds):
    return [Verdict(kind=kind) for kind in kinds]


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=9), st.randoms())
def test_the_order_of_runs_says_nothing(kinds, random):
    """Nor does what only most of them say turn when one more says the same."""
    found = majority(verdicts(*kinds))
    shuffled = list(kinds)
    random.shuffle(shuffled)
    agrees = found.kind in ("match", "ignored")
    assert (majority(verdicts(*shuffled)).kind in ("match", "ignored")) == agrees
    assert agrees == (2 * sum(kind in ("match", "ignored") for kind in kinds) > len(kinds))
    if agrees:
        assert majority(verdicts(*kinds, "match")).kind in ("match", "ignored")


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (["match", "match", "mismatch"], "match"),
        (["match", "mismatch", "mismatch"], "mismatch"),
        (["match", "mismatch"], "mismatch"),  # one of two is not to be relied on
        (["match", "mismatch", "inconclusive"], "inconclusive"),
        (["match", "match", "inconclusive"], "match"),
        (["inconclusive", "inconclusive", "match"], "inconclusive"),
    ],
)
def test_most_runs_decide(kinds, kind):
    """Runs that are not decided count for neither side."""
    assert majority(verdicts(*kinds)).kind == kind


def test_the_wrong_tool_is_no_match_however_alike_the_texts(comparator):
    """Which tool, its arguments and their order are exact; a comparator that accepts every text changes nothing."""
    comparator(lambda old, new, options: True)
    wrong = [
        {**SAME, "tool": "delete", "text": "a"},
        {**SAME, "arguments": {"q": "tigers", "limit": 4}, "text": "b"},
        {key: SAME[key] for key in ("tool", "text")},
    ]
    verdict, repeats = judged(*wrong)
    assert verdict.kind == "mismatch"
    assert (repeats.runs, repeats.matched, repeats.structure) == (3, 0, 0)


def test_a_text_that_is_refused_leaves_the_structure_right(comparator):
    """The same tool with the same arguments in words that the comparator does not accept: a mismatch by it alone."""
    comparator(lambda old, new, options: False)
    verdict, repeats = judged(*({**SAME, "text": str(n)} for n in range(3)))
    assert verdict.kind == "mismatch"
    assert (repeats.matched, repeats.structure, repeats.asked) == (0, 3, 3)


def test_a_match_says_that_it_rests_on_a_comparator(comparator):
    """Of the runs that decide, every one's word is remembered; equal texts are nobody's word."""
    comparator(lambda old, new, options: True)
    verdict, repeats = judged(SAME, {**SAME, "text": "Stripes: tigers"}, {**SAME, "text": "Stripes"})
    assert (verdict.kind, verdict.judged) == ("match", "$.text")
    assert (repeats.matched, repeats.structure, repeats.asked, repeats.flipped) == (3, 3, 2, 0)
    assert judged(SAME, SAME)[0].judged == ""


def test_the_answers_variance_is_not_the_comparators(comparator):
    """A model that says three things under a steady comparator, and one that says one under a fickle comparator."""
    comparator(lambda old, new, options: True)
    steady = judged(*({**SAME, "text": str(n)} for n in range(3)))[1]
    assert (steady.pairs, steady.varied, steady.asked, steady.flipped) == (2, 2, 3, 0)

    moods = itertools.cycle([True, True, True, False])
    comparator(lambda old, new, options: next(moods))
    fickle = judged(*[{**SAME, "text": "other"}] * 3)[1]
    assert (fickle.pairs, fickle.varied, fickle.asked, fickle.flipped) == (2, 0, 3, 1)


def test_a_run_that_took_too_long_is_counted_and_judged_by_nobody(comparator):
    """Two good ones of three still decide; one of two does not."""
    comparator(lambda old, new, options: True)
    assert judged(SAME, SAME, lost=1)[0].kind == "match"
    verdict, repeats = judged(SAME, lost=1)
    assert (verdict.kind, verdict.reason, repeats.runs) == ("inconclusive", "timeout", 2)
