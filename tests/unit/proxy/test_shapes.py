"""What a file may hold, as data: one table gives the reader, the words of its messages and the JSON Schema."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.documents import FileError, read_document
from crossfade.proxy.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Section, Text, describe, json_schema

SHAPE = Section(
    keys={
        "name": Key(shape=Text(like="a"), what="Its name.", required=True),
        "size": Key(shape=Number(least=1, most=9, whole=True), what="Its size."),
        "share": Key(shape=Number(least=0, most=1), what="Its share."),
        "on": Key(shape=Flag(), what="Whether."),
        "kind": Key(shape=Choice(options=("x", "y")), what="Its kind."),
        "items": Key(shape=ListOf(item=Text(like="b")), what="Its items."),
        "by_name": Key(
            shape=MapOf(item=Section(short="url", keys={"url": Key(shape=Text(like="u"), what="A URL.")}), of="urls"),
            what="URLs.",
        ),
    }
)


def read(text):
    document = read_document("file", SHAPE, text=text.encode())
    document.check()
    return document.values


def test_values_arrive_in_their_shape():
    """Text is what was typed, numbers are numbers, a short form stands for its section."""
    text = "{name: 1.10, size: 3, share: 0.5, on: true, kind: y, items: [no, 2], by_name: {a: u, b: {url: v}}}"

    assert read(text) == {
        "name": "1.10",
        "size": 3,
        "share": 0.5,
        "on": True,
        "kind": "y",
        "items": ["no", "2"],
        "by_name": {"a": {"url": "u"}, "b": {"url": "v"}},
    }


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Text(like="a"), "text like a"),
        (Number(least=0, most=1), "a number from 0 to 1"),
        (Number(least=1, most=1048576, whole=True), "a whole number from 1 to 1,048,576"),
        (Number(least=0, most=2**53, whole=True), "a whole number from 0 to 9,007,199,254,740,992"),
        (Flag(), "true or false"),
        (Choice(options=("x", "y")), "x or y"),
        (ListOf(item=Flag()), "a list, each item true or false"),
        (MapOf(item=Flag(), of="flags"), "a mapping of flags"),
        (SHAPE.keys["by_name"].shape.item, "text like u, or a mapping with keys of url"),
    ],
)
def test_a_shape_has_words(shape, words):
    """They end the sentence that begins with "must be"."""
    assert describe(shape) == words


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.floats(allow_nan=False, width=16), st.sampled_from(["x", "a", ""])
)
_VALUES = st.one_of(
    _SCALARS, st.lists(_SCALARS, max_size=2), st.dictionaries(st.sampled_from(["url", "a"]), _SCALARS, max_size=2)
)


@given(st.dictionaries(st.sampled_from([*SHAPE.keys, "other"]), _VALUES, max_size=4))
def test_what_is_read_is_valid_by_the_schema(values):
    """An editor that follows the schema and the reader agree, but for text without quotes, which the reader takes."""
    text = yaml.safe_dump(values)
    try:
        read(text)
    except FileError:
        taken = False
    else:
        taken = True

    valid = jsonschema.Draft202012Validator(json_schema(SHAPE)).is_valid(values)

    assert taken or not valid


def test_the_schema_is_one():
    """It is valid JSON Schema and says what each setting is."""
    schema = json_schema(SHAPE)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["name"]["description"] == "Its name."
    assert schema["required"] == ["name"]
