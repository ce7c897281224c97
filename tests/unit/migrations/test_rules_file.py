from __future__ import annotations

import json
import sys

import jsonschema
import pytest
import yaml

from crossfade.migrations.cli import main
from crossfade.migrations.rules_file import NEEDED, OPTIONS, add_rules, read_rules, schema
from crossfade.shim.comparison import WELL_FORMED, Rules
from crossfade.shim.errors import ConfigurationError
from support.project import TOP

PAGE = TOP / "docs" / "reference" / "comparison-rules.md"
SCHEMA = TOP / "docs" / "reference" / "comparison-rules.schema.json"


@pytest.fixture
def rules_of(tmp_path, monkeypatch):
    """Reads a text as rules.yaml."""
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "rules.yaml").write_text(text)
        return read_rules("rules.yaml")

    return read


@pytest.mark.parametrize("before", ["# ours\n$.a: ignore\n", "$.a: ignore", "", None])
def test_rules_are_added_behind_what_stands_there(tmp_path, monkeypatch, before):
    """Comments and order stay; a file that is not there is made."""
    monkeypatch.chdir(tmp_path)
    if before is not None:
        (tmp_path / "rules.yaml").write_text(before)
    add_rules("rules.yaml", {"$.b": "uuid", '$["c d"]': {"matcher": "approx", "abs": 0.1}})

    assert (tmp_path / "rules.yaml").read_text().startswith(before or "")
    assert [rule.path for rule in read_rules("rules.yaml").rules][-2:] == ["$.b", '$["c d"]']
    assert list(tmp_path.iterdir()) == [tmp_path / "rules.yaml"]


