from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison import Budget, Outcome, Rules, compare_streams
from crossfade.shim.outcomes import ErrorRecord

NO, OTHER = (ErrorRecord(type="ValueError", message=text) for text in ("no", "other"))
JOINED = {"$": {"matcher": "exact", "normalise": "join"}}


def judge(old, new, said=(), *, ends=(None, None), **options):
    sides = [stream(items, error) for items, error in zip((old, new), ends, strict=True)]
    return compare_streams(*sides, Rules.parse(dict(said)), **options)


def stream(items, error=None, *, closed=False):
    return Outcome(kind="error" if error else "value", items=tuple(items), error=error, closed=closed)


def found(*args, **options):
    return [f"{d.kind} {d.path}" for d in judge(*args, **options).differences]


def test_items_are_compared_in_order():
    """One more, one less and one that differs each have their place."""
    assert judge([1, {"a": 2}], [1.0, {"a": 2}]).kind == "match"
    assert found([1, {"a": 2}], [1, {"a": 3}, 4]) == ["changed $[1].a", "extra $[2]"]
    assert found(["a", "b"], ["b", "a"]) == ["changed $[0]", "changed $[1]"]
    assert judge([{"at": 1}], [{"at": 2}], {"$[*].at": "ignore"}).rule == "$[*].at"


def test_what_is_only_missing_or_extra_does_not_make_all_behind_it_differ():
    """One place per item of the run, however long the stream; the signature is that of one lost at the end."""
    long = [{"n": n, "at": n} for n in range(30)]
    assert found(long, long[:2] + long[3:]) == ["missing $[2]"]
    assert found(long[:2] + long[4:], long) == ["extra $[2]", "extra $[3]"]
    assert judge(long, long[1:]).signature == judge(long, long[:-1]).signature
    later = [{**item, "at": 99} for item in long]
    assert found(long, later[:2] + later[3:], {"$[*].at": "ignore"}) == ["missing $[2]"]
    assert len(found(long, [])) + judge(long, []).more == 30


def test_two_faults_are_told_by_place_and_in_words():
    """Where no single run explains them: the first place that differs, and how many there were."""
    verdict = judge([1, 2, 3, 4], [1, 9, 4])
    assert verdict.differences[0].path == "$[1]"
    assert verdict.detail == "legacy yielded 4 items, the other side 3"
    assert judge([1, 2, 3], [1, 3, 2]).detail == "the same items from $[1] on, in another order"
    assert judge([1, 2, 3, 4], [4, 1, 9], {"$": "unordered"}).detail == "", "places say nothing here"


def test_of_a_stream_closed_early_what_was_taken_is_compared():
    """What the other would have said after that, and how it would have ended, is nobody's question."""
    two = stream([1, 2], closed=True)
    assert compare_streams(two, stream([1, 2, 3])).kind == "match"
    assert compare_streams(two, stream([1, 2], NO)).kind == "match"
    assert [d.path for d in compare_streams(two, stream([1, 3, 2])).differences] == ["$[1]"]
    assert [f"{d.kind} {d.path}" for d in compare_streams(two, stream([1])).differences] == ["missing $[1]"]
    assert [d.kind for d in compare_streams(two, stream([1], NO)).differences] == ["missing", "outcome"]


def test_a_comparator_sees_the_items_of_streams_that_ended_well():
    """As a list, in the place of a value; one that raised is not its question."""
    same = lambda old, new: sorted(old.value) == sorted(new.value)  # noqa: E731
    assert compare_streams(stream([1, 2]), stream([2, 1]), comparator=same).rule == "comparator"
    never = lambda _old, _new: False  # noqa: E731
    assert compare_streams(stream([1]), stream([1]), comparator=never).kind == "mismatch"
    assert compare_streams(stream([1], NO), stream([1], NO), comparator=never).kind == "match"


def test_where_a_text_was_cut_says_nothing_when_joined():
    """A model's tokens come in pieces of any size; another text is one difference, not one for each piece."""
    assert judge(["to", "ken", "s"], ["tok", "ens", ""], JOINED).kind == "match"
    assert judge([], [""], JOINED).kind == "match"
    assert found(["to", "ken"], ["tokens"], JOINED) == ["changed $"]
    assert judge(["to", "ken"], ["tok", "en"]).kind == "mismatch"


def test_the_error_at_the_end_counts():
    """Equal items do not make up for another end, nor rules for one that only one side has."""
    assert judge([1], [1], ends=(NO, NO)).kind == "match"
    assert found([1], [1], ends=(NO, OTHER)) == ["changed $error.message"]
    assert judge([1], [1], {"$error.message": "ignore"}, ends=(NO, OTHER)).rule == "$error.message"
    for ends in ((NO, None), (None, NO)):
        assert found([1], [1], {"$": "ignore", "$error": "ignore"}, ends=ends) == ["outcome $"]


def test_both_kinds_of_difference_are_kept():
    """Items first; the signature is of both."""
    both = judge([1], [2], ends=(NO, None))

    assert [d.path for d in both.differences] == ["$[0]", "$"]
    alone = judge([1], [2]), judge([1], [1], ends=(NO, None))
    assert len({both.signature, *(verdict.signature for verdict in alone)}) == 3


def test_every_rule_that_ignored_is_named():
    """Of items and of errors, in one order."""
    said = {"$[*].at": "ignore", "$error.message": "ignore"}

    assert judge([{"at": 1}], [{"at": 2}], said, ends=(NO, OTHER)).rule == "$[*].at, $error.message"


def test_a_budget_that_ends_is_no_match():
    """Equal ends do not hide that the items were not all seen."""
    assert judge([1] * 50, [1.0] * 50, budget=Budget(nodes=5)).reason == "budget"


items = st.lists(st.sampled_from(["", "a", "ab", 1, None]), max_size=4)
ends = st.sampled_from([None, NO, OTHER])


@given(items, items, ends, ends)
def test_sides_are_alike_and_equal_streams_match(old, new, was, now):
    """Swapping changes nothing but names; a stream matches itself."""
    there, back = judge(old, new, ends=(was, now)), judge(new, old, ends=(now, was))

    assert (there.kind, there.reason, there.more, len(there.differences)) == (
        back.kind,
        back.reason,
        back.more,
        len(back.differences),
    )
    assert judge(old, list(old), ends=(was, was)).kind == "match"


@given(st.lists(st.text("ab", max_size=2), max_size=5), st.data())
def test_any_cut_of_a_text_is_the_same_text(pieces, data):
    """Joined, the law of streams is that of the texts."""
    text = "".join(pieces)
    at = data.draw(st.integers(0, len(text)))

    assert judge(pieces, [text[:at], text[at:]], JOINED).kind == "match"


@pytest.mark.parametrize("hidden", [{"$redacted": "a" * 32}, "[redacted:limit]"])
def test_what_is_hidden_is_undecided(hidden):
    """As in any value."""
    assert judge([hidden], ["clear"]).kind == "inconclusive"
