from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison import MISSING
from crossfade.shim.comparison.rendering import cut, shorten, shorten_error
from crossfade.shim.outcomes import ErrorRecord

small = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@given(small)
def test_small_values_are_json(value):
    """What is short enough is shown whole, as it was on the wire."""
    shown = shorten(value)

    assert "…" in shown or json.loads(shown) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (MISSING, ""),
        (None, "null"),
        ("é\n", '"é\\n"'),
        (float("nan"), "NaN"),
        ([[[]]], "[[[]]]"),
        ([[[1]]], "[[[1]]]"),
        ([[[[1]]]], "[[[[…]]]]"),
        ({"a": {"b": {"c": {"d": 1}}}}, '{"a": {"b": {"c": {…}}}}'),
        (list(range(8)), "[0, 1, 2, 3, 4, 5, 6, 7]"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        ({"a": [1], "b": b"x"}, '{"a": [1], "b": a Python bytes}'),
        (1 << 1023, str(1 << 1023)[:199] + "…"),
        (1 << 1024, "an integer of 1025 bits"),
        pytest.param(-(10**5000), "an integer of 16610 bits", id="5001 digits"),
    ],
)
def test_values_as_people_see_them(value, shown):
    """Three levels, eight of each; what Python refuses to write is described."""
    assert shorten(value) == shown


@given(st.integers(198, 300))
def test_no_rendering_is_longer_than_its_limit(length):
    """200 characters at most, and what fits is not cut."""
    assert len(shorten("x" * length)) == min(length + 2, 200)
    assert cut("x" * length) == ("x" * length if length <= 200 else "x" * 199 + "…")


def test_a_huge_value_costs_no_more_than_a_large_one():
    """Neither depth nor width is walked: this would overflow the stack or take seconds."""
    deep = 1
    for _ in range(10_000):
        deep = [deep, "x" * 10_000]

    assert shorten(deep).startswith('[[[[…], "xxx')
    assert shorten([deep] * 1_000_000).endswith("…")


def test_an_error_is_its_type_and_message():
    """Cut like everything."""
    assert shorten_error(ErrorRecord(type="ValueError", message="no")) == "ValueError: no"
    assert len(shorten_error(ErrorRecord(type="ValueError", message="x" * 10_000))) == 200
    assert shorten_error(None) == ""
