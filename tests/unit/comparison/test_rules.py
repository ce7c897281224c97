from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison import Rule, Rules
from crossfade.shim.comparison.paths import Wild, parse_path
from crossfade.shim.comparison.scopes import Scope
from crossfade.shim.errors import ConfigurationError


@dataclass
class Anything:
    """A matcher that keeps its options."""

    options: dict = field(default_factory=dict)

    def __call__(self, options, *, where):
        if "bad" in options:
            raise ConfigurationError("is bad", where=f"{where}.bad")
        return Anything(dict(options))

    def judge(self, old, new):
        return "same"


MORE = {"exact": Anything(), "ignore": Anything(), "approx": Anything()}

TOML = """
[compare]
"$..request_id" = "ignore"
"$.hits[*].score" = {matcher = "approx", abs = 0.01}
'$["a b"]' = {matcher = "exact"}
"""


# -- reading -----------------------------------------------------------------------------------------------------------


def test_rules_are_read_from_toml_and_json_alike():
    """A rule is a matcher's name or a table with its options; order is kept."""
    table = tomllib.loads(TOML)["compare"]

    rules = Rules.parse(table, matchers=MORE)

    assert rules == Rules.parse(json.loads(json.dumps(table)), matchers=MORE)
    assert [(rule.path, rule.matcher, dict(rule.options)) for rule in rules.rules] == [
        ("$..request_id", "ignore", {}),
        ("$.hits[*].score", "approx", {"abs": 0.01}),
        ('$["a b"]', "exact", {}),
    ]
    assert [rule.ignores for rule in rules.rules] == [True, False, False]
    assert rules.rules[1].judge == Anything({"abs": 0.01})


def test_rules_survive_the_wire():
    """Live policy carries them as JSON."""
    rules = Rules.parse(tomllib.loads(TOML)["compare"], matchers=MORE)

    assert Rules.parse(json.loads(json.dumps(rules.to_json())), matchers=MORE) == rules
    assert rules.to_json()["$..request_id"] == "ignore"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (["$.a"], "crossfade.toml: compare: must be a table of paths, not ['$.a']"),
        ({1: "ignore"}, "crossfade.toml: compare: has a key that is no text: 1"),
        (
            {"$.a": "ignroe"},
            "crossfade.toml: compare.\"$.a\": there is no matcher 'ignroe'; did you mean 'ignore'? known are approx, ",
        ),
        ({"$.a": 1}, 'crossfade.toml: compare."$.a": must be a matcher\'s name or a table, not 1'),
        ({"$.a": {}}, 'crossfade.toml: compare."$.a".matcher: must be the name of a matcher: approx, exact, ignore'),
        (
            {"$.a": {"matcher": 1}},
            'crossfade.toml: compare."$.a".matcher: must be the name of a matcher: approx, exact, ignore',
        ),
        (
            {"$.a": {"matcher": "ignore", "abs": 1}},
            "crossfade.toml: compare.\"$.a\".abs: 'ignore' takes no options",
        ),
        (
            {"$.a": {"matcher": "ignore", "normalise": "strip"}},
            "crossfade.toml: compare.\"$.a\".normalise: 'ignore' takes no options",
        ),
        (
            {"$.a": {"matcher": "exact", "normalise": ["strip", "colapse"]}},
            "crossfade.toml: compare.\"$.a\".normalise: there is no step 'colapse'; did you mean 'collapse'? ",
        ),
        (
            {"$.a": {"matcher": "exact", "normalise": []}},
            'crossfade.toml: compare."$.a".normalise: must be one or more of strip, collapse, casefold, json, ',
        ),
        ({"$[": "ignore"}, "crossfade.toml: compare.\"$[\": '$[' is no path: write it like $.user.name"),
        ({"$.a": "ignore", '$["a"]': "exact"}, '"$["a"]": this path has a rule already'),
    ],
)
def test_a_wrong_rule_names_its_place(data, text):
    """Whoever wrote it finds it by the dotted place, and reads what exists."""
    with pytest.raises(ConfigurationError) as caught:
        Rules.parse(data, where="crossfade.toml: compare")

    assert str(caught.value).startswith(text)


def test_a_matcher_says_where_its_option_is_wrong():
    """The registry's factories get the place, so their errors are as precise as ours."""
    with pytest.raises(ConfigurationError) as caught:
        Rules.parse({"$.a": {"matcher": "approx", "bad": 1}}, matchers=MORE)

    assert caught.value.where == 'compare."$.a".bad'


def test_a_rule_built_in_code_is_checked_alike():
    """No rule exists that could not have been read."""
    with pytest.raises(ConfigurationError, match="there is no matcher 'about'; known are approx, exact") as caught:
        Rule("$.a", "about")

    assert caught.value.where == '"$.a"'


def test_what_is_done_before_a_value_is_judged_is_part_of_the_rule():
    """``normalise`` belongs to every matcher but ignore, never reaches the matcher itself, and travels."""
    said = {"$.a": {"matcher": "uuid", "normalise": ["strip"]}, "$.b": {"matcher": "exact", "normalise": "json"}}

    rules = Rules.parse(said)

    assert [rule.steps for rule in rules.rules] == [("strip",), ("json",)]
    assert rules.to_json() == said
    assert Rules.parse(rules.to_json()) == rules


