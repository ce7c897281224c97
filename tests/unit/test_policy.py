"""A policy is valid when built, and overriding it changes what was named and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.errors import ConfigurationError, CrossfadeError
from crossfade.shim.policy import Policy
from crossfade.shim.stages import ORDER

changes = st.fixed_dictionaries(
    {},
    optional={
        "stage": st.sampled_from([stage.value for stage in ORDER]),
        "effects": st.sampled_from(["none", "idempotent", "unsafe"]),
        "timeout": st.floats(0.01, 86_400) | st.integers(1, 86_400),
        "fallback": st.sampled_from(["legacy", "raise"]),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(changes)
def test_overriding_twice_is_overriding_once(settings):
    """Idempotent."""
    once = Policy().override(settings, where="x")
    assert once.override(settings, where="x") == once


@given(changes, changes)
def test_what_is_not_named_stays(first, second):
    """The later override wins for what it names; the rest is the earlier's."""
    both = Policy().override(first, where="x").override(second, where="y")
    assert both == Policy().override({**first, **second}, where="z")


@given(st.dictionaries(st.sampled_from(["stage", "effects", "timeout", "fallback", "typo", ""]), anything))
def test_whatever_a_file_holds_is_accepted_or_refused_by_place(settings):
    """Never another exception; the place is in the error."""
    try:
        policy = Policy().override(settings, where="crossfade.toml: x")
    except CrossfadeError as error:
        assert str(error).startswith("crossfade.toml: x")  # noqa: PT017 - or no error
    else:
        assert policy == replace(policy)


@pytest.mark.parametrize("timeout", [0, -1, 0.009, 86_401, math.nan, math.inf, 10**400, True, "30", None])
def test_a_timeout_out_of_range_is_refused(timeout):
    """Also what no float can hold."""
    with pytest.raises(ConfigurationError, match="timeout"):
        Policy(timeout=timeout)


@pytest.mark.parametrize(("name", "value"), [("effects", "nnone"), ("fallback", "maybe"), ("effects", ["none"])])
def test_unknown_words_are_refused(name, value):
    """A typing error in ``effects`` must not pass for a promise."""
    with pytest.raises(ConfigurationError, match=name):
        Policy(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise", -0.01),
        ("noise", 1.01),
        ("noise", True),
        ("repeat", 0),
        ("repeat", 10),
        ("repeat", 2.5),
        ("repeat", "3"),
    ],
)
def test_runs_beyond_the_first_have_bounds(name, value):
    """A share of calls, and a whole number of runs that somebody pays for."""
    with pytest.raises(ConfigurationError, match=name):
        Policy(**{name: value})


def test_a_setting_nobody_knows_is_refused_with_those_that_are():
    """A typing error in a file is said, with its place."""
    with pytest.raises(ConfigurationError, match=r"crossfade.toml: x.tiemout: unknown setting; .*timeout"):
        Policy().override({"tiemout": 3}, where="crossfade.toml: x")


def test_a_file_cannot_set_the_revision():
    """It counts live changes."""
    with pytest.raises(ConfigurationError, match="revision"):
        Policy().override({"revision": 7}, where="x")


def test_undeclared_effects_are_unsafe():
    """The default never lets a call run twice."""
    assert Policy().effects == "unsafe"
    assert Policy().stage == "legacy"
