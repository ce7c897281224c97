"""One file that needs nothing, in which nothing from outside is markup."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from crossfade.migrations.traces import waterfall
from crossfade.migrations.traces.aligning import align
from crossfade.migrations.traces.populations import Population, compare
from unit.migrations.traces.calls import call, run

EVIL = "<img src=x onerror=alert(1)>\"'\x1b[31m\u202e</script><script>alert(2)</script>"


class Seen(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def pages():
    evil = run(call("a", EVIL, outcome="error", reason=EVIL), call("b", parent="a", path=EVIL), id=EVIL)
    population = Population()
    population.add(evil)
    return [
        waterfall.run_section(evil),
        waterfall.pair_section(evil, evil, align(evil.roots, evil.roots), names=(EVIL, EVIL)),
        waterfall.population_section(
            population, population, compare(population, population), names=(EVIL, EVIL), confidence=0.95
        ),
    ]


@pytest.mark.parametrize("at", range(3))
def test_nothing_from_outside_is_markup_or_turns_text_around(at):
    """Names of seams, runs, paths, reasons."""
    text = "".join(waterfall.page(EVIL, pages()[at]))
    seen = Seen(text)
    assert seen.tags.count("script") == 1
    assert "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search("[\x1b\u202e]", text)


def test_only_its_own_script_may_run_and_nothing_is_fetched():
    """The policy names the script by its hash."""
    text = "".join(waterfall.page("x", []))
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in text
    assert "default-src 'none'" in text


def test_a_run_of_too_many_calls_says_how_many_are_not_drawn(monkeypatch):
    """A page must open."""
    monkeypatch.setattr(waterfall, "MAX_ROWS", 2)
    text = "".join(waterfall.run_section(run(*(call(name) for name in "abc"))))
    assert "1 more are not drawn" in text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "0 us"), (0.000_012_34, "12.3 us"), (0.5, "500 ms"), (2.5, "2.5 s"), (900.0, "900 s")]
)
def test_times_have_three_digits(seconds, said):
    """And one unit."""
    assert waterfall.ms(seconds) == said
