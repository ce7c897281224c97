from __future__ import annotations

import copy
import subprocess
import sys

import pytest

from crossfade.shim.comparison import Difference, Outcome, Rules, Verdict, compare
from crossfade.shim.outcomes import ErrorRecord, record_error


def of(value, **options):
    return Outcome(kind="value", value=value, **options)


def failed(error, **options):
    return Outcome(kind="error", error=record_error(error), **options)


UNKNOWN = Outcome(kind="unknown", reason="lost")
NOT_RUN = Outcome(kind="not-executed", reason="expired")


def found(old, new, said=()):
    return [f"{d.kind} {d.path}" for d in compare(old, new, Rules.parse(dict(said))).differences]


def test_importing_the_kernel_loads_no_model_library():
    """It runs wherever gates and replays do, so it costs the standard library only (wrapt is the shim's own)."""
    code = "import crossfade.shim.comparison, sys; print(sorted({'pydantic', 'nats'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- how calls ended ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [of(None), failed(ValueError("x")), NOT_RUN, UNKNOWN])
def test_nobody_knows_is_no_verdict(other):
    """A side whose outcome is unknown can neither match nor mismatch, whatever the other did."""
    for old, new in ((UNKNOWN, other), (other, UNKNOWN)):
        verdict = compare(old, new)
        assert (verdict.kind, verdict.reason) == ("inconclusive", "unknown")
    assert compare(of(1), UNKNOWN).detail == "lost"


@pytest.mark.parametrize("other", [of(None), failed(ValueError("x")), NOT_RUN])
def test_what_did_not_run_is_skipped(other):
    """A side that provably did not run has nothing to compare."""
    for old, new in ((NOT_RUN, other), (other, NOT_RUN)):
        assert compare(old, new) == Verdict(kind="skipped", reason="not-executed", detail="expired")


def test_an_error_for_a_value_is_a_mismatch():
    """One difference of kind outcome that shows both sides; null is a value, too."""
    verdict = compare(of(None), failed(ValueError("no")))

    assert verdict.kind == "mismatch"
    assert verdict.differences == (Difference(path="$", kind="outcome", old="null", new="ValueError: no"),)
    assert compare(failed(ValueError("no")), of(1)).differences[0].old == "ValueError: no"


@pytest.mark.parametrize("said", [{"$": "ignore"}, {"$error": "ignore"}, {"$": "ignore", "$error..*": "ignore"}])
def test_no_rule_ignores_an_error(said):
    """Ignoring the value or the error's words does not ignore that one side failed."""
    assert compare(of(1), failed(ValueError("x")), Rules.parse(said)).kind == "mismatch"
    assert compare(failed(ValueError("x")), of(1), Rules.parse(said)).kind == "mismatch"


def test_timing_is_carried_and_not_judged():
    """A slow answer is a match."""
    assert compare(of(1, duration=0.001), of(1, duration=100.0)).kind == "match"
    assert compare(failed(OSError("x"), duration=1.0), failed(OSError("x"))).kind == "match"


def test_nothing_is_changed():
    """The outcomes are the record's own objects."""
    old, new = of({"b": [1, {"c": 2}], "a": 1}), of({"a": [2], "b": [1]})
    kept = copy.deepcopy((old, new))

    compare(old, new, Rules.parse({"$.a": "ignore", "$.b[1].c": "exact"}))

    assert (old, new) == kept
    assert list(old.value) == ["b", "a"]


# -- two errors --------------------------------------------------------------------------------------------------------


def test_equal_errors_match_and_say_so():
    """Both failing alike is a match that can be counted apart; traceback and notes are not compared."""
    noted = ValueError("no")
    noted.add_note("of the other side")

    assert compare(failed(ValueError("no")), failed(noted)) == Verdict(kind="match", reason="both-errors")


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        (ValueError("a"), ValueError("b"), ["changed $error.message"]),
        (ValueError("a"), TypeError("a"), ["changed $error.type"]),
        (KeyError("a"), KeyError("b"), ["changed $error.message"]),
        (KeyError("a"), ValueError("'a'"), ["changed $error.args[0]", "changed $error.type"]),
        (OSError(98, "x"), OSError(99, "x"), ["changed $error.args[0]", "changed $error.message"]),
        (ValueError("1"), ValueError(1), ["type $error.args[0]"]),
        (ValueError("x"), ValueError("x", 1), ["extra $error.args[1]", "changed $error.message"]),
        (ValueError("x"), ValueError(), ["missing $error.args[0]", "changed $error.message"]),
    ],
)
def test_errors_differ_by_type_message_and_arguments(old, new, differences):
    """An argument that is the message is not said twice; one that shows more is."""
    assert found(failed(old), failed(new)) == differences


def test_one_ignored_message_is_enough():
    """An id in the message, which is also the argument, takes one rule."""
    for old, new in ((ValueError("job 1"), ValueError("job 2")), (KeyError("job 1"), KeyError("job 2"))):
        verdict = compare(failed(old), failed(new), Rules.parse({"$error.message": "ignore"}))
        assert (verdict.kind, verdict.rule) == ("ignored", "$error.message")


