"""``crossfade events spec|schema|check``: contracts of an app as files, and a gate for a deployment pipeline."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from support.official import asyncapi_schema

APP = """
from typing import Literal
from crossfade.shim import handler, tool

@tool("shop.price", effects="none")
def price(item: str, currency: Literal["EUR", "USD"] = "EUR") -> float:
    \"\"\"What an item costs.\"\"\"
    return 1.0

@handler("shop.elsewhere")
def elsewhere(n: int) -> int:
    return n
"""
ROUTES = """
upstreams: {legacy: http://127.0.0.1:9000}
routes:
  - {seam: http.reports, match: POST /v1/reports, upstream: legacy}
"""


@pytest.fixture
def app(shell):
    (shell.folder / "contracted.py").write_text(APP)
    (shell.folder / "routes.yaml").write_text(ROUTES)
    return shell


@pytest.mark.needs("npm")
def test_the_document_of_an_app_is_valid(app):
    """Functions, handlers without a body here, and routes; as JSON on stdout, without a bus."""
    document = json.loads(app.process("events", "spec", "contracted", "--routes", "routes.yaml").out)

    assert [error.message for error in jsonschema.Draft7Validator(asyncapi_schema()).iter_errors(document)] == []
    assert {name.removesuffix(".commands") for name in document["operations"] if name.endswith(".commands")} == {
        "shop.price",
        "shop.elsewhere",
        "http.reports",
    }


def test_a_change_that_breaks_callers_fails_the_pipeline(app):
    """The old document is kept beside the code; the new one is held against it: 1 with the reason, 0 without."""
    app.process("events", "spec", "contracted", "--out", "old.json")
    assert app.run("events", "check", "old.json", "old.json").out == "Nothing breaks.\n"
    (app.folder / "contracted.py").write_text(APP.replace('Literal["EUR", "USD"]', 'Literal["EUR"]'))
    assert app.process("events", "spec", "contracted", "--out", "new.yaml").out == "Wrote 2 seams to new.yaml.\n"

    refused = app.run("events", "check", "old.json", "new.yaml", code=1)
    assert "shop.price.commands tool.invoke: arguments.currency" in refused.out
    assert "'EUR' or 'USD'" in refused.out
    [change] = app.run("events", "check", "old.json", "new.yaml", "--json", code=1).lines
    assert change["severity"] == "breaking"
    assert yaml.safe_load((app.folder / "new.yaml").read_text())["asyncapi"] == "3.0.0"


def test_a_payload_has_a_schema(app):
    """The JSON Schema of every event type, by its name; a misspelt one is told the nearest."""
    found = json.loads(app.run("events", "schema", "tool.invoke").out)

    assert found["$id"] == "urn:crossfade:tool.invoke:1"
    assert "did you mean tool.invoke?" in app.run("events", "schema", "tool.invok", code=2).err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "broken.json:1: this is no JSON"),
        ("a: [", "broken.json:1: this is no YAML"),
        ("- a", "broken.json: an AsyncAPI document is an object"),
        ("openapi: 3.1.0", "the old document is no AsyncAPI 3 document: write one with `crossfade events spec`"),
    ],
)
def test_a_file_that_is_no_document_is_refused(app, text, said):
    """File and line, and what to do."""
    (app.folder / "broken.json").write_text(text)

    assert said in app.run("events", "check", "broken.json", "broken.json", code=2).err


def test_a_module_without_seams_is_refused(app):
    """An empty document would look like an app that promises nothing."""
    (app.folder / "plain.py").write_text("x = 1\n")

    assert "declares a seam" in app.process("events", "spec", "plain", code=2).err
