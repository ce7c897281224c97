from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.shim.comparison.paths import Path, Wild, parse_path, show_path
from crossfade.shim.errors import ConfigurationError

names = st.text(max_size=79) | st.text(st.sampled_from("ab_-.[]*\"'\\ $\ud800"), max_size=4)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("$", ()),
        ("$.a.b", ("a", "b")),
        ("$.hits[*].score", ("hits", Wild.ITEM, "score")),
        ("$.hits[03]", ("hits", 3)),
        ("$.*[*].*", (Wild.NAME, Wild.ITEM, Wild.NAME)),
        ("$..request_id", (Wild.DEEP, "request_id")),
        ("$..*", (Wild.DEEP, Wild.NAME)),
        ("$..[*]", (Wild.DEEP, Wild.ITEM)),
        ("$..[0]..a", (Wild.DEEP, 0, Wild.DEEP, "a")),
        ("$..['a.b']", (Wild.DEEP, "a.b")),
        ('$["a b"]["[*]"][""]', ("a b", "[*]", "")),
        ('$["\\u00e9\\"]"]', ('é"]',)),
        ("$['say \"x\"'].x", ('say "x"', "x")),
        ("$.X-Id.@type.$ref.größe.0", ("X-Id", "@type", "$ref", "größe", "0")),
        ("$.error", ("error",)),
    ],
)
def test_a_path_is_read(text, segments):
    """Names bare or quoted, indexes, wildcards and any depth."""
    assert parse_path(text) == Path("$", segments)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("$error", ()),
        ("$error.message", ("message",)),
        ("$error.args[0]", ("args", 0)),
        ("$error..*", (Wild.DEEP, Wild.NAME)),
        ('$error["type"]', ("type",)),
    ],
)
def test_an_error_has_paths_of_its_own(text, segments):
    """``$error`` is another document than ``$``."""
    assert parse_path(text) == Path("$error", segments)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", ".a", "$a", "$.", "$..", "$...a", "$.a.", "$ ", "$\n", "$.a b", '$."a"', "$errors", "$error.."),
        *("$[", "$[]", "$[-1]", "$[1:2]", "$[x]", "$[٣]", "$.[0]", "$[?(@.a)]", "$[1234567890]"),
        *('$["a]', '$["\n"]', '$["\\x"]', "$['a\\'b']", "$." + "a" * 999),
    ],
)
def test_what_is_no_path_is_refused(text):
    """A typing mistake in a rule is found when it is read, and the text shows what paths look like."""
    with pytest.raises(ConfigurationError, match="is no path: write it like") as caught:
        parse_path(text, where="compare.x")

    assert caught.value.where == "compare.x"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["$error.msg", "$error[0]", "$error.traceback"])
def test_an_error_has_three_members(text):
    """``$error.msg`` would never hold anywhere, silently."""
    with pytest.raises(ConfigurationError, match="an error has type, message, args, not"):
        parse_path(text, where="compare.x")


@given(st.lists(names | st.integers(0, 10**8), max_size=24))
@example(["*", "..", "[*]", "a.b", "", "-", "_", "é", 'q"\\', "\x00", "\u2028"])
def test_a_shown_place_is_a_path_to_it(place):
    """What a difference names can be pasted into a rule."""
    assert parse_path(show_path("$", place)[:1000]) == Path("$", tuple(place)) or len(show_path("$", place)) > 1000


def test_a_deep_place_is_shown_without_its_middle():
    """A path of 100,000 steps would be a payload of its own; both ends stay."""
    assert show_path("$", [*"abcdefghijkl", *[0] * 100_000, *"mnopqrstuvwx"]) == (
        "$.a.b.c.d.e.f.g.h.i.j.k.l….m.n.o.p.q.r.s.t.u.v.w.x"
    )
    assert show_path("$", ["a"] * 24) == "$" + ".a" * 24
    assert "…" in show_path("$", ["a"] * 25)


def test_a_long_name_is_cut():
    """A name can be as long as a payload."""
    assert show_path("$", ["x" * 10_000]) == f'$["{"x" * 80}"…]'
    assert show_path("$", ["x" * 80]) == "$." + "x" * 80


def test_what_makes_a_path_specific():
    """Names and indexes count, wildcards do not; skipped levels are counted apart."""
    path = parse_path("$..a[0].*[*]..b")

    assert (path.named, path.deep) == (3, 2)
