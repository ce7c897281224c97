"""Seams as an AsyncAPI document: valid by the official schema, and true to what travels."""

from __future__ import annotations

import json
from collections.abc import Iterator  # noqa: TC003 - looked up as the type of a seam
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, SecretStr

from crossfade.adapters.contracts import Contract, asyncapi, of_seam
from crossfade.adapters.contracts.asyncapi import payloads
from crossfade.shim import agent, tool
from crossfade.shim.seam import registry
from support.official import asyncapi_schema


class Hit(BaseModel):
    """Refers to itself, so that its definition must be shared."""

    title: str
    place: tuple[int, str] = (1, "a")
    next: Hit | None = None


NAMES = ("contract.search", "contract.read", "contract.nothing")


@pytest.fixture
def contracts() -> Iterator[list[Contract]]:
    @tool("contract.search", effects="none")
    def search(query: str, key: SecretStr, limit: int = 10, mode: Literal["a", "b"] = "a") -> list[Hit]:
        """Find pages.

        Not in the document.
        """
        raise NotImplementedError

    @agent("contract.read", effects="none")
    def read(topic: str, *more: int) -> Iterator[Hit]:
        yield Hit(title=topic)

    @tool("contract.nothing", effects="none")
    def nothing() -> None: ...

    found = [of_seam(registry.get(name)) for name in NAMES]
    yield [*found, Contract(seam="contract.http", domain="http", description="POST /v1/reports")]
    for name in NAMES:
        registry.remove(name)


@pytest.fixture
def document(contracts) -> dict[str, Any]:
    return asyncapi(contracts, title="an app", version="1.2", prefix="cfx", server="nats://user:word@127.0.0.1:4222")


def payload_of(document: dict[str, Any], message: str) -> jsonschema.Draft7Validator:
    """A validator of one message's payload, with the document's own definitions."""
    payload = document["components"]["messages"][message]["payload"]
    return jsonschema.Draft7Validator({**payload, "components": document["components"]})


@pytest.mark.needs("npm")
def test_the_document_is_valid(document):
    """The official schema of AsyncAPI 3.0.0 accepts the document, and refuses it where something is missing."""
    official = jsonschema.Draft7Validator(asyncapi_schema())

    assert [error.message for error in official.iter_errors(document)] == []
    assert not official.is_valid({**document, "info": {"title": "no version"}})


def test_every_reference_leads_somewhere(document):
    """What a message, an operation or a schema refers to is in the document."""
    for reference in set(references(document)):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for each in value.values():
            yield from references(each)


def test_a_worker_receives_commands_and_replies_on_results(document):
    """The document speaks for the worker: the command's operation names the channel of its answers."""
    commands = document["operations"]["contract.search.commands"]

    assert commands["action"] == "receive"
    assert commands["reply"]["channel"] == {"$ref": "#/channels/contract.search.results"}
    assert document["operations"]["contract.search.results"]["action"] == "send"
    address = document["channels"]["contract.search.commands"]["address"]
    assert address == "cfx.{shard}.{tenant}.{user}.tool.contract-search.{run}.{callid}.invoke"
    assert document["components"]["messages"]["contract.search.tool.invoke"]["description"] == "Find pages."


def test_a_server_is_told_without_who_logs_in(document):
    """Host and protocol only."""
    assert document["servers"] == {"bus": {"host": "127.0.0.1:4222", "protocol": "nats"}}
    assert "word" not in json.dumps(document)


@pytest.mark.parametrize(
    ("message", "good", "bad"),
    [
        ("contract.search.tool.invoke", {"arguments": {"query": "a"}, "sealed": {"key": "x"}}, {"arguments": {}}),
        ("contract.search.tool.invoke", {"arguments": {"query": "a", "mode": "b"}}, {"arguments": {"query": 1}}),
        (
            "contract.search.tool.result",
            {"outcome": "value", "value": [{"title": "t", "place": [1, "b"], "next": {"title": "u"}}]},
            {"outcome": "value", "value": [{"title": "t", "next": {"title": 1}}]},
        ),
        (
            "contract.search.tool.result",
            {"outcome": "error", "error": {"type": "ValueError"}},
            {"outcome": "value", "value": [{"place": [1]}]},
        ),
        (
            "contract.read.agent.task.progress",
            {"chunk": 0, "value": {"title": "t"}},
            {"chunk": 0, "value": {"title": 1}},
        ),
        ("contract.read.agent.task.started", {"arguments": {"topic": "t", "more": [1]}}, {"arguments": {"more": [1]}}),
        ("contract.http.http.response", {"outcome": "value", "value": {"status": 200}}, {"outcome": "value"}),
    ],
)
def test_payloads_are_those_of_the_signature(document, message, good, bad):
    """What a seam takes and gives is typed by its own annotations; secrets are no arguments in clear."""
    assert [error.message for error in payload_of(document, message).iter_errors(good)] == []
    assert not payload_of(document, message).is_valid(bad)


def test_what_a_call_really_sends_fits(contracts, document):
    """A payload as the shim writes it is valid: the schema is made of the codec that writes it."""
    codec = registry.get("contract.search").codec
    arguments = json.loads(codec.encode_faithfully({"query": "a", "limit": 3}))
    value = json.loads(codec.encode_result([Hit(title="t", next=Hit(title="u"))]))["value"]

    assert payload_of(document, "contract.search.tool.invoke").is_valid({"arguments": arguments})
    assert payload_of(document, "contract.search.tool.result").is_valid({"outcome": "value", "value": value})


def test_every_event_of_a_call_has_a_payload(contracts):
    """A seam's command, answers, progress and observation are all described, once each."""
    assert list(payloads(contracts[1])) == [
        "agent.task.started",
        "agent.task.completed",
        "agent.task.failed",
        "agent.task.cancelled",
        "agent.task.progress",
        "agent.task.observed",
    ]
