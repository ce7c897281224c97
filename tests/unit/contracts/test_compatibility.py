"""What breaks between two versions: judged for whoever is deployed later, and never called compatible on a guess."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.adapters.contracts import compare
from crossfade.shim.errors import ConfigurationError

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def document(received: Any, sent: Any = None, *, schemas: Any = None, address: str = "a", action: str = "receive"):
    """A document of one command and one answer."""
    return {
        "asyncapi": "3.0.0",
        "channels": {
            "in": {"address": address, "messages": {"ask": {"payload": received}}},
            "out": {"address": "b", "messages": {"answer": {"payload": sent or {}}}},
        },
        "operations": {
            "in": {"action": action, "channel": {"$ref": "#/channels/in"}},
            "out": {"action": "send", "channel": {"$ref": "#/channels/out"}},
        },
        "components": {"schemas": schemas or {}},
    }


def thing(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def said(old: Any, new: Any) -> list[tuple[str, str]]:
    return [(change.severity, f"{change.where}: {change.text}") for change in compare(old, new)]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (STRING, INTEGER, "in ask: payload: was string, which callers may still send; accepted is only integer"),
        (NUMBER, INTEGER, "in ask: payload: was number, which callers may still send; accepted is only integer"),
        ({}, STRING, "in ask: payload: was any JSON, which callers may still send; accepted is only string"),
        (thing({"a": STRING}), thing({"a": STRING}, "a"), "in ask: a: is required, and callers may leave it out"),
        (thing({"a": STRING}), thing({}), "in ask: a: is not read any more"),
        (
            {"enum": ["a", "b"]},
            {"enum": ["a"]},
            "in ask: payload: was 'a' or 'b', which callers may still send; accepted is only 'a'",
        ),
        (
            {"type": "integer"},
            {"type": "integer", "minimum": 1},
            "in ask: payload: was minimum none, which callers may still send; accepted is only minimum 1",
        ),
        (
            {"type": "array", "items": STRING},
            {"type": "array", "items": INTEGER},
            "in ask: payload[]: was string, which callers may still send; accepted is only integer",
        ),
        (
            thing({}),
            {**thing({}), "additionalProperties": False},
            "in ask: payload: was members of any name, which callers may still send; accepted is only the named ones",
        ),
    ],
)
def test_a_command_that_takes_less_breaks_callers(old, new, text):
    """The new worker must accept what the old one did; the text says what may still come."""
    assert said(document(old), document(new)) == [("breaking", text)]
    assert text not in dict(map(reversed, said(document(new), document(old))))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (STRING, INTEGER, "out answer: payload: may be integer, where readers expect string"),
        (
            STRING,
            {"anyOf": [STRING, {"type": "null"}]},
            "out answer: payload: may be null, where readers expect string",
        ),
        (thing({"a": STRING}, "a"), thing({"a": STRING}), "out answer: a: is not always there any more"),
        (thing({"a": STRING}), thing({}), "out answer: a: is gone"),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, "out answer: payload: may be 'a' or 'b', where readers expect 'a'"),
    ],
)
def test_an_answer_that_gives_other_things_breaks_readers(old, new, text):
    """The new answer must fit what was promised."""
    assert said(document({}, old), document({}, new)) == [("breaking", text)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (thing({"a": STRING}, "a"), thing({"a": STRING, "b": INTEGER}, "a")),
        (INTEGER, NUMBER),
        (STRING, {"anyOf": [INTEGER, STRING]}),
        ({"const": "a"}, STRING),
        ({"type": "integer", "maximum": 3}, {"type": "integer", "maximum": 4}),
        (STRING, {**STRING, "description": "words"}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "null"}, STRING]}),
    ],
)
def test_a_command_that_takes_more_breaks_nobody(old, new):
    """A new optional parameter, a wider type, other words."""
    assert said(document(old), document(new)) == []


def test_what_cannot_be_judged_is_said_to_be_unclear():
    """Two patterns cannot be compared, so the change is neither called safe nor broken."""
    [(severity, text)] = said(document({**STRING, "pattern": "a"}), document({**STRING, "pattern": "b"}))

    assert severity == "unclear"
    assert "pattern" in text


def test_a_moved_or_missing_operation_breaks():
    """Another address, another direction, an operation that is gone."""
    old, new = document(STRING), document(STRING, address="elsewhere", action="receive")
    assert said(old, new) == [("breaking", "in: moved from a to elsewhere")]
    assert said(old, document(STRING, action="send")) == [("breaking", "in: was receive, is send")]
    del new["operations"]["in"]
    assert said(old, new) == [("breaking", "in: is gone")]
    assert said(new, old) == [("compatible", "in: is new")]


def test_a_type_that_holds_itself_ends():
    """A tree of nodes is judged once, at whatever depth it changes."""
    old = {"node": thing({"next": {"$ref": "#/components/schemas/node"}, "value": STRING})}
    new = {"node": thing({"next": {"$ref": "#/components/schemas/node"}, "value": INTEGER})}
    reference = {"$ref": "#/components/schemas/node"}

    assert [severity for severity, _ in said(document(reference, schemas=old), document(reference, schemas=new))]
    assert said(document(reference, schemas=old), document(reference, schemas=old)) == []


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"openapi": "3.1.0"}, "the old document is no AsyncAPI 3 document"),
        (document({"$ref": "#/components/schemas/none"}), "#/components/schemas/none leads nowhere"),
        (document({"$ref": "elsewhere.json"}), "elsewhere.json leads nowhere"),
        (
            document({"$ref": "#/components/schemas/a"}, schemas={"a": {"$ref": "#/components/schemas/a"}}),
            "references go round in circles",
        ),
    ],
)
def test_a_broken_document_is_refused_by_name(broken, text):
    """Which of the two it is, and what is wrong with it."""
    with pytest.raises(ConfigurationError, match=text):
        compare(broken, document(STRING))


NAMES = st.sampled_from(["a", "b"])
SCALARS = [None, True, -2, 0, 1, 2, 0.5, "", "x", "yy"]
LISTS = [[], *([one] for one in SCALARS), *([one, other] for one in ("x", 1, None) for other in ("x", 1))]
OBJECTS = [{}, *({"a": one} for one in SCALARS), *({"a": one, "b": other} for one in SCALARS for other in SCALARS)]
DEEPER = [{"a": one} for one in (*LISTS[:4], *OBJECTS[:8])] + [[one] for one in OBJECTS[:12]]
VALUES = [*SCALARS, *LISTS, *OBJECTS, *DEEPER]
LEAVES = st.one_of(
    st.just({}),
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]),
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-2, 2)),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 2)),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(["x", "yy", 1, 2, None]), min_size=1)),
    st.builds(lambda value: {"const": value}, st.sampled_from(["x", 1])),
    st.builds(
        lambda kinds: {"type": sorted(kinds)}, st.sets(st.sampled_from(["string", "integer", "null"]), min_size=1)
    ),
)


def _objects(inner: Any) -> Any:
    """Every member is spoken of: one that a schema is silent about counts as not sent."""

    def build(properties: Any, required: set[str], others: Any) -> dict[str, Any]:
        silent = "a" in properties and "b" in properties
        rest = {} if others is None and silent else {"additionalProperties": bool(silent) if others is None else others}
        return {"type": "object", "properties": properties, "required": sorted(required & properties.keys()), **rest}

    return st.builds(build, st.dictionaries(NAMES, inner, max_size=2), st.sets(NAMES), st.none() | inner.filter(bool))


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
        st.builds(lambda one, other: {"allOf": [one, other]}, _objects(inner), _objects(inner)),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=SCHEMAS, new=SCHEMAS)
def test_no_value_refutes_a_clean_bill(old, new):
    """Where nothing is said to break, every value that the one allows is allowed by the other, both ways round."""
    olds, news = (jsonschema.Draft7Validator(each) for each in (old, new))
    if not compare(document(old), document(new)):
        assert [value for value in VALUES if olds.is_valid(value) and not news.is_valid(value)] == []
    if not compare(document({}, old), document({}, new)):
        assert [value for value in VALUES if news.is_valid(value) and not olds.is_valid(value)] == []


@given(schema=SCHEMAS)
def test_nothing_breaks_between_equal_documents(schema):
    """A document is compatible with itself, so that an unchanged app passes."""
    assert compare(document(schema, schema), document(schema, schema)) == []
