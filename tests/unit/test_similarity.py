"""The comparator that crossfade brings: texts by their words, never by what they mean."""

from __future__ import annotations

import builtins
import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.similarity import score
from crossfade.shim.comparison import Outcome, Rules, compare
from crossfade.shim.errors import ConfigurationError, MissingExtraError


@given(st.text(), st.text())
def test_it_is_a_comparator(old, new):
    """A score from 0 to 1, the same with the texts swapped, and 1 of equal ones."""
    assert 0 <= score(old, new, {}) == score(new, old, {}) <= 1
    assert score(old, old, {}) == 1


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("Tigers are striped.", "tigers  are STRIPED", True),
        ("The tiger, striped, hunts at night.", "At night hunts the striped tiger", True),
        ("It costs 1,200 in 2024", "It costs 1,300 in 2024", False),
        ("Python was released in 1991", "Bread is baked from flour and water", False),
        ("!", "?", False),
        ("", "a", False),
    ],
)
def test_words_count_and_numbers_must_agree(old, new, alike):
    """Order, case and punctuation say nothing; a number that differs is another fact."""
    assert (score(old, new, {}) >= 0.8) == alike


def test_words_to_keep_are_in_both_texts_or_in_none():
    """By its letters alone a negation is hardly a difference."""
    yes, no = "The order was delivered to the customer", "The order was not delivered to the customer"
    assert score(yes, no, {}) > 0.9
    assert score(yes, no, {"keep": ["Not", "never"]}) == 0


def test_a_rule_finds_it_by_its_entry_point():
    """Installed with crossfade, as any package's comparator is found; its word is on the verdict."""
    rules = Rules.parse({"$.text": {"matcher": "semantic", "by": "similarity", "at_least": 0.7, "keep": ["not"]}})
    sides = [{"tool": "fetch", "text": text} for text in ("Tigers are striped", "Tigers, they are striped")]
    verdict = compare(*(Outcome(kind="value", value=side) for side in sides), rules)
    assert (verdict.kind, verdict.judged) == ("match", "$.text")


@pytest.mark.parametrize("options", [{"kepe": ["not"]}, {"keep": "not"}, {"keep": [1]}])
def test_an_option_it_does_not_know_measures_nothing(options):
    """Never a guess: the comparison is inconclusive, and says by what."""
    with pytest.raises(ConfigurationError, match="keep"):
        score("a", "b", options)
    rules = Rules.parse({"$": {"matcher": "semantic", "by": "similarity", **options}})
    assert compare(*(Outcome(kind="value", value=text) for text in "ab"), rules).reason == "matcher"


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    """The command, not an import error."""
    real = builtins.__import__

    def absent(name, *rest, **options):
        if name.startswith("rapidfuzz"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.delitem(sys.modules, "crossfade.adapters.similarity")
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"crossfade\[similarity\]"):
        importlib.import_module("crossfade.adapters.similarity")