def test_an_argument_is_left_out_only_where_both_messages_repeat_theirs():
    """Else equal messages would hide other arguments."""
    quoted = ErrorRecord(type="E", message="'x'", args=("x",))
    plain = ErrorRecord(type="E", message="'x'", args=("'x'",))

    assert found(Outcome(kind="error", error=quoted), Outcome(kind="error", error=plain)) == ["changed $error.args[0]"]


def test_rules_of_values_do_not_reach_errors():
    """``$.message`` is a member of a value."""
    old, new = failed(ValueError("a")), failed(ValueError("b"))

    assert found(old, new, {"$.message": "ignore", "$": "ignore"}) == ["changed $error.message"]
    assert found(of({"message": 1}), of({"message": 2}), {"$error": "ignore"}) == ["changed $.message"]


def test_redacted_words_of_an_error_cannot_be_told():
    """A message that was too long to be searched is equal to nothing."""
    error = Outcome(kind="error", error=ErrorRecord(type="E", message="[redacted:limit]"))

    assert compare(error, copy.deepcopy(error)).reason == "redacted"


# -- the user's word ---------------------------------------------------------------------------------------------------


def asked(answer, old, new, said=()):
    return compare(old, new, Rules.parse(dict(said)), comparator=lambda one, other: answer)


def test_a_comparator_sees_outcomes_with_timing():
    """Not bare values: it may judge what the kernel only carries."""
    seen = []
    old, new = of(1, duration=0.1), of(2, duration=9.0)

    verdict = compare(old, new, comparator=lambda one, other: seen.append((one, other)) or other.duration < 1)

    assert seen == [(old, new)]
    assert verdict.kind == "mismatch"


def test_a_comparator_may_accept_a_difference():
    """It is a match by its word, and says so."""
    assert asked(True, of(1), of(2)) == Verdict(kind="match", rule="comparator")
    assert asked(True, of({"$redacted": "a" * 32}), of(2)).kind == "match"


def test_a_comparator_does_not_take_the_credit_of_the_rules():
    """Equal is equal, and ignored stays counted apart."""
    assert asked(True, of(1), of(1)) == Verdict(kind="match")
    assert asked(True, of({"a": 1}), of({"a": 2}), {"$.a": "ignore"}) == Verdict(kind="ignored", rule="$.a")


def test_a_comparator_may_refuse():
    """The differences are shown where there are some, else the whole; the signature never lacks."""
    shown = asked(False, of({"a": 1}), of({"a": 2}))
    assert (shown.kind, shown.rule, shown.differences[0].path) == ("mismatch", "comparator", "$.a")
    assert shown.signature == compare(of({"a": 1}), of({"a": 2})).signature

    whole = asked(False, of([1]), of([1]))
    assert whole.differences == (Difference(path="$", kind="changed", old="[1]", new="[1]"),)
    assert whole.signature == asked(False, of("x"), of("x")).signature != ""


def test_a_comparator_may_give_a_whole_verdict():
    """It is passed on as it is."""
    verdict = Verdict(kind="ignored", rule="weekend", detail="no data")

    assert asked(verdict, of(1), of(2)) is verdict


def broken(old, new):
    raise ZeroDivisionError("by 0")


def invents(old, new):
    return Verdict(kind="equal")


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError


def unprintable(old, new):
    raise UnprintableError


@pytest.mark.parametrize(
    ("comparator", "detail"),
    [
        (broken, "raised ZeroDivisionError: by 0"),
        (unprintable, "raised UnprintableError: <unprintable: RuntimeError>"),
        (invents, "raised ValueError: 'equal' is no verdict"),
        (lambda old, new: None, "answered NoneType, not a bool or a Verdict"),
        (lambda old, new: 1, "answered int, not a bool or a Verdict"),
        (lambda old, new: {}["x" * 1000], "raised KeyError: 'xxx"),
    ],
)
@pytest.mark.parametrize("new", [1, 2])
def test_a_broken_comparator_measures_nothing(comparator, detail, new):
    """Equal or not, what it failed to judge is neither a match nor a mismatch; the cause is told, shortened."""
    verdict = compare(of(1), of(new), comparator=comparator)

    assert (verdict.kind, verdict.reason) == ("inconclusive", "comparator")
    assert verdict.detail.startswith(detail)
    assert len(verdict.detail) <= 200


def test_a_comparator_cannot_catch_an_interrupt():
    """Ctrl-C and a cancelled task go through."""

    def interrupted(old, new):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(of(1), of(1), comparator=interrupted)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (of(1), failed(ValueError("x")), "mismatch"),
        (failed(ValueError("x")), of(None), "mismatch"),
        (failed(ValueError("x")), failed(ValueError("y")), "mismatch"),
        (failed(ValueError("x")), failed(ValueError("x")), "match"),
        (of(1), UNKNOWN, "inconclusive"),
        (NOT_RUN, of(1), "skipped"),
    ],
)
def test_a_comparator_has_no_say_in_how_calls_end(old, new, kind):
    """``old.value == new.value`` is true of two different errors, so it is not asked about them."""
    verdict = compare(old, new, comparator=lambda one, other: pytest.fail("asked"))

    assert verdict.kind == kind


def test_a_comparator_that_changes_what_it_sees_changes_no_difference():
    """The differences were found before it was asked."""

    def meddling(old, new):
        new.value.clear()
        return False

    assert compare(of({"a": 1, "b": 2}), of({"a": 2, "b": 2}), comparator=meddling).differences[0].path == "$.a"
