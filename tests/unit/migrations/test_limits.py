"""What gates and abort rules say of one number."""

from __future__ import annotations

import re

import pytest

from crossfade.migrations.limits import Limit, parse_duration, parse_limit
from crossfade.shim import ConfigurationError


@pytest.mark.parametrize(
    ("text", "limit", "at"),
    [
        ("> 0.02", Limit(">", 0.02), 0.02),
        (">2%", Limit(">", 0.02), 0.02),
        ("> legacy", Limit(">", 0.0, legacy=True), 0.1),
        ("> legacy + 1%", Limit(">", 0.01, legacy=True), 0.11),
        ("> legacy*1.5", Limit(">", 0.0, legacy=True, factor=1.5), 0.15),
        ("> legacy + 50 ms", Limit(">", 0.05, legacy=True), 0.15),
        ("> 1.5s", Limit(">", 1.5), 1.5),
    ],
)
def test_a_limit_is_read_and_knows_its_number(text, limit, at):
    """Where legacy's is 0.1."""
    found = parse_limit(text, signs=(">",), kind="time" if text.endswith("s") else "share", where="abort.errors")
    assert found == limit
    assert found.of(0.1) == pytest.approx(at)


@pytest.mark.parametrize(
    "text", ["0.9", "> ", "> legacy +", "> legacy 3", "> bus", "== 1", "> 1 apple", 0.9, None, ">= 1"]
)
def test_what_is_no_limit_is_refused_where_it_stands(text):
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match=r"abort\.errors: .*write > and a number") as caught:
        parse_limit(text, signs=(">",), kind="share", where="abort.errors")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("time", "< 80", "says no unit of time: write < and a time, like < 80ms"),
        ("time", "< legacy + 20", "says no unit of time"),
        ("time", "< 5%", "is a share where a time is meant"),
        ("time", "< legacy * 2s", "is a time where a share is meant"),
        ("share", "< 80ms", "is a time where a share is meant: write < and a number"),
        ("share", "< 99", "is above 1, which is all calls: write < and a number, like < 0.99, < 99%"),
        ("share", "< legacy + 5", "is above 1"),
    ],
)
def test_a_number_whose_unit_would_be_a_guess_is_refused(kind, text, why):
    """80 may be meant in milliseconds: taken for seconds it would be a gate that lets everything through."""
    with pytest.raises(ConfigurationError, match=re.escape(f"p99: {text!r} {why}")):
        parse_limit(text, signs=("<",), kind=kind, where="p99")


@pytest.mark.parametrize("text", ["< legacy * 5", "< legacy * 150%", "< 0", "< legacy + 2s"])
def test_a_factor_has_no_unit_and_nothing_needs_none(text):
    """A time that is a multiple of legacy's, or zero, or longer by seconds."""
    assert parse_limit(text, signs=("<",), kind="time", where="p99")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("7d", 604_800), ("250ms", 0.25)]
)
def test_a_time_is_read(text, seconds):
    """In seconds."""
    assert parse_duration(text, where="gate.hold") == seconds


@pytest.mark.parametrize("text", ["soon", "-5s", "5%", "", True, -1, [1], 30])
def test_what_is_no_time_is_refused(text):
    """Where it stands."""
    with pytest.raises(ConfigurationError, match=r"gate\.hold: .*write 90s"):
        parse_duration(text, where="gate.hold")


@pytest.mark.parametrize(("text", "meant"), [("5", "5m"), ("1.5", "1.5m"), ("0", "0m")])
def test_a_time_without_a_unit_is_refused_with_what_was_meant(text, meant):
    """Five of what? Seconds were taken, where whoever wrote it meant minutes: a gate that opens at once."""
    with pytest.raises(ConfigurationError, match=rf"says no unit of time: did you mean {re.escape(meant)}\?"):
        parse_duration(text, where="gate.hold")