@pytest.mark.parametrize("before", ["$.b: ignore\n", '{"$.a": "ignore"}', "$.a: ignroe\n", "- 1\n"])
def test_what_cannot_be_added_changes_nothing(tmp_path, monkeypatch, before):
    """A path with a rule, JSON, and what is wrong already: the file is as it was, and nothing lies beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(before)
    with pytest.raises(ConfigurationError, match=r"rules\.yaml.*nothing was written"):
        add_rules("rules.yaml", {"$.b": "uuid"})

    assert (tmp_path / "rules.yaml").read_text() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "rules.yaml"]


def test_a_file_says_what_a_policy_says(rules_of):
    """YAML and JSON, names and tables; an empty file has no rules."""
    said = {"$.a": "ignore", '$["b c"]': {"matcher": "approx", "abs": 0.1}}

    assert rules_of(yaml.safe_dump(said)) == rules_of(json.dumps(said)) == Rules.parse(said)
    assert rules_of("# nothing yet\n") == Rules()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "$.a: ignore\n$.b: ignroe\n",
            "rules.yaml:2: rules.\"$.b\": there is no matcher 'ignroe'; did you mean 'ignore'?",
        ),
        ("$.a:\n  matcher: approx\n  abs: x\n", "rules.yaml:1: rules.\"$.a\".abs: 'x' is no number"),
        ("a: ignore\n", "rules.yaml:1: rules.\"a\": 'a' is no path"),
        ("$.a: ignore\n\n$['a']: exact\n", "rules.yaml:3: \"$['a']\" has a rule in line 1 already"),
        ("- $.a\n", 'rules.yaml: must be paths with what is said of each, like "$.took_ms": ignore'),
        ("$.a: [\n", "rules.yaml:2: this is no YAML: "),
        ("? [a]\n: ignore\n", "rules.yaml:1: a path must be a text"),
        ("$.a: !!python/name:os.system\n", "rules.yaml:1: this is no YAML: could not determine a constructor"),
        (
            "$.a: {matcher: semantic, by: nobody-has-it}\n",
            "rules.yaml:1: rules.\"$.a\".by: no comparator 'nobody-has-it'",
        ),
    ],
)
def test_a_broken_file_names_file_line_and_key(rules_of, text, error):
    """Whoever wrote it finds it."""
    with pytest.raises(ConfigurationError) as caught:
        rules_of(text)

    assert str(caught.value).startswith(error)


def test_a_file_that_is_not_there_or_is_no_text_is_said(tmp_path):
    """By its name."""
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read_rules(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_rules(str(tmp_path / "binary.yaml"))


# -- the schema --------------------------------------------------------------------------------------------------------


GOOD = [
    *({"$": name} for name in OPTIONS if name not in (*NEEDED, "approx")),
    {"$.a": {"matcher": "approx", "rel": 0.5}},
    {"$.a": {"matcher": "regex", "pattern": "a+"}},
    {"$.a": {"matcher": "timestamp", "within": 0}},
    {"$.a": {"matcher": "semantic", "by": "x", "at_least": 1, "model": {"any": 1}}},
    {"$.a": {"matcher": "unordered", "key": ["a", "b"], "normalise": "json"}},
    {"$.a": {"matcher": "exact", "normalise": ["strip", "join"]}},
]
BAD = [
    {"a": "exact"},
    {"$": "regex"},
    {"$": "approx"},
    {"$": 1},
    {"$": {"matcher": "approx"}},
    {"$": {"matcher": "approx", "rel": 2}},
    {"$": {"matcher": "regex"}},
    {"$": {"matcher": "set", "key": "a"}},
    {"$": {"matcher": "ignore", "normalise": "strip"}},
    {"$": {"matcher": "exact", "normalise": []}},
    {"$": {"matcher": "exact", "normalise": "upper"}},
    {"$": {"matcher": "unordered", "key": []}},
    {"$": {"matcher": "semantic"}},
    {"$": {"matcher": "timestamp", "within": "5s"}},
]


@pytest.mark.parametrize("said", GOOD, ids=str)
def test_the_schema_takes_what_the_code_takes(said):
    """An editor does not complain about a rule that works."""
    Rules.parse(said, matchers=WELL_FORMED)
    jsonschema.validate(said, schema())


@pytest.mark.parametrize("said", BAD, ids=str)
def test_the_schema_refuses_what_the_code_refuses(said):
    """And complains about one that does not."""
    with pytest.raises(ConfigurationError):
        Rules.parse(said, matchers=WELL_FORMED)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said, schema())


def test_the_published_schema_and_the_page_are_the_codes():
    """Every matcher, option and step is on the page; the file beside it is what the code writes."""
    page = PAGE.read_text()

    assert set(OPTIONS) == set(WELL_FORMED)
    assert json.loads(SCHEMA.read_text()) == schema()
    assert all(f"| `{name}` |" in page for name in OPTIONS)
    assert all(f"`{option}`" in page for options in OPTIONS.values() for option in options)
    assert all(f"| `{step}` |" in page for step in ("strip", "collapse", "casefold", "json", "join"))


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def crossfade(tmp_path, monkeypatch, capsys):
    """Runs the command in the test's folder; exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crossfade", "compare", *arguments])
        try:
            status = main()
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


def test_the_commands_exit_code_is_the_verdicts(crossfade, tmp_path):
    """0 match and ignored, 1 mismatch and inconclusive, 2 what cannot be read; of answers by HTTP as what they say."""
    files = {
        "a": {"n": 1},
        "b": {"n": 2},
        "c": {"n": {"$redacted": "a" * 32}},
        "x": {"status": 200, "headers": [["Content-Type", "application/json"], ["Date", "1"]], "text": '{"n":1}'},
        "y": {"status": 200, "headers": [["content-type", "application/json"], ["Date", "2"]], "text": '{"n": 1.0}'},
    }
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "rules.yaml").write_text("$.n: ignore")
    (tmp_path / "broken.json").write_text("{")

    assert crossfade("a.json", "a.json") == (0, "match\n", "")
    assert crossfade("a.json", "b.json", "--rules", "rules.yaml") == (0, "ignored ($.n)\n", "")
    status, out, _ = crossfade("a.json", "c.json")
    assert (status, out) == (1, "inconclusive (redacted)\n$.n\n")
    assert crossfade("x.json", "y.json", "--http")[:2] == (0, "match\n")
    assert crossfade("x.json", "y.json")[0] == 1
    assert crossfade("a.json", "broken.json")[::2] == (
        2,
        "crossfade: broken.json:1: this is no JSON: Expecting property name enclosed in double quotes\n",
    )
    assert crossfade("a.json", "x.json", "--http")[0] == 2
