"""The table of every setting of routes.yaml: complete, a JSON Schema, and one that the design's example follows."""

from __future__ import annotations

from dataclasses import fields

import jsonschema
import pytest
import yaml

from crossfade.proxy.config import Config, Route
from crossfade.proxy.limits import Limits
from crossfade.proxy.settings import SHAPE, schema
from crossfade.proxy.shapes import ListOf, MapOf, Section


def sections(shape, at=""):
    """Every section below ``shape`` with its dotted place."""
    match shape:
        case Section():
            yield at, shape
            for name, key in shape.keys.items():
                yield from sections(key.shape, f"{at}.{name}".lstrip("."))
        case ListOf() | MapOf():
            yield from sections(shape.item, at)


def test_every_setting_says_what_it_is():
    """A sentence for each, and a default or the word that it is required, but for limits, which say it themselves."""
    for at, section in sections(SHAPE):
        for name, key in section.keys.items():
            if at != "limits":
                assert key.what.endswith("."), f"{at}.{name}"
                assert key.required or key.default or at == "identity.jwt" or name == "key", f"{at}.{name}"


def test_every_limit_can_be_set():
    """A limit added to the data plane is a setting of the file."""
    limits = SHAPE.keys["limits"].shape

    assert list(limits.keys) == [limit.name for limit in fields(Limits)]
    assert {name for name, key in limits.keys.items() if key.shape.whole} == {
        limit.name for limit in fields(Limits) if "int" in limit.type
    }


def test_every_setting_arrives_somewhere():
    """The configuration's values and the file's keys are the same, but for what the reader adds or joins."""
    routes = SHAPE.keys["routes"].shape.item

    assert {field.name for field in fields(Config)} - {"file"} == set(SHAPE.keys)
    assert {field.name for field in fields(Route)} - {"pattern"} | {"match", "headers"} == set(routes.keys)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("upstreams: {legacy: 'http://127.0.0.1:9000'}", True),
        ("upstreams: {a: {url: 'https://h', tls: {ca: x}}}\nroutes: [{seam: a, match: /a, mode: task}]", True),
        ("upstreams: {a: 'http://h'}\nlimits: {connections: 5, header_timeout: 0.5}", True),
        ("listen: 127.0.0.1:1", False),
        ("upstreams: {a: 5}", False),
        ("upstreams: {a: 'http://h'}\nroutes: [{seam: a}]", False),
        ("upstreams: {a: 'http://h'}\nstage: bus", False),
        ("upstreams: {a: 'http://h'}\nlimits: {connections: 1.5}", False),
    ],
)
def test_an_editor_knows_the_file(text, valid):
    """The published schema takes what the reader takes and refuses what has another shape."""
    jsonschema.Draft202012Validator.check_schema(schema())

    assert jsonschema.Draft202012Validator(schema()).is_valid(yaml.safe_load(text)) is valid
