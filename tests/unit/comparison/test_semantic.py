from __future__ import annotations

import pytest

from crossfade.shim.comparison import WELL_FORMED, Outcome, Rules, compare, semantic
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.policy import Policy


def shared_words(old, new, options):
    one, other = (set(text.split()) - set(options.get("without", [])) for text in (old, new))
    return len(one & other) / max(1, len(one | other))


@pytest.fixture
def installed(monkeypatch):
    """Comparators as packages would bring them."""
    found = {
        "words": lambda: shared_words,
        "always": lambda: lambda old, new, options: True,
        "never": lambda: lambda old, new, options: False,
        "loud": lambda: lambda old, new, options: 11,
        "broken": lambda: 1 / 0,
    }
    monkeypatch.setattr(semantic, "_installed", lambda: found)


def judge(old, new, **options):
    rules = Rules.parse({"$.text": {"matcher": "semantic", **options}})
    return compare(*(Outcome(kind="value", value={"text": text}) for text in (old, new)), rules)


@pytest.mark.usefixtures("installed")
def test_a_comparators_word_or_score_decides():
    """``True`` or a score of 0.8 unless the rule says otherwise; its other options reach the comparator."""
    assert judge("a", "b", by="always").kind == "match"
    assert judge("a", "b", by="never").kind == "mismatch"
    assert judge("a b c d e", "a b c d e f", by="words").kind == "match"
    assert judge("a b c d", "a b x y", by="words").kind == "mismatch"
    assert judge("a b c d", "a b x y", by="words", at_least=0.3).kind == "match"
    assert judge("a b c d", "a b x y", by="words", without=["c", "d", "x", "y"]).kind == "match"


@pytest.mark.usefixtures("installed")
def test_it_is_asked_about_texts_alone():
    """Another type, and what is missing, are differences as anywhere."""
    assert judge("a", 1, by="always").kind == "mismatch"
    assert judge(None, 1, by="always").kind == "mismatch"


@pytest.mark.usefixtures("installed")
def test_an_answer_that_is_none_measures_nothing():
    """Neither match nor mismatch."""
    assert judge("a", "b", by="loud").reason == "matcher"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, r'^compare\."\$\.text"\.by: must be the name of a comparator'),
        ({"by": "words", "at_least": 2}, r"\.at_least: 2 is no number that is between 0 and 1"),
        (
            {"by": "wrods"},
            r"\.by: no comparator 'wrods'; installed are always, broken, loud, never, words: install a package",
        ),
        ({"by": "broken"}, r"\.by: the comparator 'broken' cannot be loaded: ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_comparator_that_is_not_there_is_said_before_anything_is_compared(options, error):
    """With what to install where."""
    with pytest.raises(ConfigurationError, match=error):
        judge("a", "b", **options)


def test_who_only_keeps_rules_needs_no_comparator():
    """A caller's policy may name what only workers have: a rollback must reach callers, too."""
    said = {"$.text": {"matcher": "semantic", "by": "nobody-has-it"}}

    assert Policy(compare=said).compare == said
    with pytest.raises(ConfigurationError, match="no comparator 'nobody-has-it'; installed are similarity"):
        Rules.parse(said)
    kept = Rules.parse(said, matchers=WELL_FORMED)
    sides = [Outcome(kind="value", value={"text": text}) for text in "ab"]
    assert compare(*sides, kept).reason == "matcher"


def test_a_comparator_of_an_installed_package_is_found(tmp_path, monkeypatch):
    """By its entry point, as any package would bring it."""
    folder = tmp_path / "words-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: words\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[crossfade.comparators]\nlength = words_of_a_test:length\n")
    (tmp_path / "words_of_a_test.py").write_text("def length(old, new, options):\n    return len(old) == len(new)\n")
    monkeypatch.syspath_prepend(tmp_path)
    semantic._installed.cache_clear()
    try:
        assert judge("ab", "cd", by="length").kind == "match"
        assert judge("ab", "c", by="length").kind == "mismatch"
    finally:
        semantic._installed.cache_clear()