def test_a_rule_cannot_be_changed_through_its_options():
    """Rules are shared by threads."""
    given_options = {"abs": 1}
    rule = Rule("$.a", "approx", given_options, matchers=MORE)
    given_options["abs"] = 2

    assert rule.options == {"abs": 1}
    with pytest.raises(TypeError):
        rule.options["abs"] = 3


# -- which one holds ---------------------------------------------------------------------------------------------------


def holding(said, place):
    """The path of the rule that holds at ``place``, found by walking down to it."""
    scope = Scope.of(Rules.parse(dict.fromkeys(said, "ignore")), "$")
    for segment in place:
        scope = scope.below(segment)
    return scope.rule.path if scope.rule else None


@pytest.mark.parametrize(
    ("said", "place", "winner"),
    [
        ([], ["a"], None),
        (["$.a"], ["b"], None),
        (["$.a"], ["a"], "$.a"),
        (["$.a"], ["a", "b", 0], "$.a"),
        (["$"], ["a"], "$"),
        (["$error.message"], ["message"], None),
        (["$.hits[*].score"], ["hits", 3, "score"], "$.hits[*].score"),
        (["$.hits[*].score"], ["hits", "3", "score"], None),
        (["$.hits.*.score"], ["hits", 3, "score"], None),
        (["$.hits[0]"], ["hits", 1], None),
        (["$.a[*]", "$.a[0]"], ["a", 0], "$.a[0]"),
        (["$..id"], ["id"], "$..id"),
        (["$..id"], ["a", 0, "b", "id", "deeper"], "$..id"),
        (["$..a.b"], ["a", "a", "b"], "$..a.b"),
        (["$..a.b"], ["a", "x", "b"], None),
        (["$..a..b"], ["a", "x", "b"], "$..a..b"),
        # the one that names more, wherever it stands
        (["$.meta", "$.meta.version"], ["meta", "version"], "$.meta.version"),
        (["$.meta.version", "$.meta"], ["meta", "version"], "$.meta.version"),
        (["$", "$..id"], ["a", "id"], "$..id"),
        (["$.a.b", "$.*.*.c"], ["a", "b", "c"], "$.a.b"),
        # then the one with fewer ..
        (["$..id", "$.meta"], ["meta", "id"], "$.meta"),
        (["$..id", "$.*.id"], ["meta", "id"], "$.*.id"),
        (["$..a..b", "$..a.b"], ["a", "b"], "$..a.b"),
        # then the longer
        (["$.a", "$.*.b"], ["a", "b"], "$.*.b"),
        (["$", "$.*"], ["a"], "$.*"),
        # then the earlier
        (["$.*.b", "$.a.*"], ["a", "b"], "$.*.b"),
        (["$.a.*", "$.*.b"], ["a", "b"], "$.a.*"),
    ],
)
def test_the_most_specific_rule_holds(said, place, winner):
    """Rule 1 and rule 2 of the module, case by case."""
    assert holding(said, place) == winner


@pytest.mark.parametrize("matcher", ["unordered", "set"])
def test_a_position_says_nothing_where_order_says_nothing(matcher):
    """``[0]`` of such a list would be another item on each side; ``[*]`` is every item."""
    scope = Scope.of(Rules.parse({"$": matcher, "$[0]": "ignore", "$[*].b": "ignore"}), "$")

    assert scope.below(0).rule.path == "$"
    assert scope.below(0).below("b").rule.path == "$[*].b"


steps = st.sampled_from([".a", ".b", "[0]", ".*", "[*]", "..a", "..b", "..*", "..[0]"])
places = st.lists(st.sampled_from(["a", "b", "c", 0, 1]), max_size=6)


def reaches(segments, place):
    """Whether a path leads exactly to ``place``: the words of the page, without any machinery."""
    if not segments:
        return not place
    if segments[0] is Wild.DEEP:
        return any(reaches(segments[1:], place[skipped:]) for skipped in range(len(place) + 1))
    kinds = {Wild.NAME: str, Wild.ITEM: int}
    fits = place and (segments[0] == place[0] or isinstance(place[0], kinds.get(segments[0], ())))
    return bool(fits) and reaches(segments[1:], place[1:])


@given(st.lists(st.lists(steps, max_size=4).map(lambda parts: "$" + "".join(parts)), max_size=5, unique=True), places)
def test_walking_finds_what_the_words_say(said, place):
    """The scopes agree with a reading of all rules at every place above, ranked as the page says."""
    reaching = [
        (path.named, -path.deep, len(path.segments), -order, text)
        for order, text in enumerate(said)
        for path in [parse_path(text)]
        if any(reaches(path.segments, place[:length]) for length in range(len(place) + 1))
    ]

    assert holding(said, place) == (max(reaching)[-1] if reaching else None)


def test_depth_adds_no_scopes():
    """``$..id`` at any depth is one and the same scope, so depth costs a look-up a level."""
    scope = Scope.of(Rules.parse({"$..id": "ignore"}), "$")

    assert scope.below("x").below(0).below("y") is scope
    assert not scope.below("id").may_change
