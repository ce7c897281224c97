from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison.patterns import MAX_TEXT, Pattern

atoms = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\.", r"\x61", "(a|b)", "(?:ab)", "(a|)", "{", "é", "-"]
)
repeats = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "{,2}", "*?", "{}"])
runs = st.lists(st.tuples(atoms, repeats).map("".join), max_size=4).map("".join)
groups = st.tuples(runs, runs, st.sampled_from(["", "*", "+", "{0,2}", "{2}"])).map(lambda p: f"({p[0]}|{p[1]}){p[2]}")
sources = runs | groups | st.tuples(groups, runs).map("".join) | runs.map(lambda run: f"^{run}$")
texts = st.text("ab1.-é{}\n", max_size=7)


@given(sources, texts)
def test_a_pattern_matches_what_pythons_own_engine_does(source, text):
    """The meaning is that of ``re.fullmatch`` where ``.`` is any character."""
    assert Pattern(source).matches(text) == bool(re.fullmatch(source, text, re.DOTALL))


@pytest.mark.parametrize("source", ["(a+)+b", "(a|a)*b", "(a*)*b", "a*" * 100 + "b", "(a?){50}a{50}b", "(.*,){20}b"])
def test_no_text_takes_long(source):
    """Patterns and texts that take Python's engine longer than anybody waits are decided at once."""
    pattern = Pattern(source)
    began = time.process_time()

    assert not pattern.matches("a" * MAX_TEXT)
    assert not pattern.matches(("a" * 9 + ",") * (MAX_TEXT // 10))
    assert time.process_time() - began < 5


def test_a_longer_text_matches_nothing():
    """The bound that the page names."""
    assert Pattern("a*").matches("a" * MAX_TEXT)
    assert not Pattern("a*").matches("a" * (MAX_TEXT + 1))


def test_what_is_remembered_is_bounded():
    """Endless letters do not fill the memory."""
    pattern = Pattern("[^b]*")

    assert all(pattern.matches("".join(map(chr, range(start, start + 9000)))) for start in (0x100, 0x4000, 0x8000))
    assert len(pattern._known) <= 5001


@pytest.mark.parametrize("source", [r"\$", r"a\$", r"\\$", "^a$", r"^\^"])
def test_anchors_around_a_whole_text_say_nothing(source):
    """And a dollar sign that is one stays one."""
    for text in ("a", "$", "a$", "\\", "^", ""):
        assert Pattern(source).matches(text) == bool(re.fullmatch(source, text))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("(", "missing ), "),
        ("a" * 501, "it is longer than 500 characters"),
        ("(?=a)", "'(?=a' cannot be matched in time that only the text sets"),
        (r"(a)\1", r"'\\1' cannot"),
        (r"a\b", r"'\\b' cannot"),
        ("a^b", "'^b' cannot"),
        ("a$b", "'$b' cannot"),
        ("(?i)a", "'(?i)' cannot"),
        ("(?P<n>a)", "'(?P<' cannot"),
        ("a++", "'++' cannot"),
        ("a{1000}{2}", "multiple repeat"),
        ("(a{1000}){3}", "it is too long when its {m,n} are written out"),
    ],
)
def test_what_cannot_be_used_is_refused_when_read(source, said):
    """With the part of it that is to blame."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Pattern(source)
