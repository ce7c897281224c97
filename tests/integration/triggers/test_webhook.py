"""Webhooks over HTTP: signed requests in, durable facts out, and every refusal in HTTP's own words."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from crossfade.adapters.triggers.signatures import SCHEMES
from crossfade.adapters.triggers.webhook import Receiver, Webhook, WebhookServer, application
from crossfade.shim.errors import ConfigurationError
from plugins.nats import until
from unit.triggers.test_signatures import signed


def server(world, scheme="standard", **settings):
    settings = {"path": "/in", "scheme": scheme, "secrets": (b"key",), **settings}
    return WebhookServer(("127.0.0.1", 0), {"/in": Receiver(Webhook(**settings), world.intake())}, name="orders")


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=20, trust_env=False) as opened:
        yield opened


def headers(scheme, body, **more):
    return signed(scheme, body, at=int(time.time()), **more)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_signed_delivery_is_a_fact_once(world, client, counts, scheme):
    """202 with the fact's id, and again, as a duplicate, for the retry; one fact, with the body and whose it is."""
    body = b'{"id": "evt_1", "event_id": "Ev1", "total": 12.5}'
    async with world.running(server(world, scheme, tenant="acme", user="alice@example.com")) as where:
        answers = [
            (await client.post(where["orders"], content=body, headers=headers(scheme, body, ident="d1"))) for _ in "ab"
        ]

    assert [(answer.status_code, answer.json()["duplicate"]) for answer in answers] == [(202, False), (202, True)]
    (fact,) = await world.facts("webhook.received", tenant="acme")
    assert fact.id == answers[0].json()["id"] == answers[1].json()["id"]
    assert (fact.get("userid"), fact.source) == ("alice@example.com", "urn:crossfade:trigger:orders")
    data = await world.data(fact)
    assert data["data"] == json.loads(body)
    assert data["scheme"] == scheme
    assert b"key" not in (fact.data or b"")
    assert counts.get("trigger-duplicate", seam="orders", reason="remembered") == 1


async def test_a_retry_days_later_is_a_duplicate_still(world, client, monkeypatch):
    """The bus forgets an id after ten minutes; what the trigger remembers does not depend on that."""
    async with world.running(server(world)) as where:
        first = await client.post(where["orders"], content=b"{}", headers=headers("standard", b"{}"))

        async def publish(*_args, **_kwargs):
            raise AssertionError("published again")

        monkeypatch.setattr(world.bus, "publish", publish)
        again = await client.post(where["orders"], content=b"{}", headers=headers("standard", b"{}"))

    assert (first.json()["duplicate"], again.status_code, again.json()["duplicate"]) == (False, 202, True)


async def test_a_bad_signature_is_401_and_no_fact(world, client, counts, caplog):
    """Counted by reason; neither body nor secret is logged."""
    body = b'{"card": "4242"}'
    good = headers("standard", body)
    async with world.running(server(world)) as where:
        tries = [
            ({}, "missing"),
            ({**good, "webhook-signature": "v1,AAAA"}, "mismatch"),
            ({**good, "webhook-signature": "nonsense"}, "malformed"),
            (signed("standard", body, at=int(time.time()) - 3600), "stale"),
        ]
        for sent, reason in tries:
            answer = await client.post(where["orders"], content=body, headers=sent)
            assert (answer.status_code, answer.json()["reason"]) == (401, reason)
            assert counts.get("trigger-refused", seam="orders", reason=reason) == 1

        await client.post(where["orders"], content=body)  # the first reason again, within the minute

    assert await world.facts("webhook.received") == []
    assert "4242" not in caplog.text
    said = [record.getMessage() for record in caplog.records if "refused with 401" in record.getMessage()]
    assert len(said) == len(tries), said


async def test_a_body_too_large_is_413(world, client):
    """Announced or sent in chunks without a word, more than the limit is refused before it is all in memory."""

    async def chunks():
        for _ in range(100):
            yield b"x" * 1000

    async with world.running(server(world, max_bytes=1000)) as where:
        announced = await client.post(where["orders"], content=b"x" * 1001)
        chunked = await client.post(where["orders"], content=chunks())
        exact = b"x" * 1000
        fits = await client.post(where["orders"], content=exact, headers=headers("standard", exact))

    assert (announced.status_code, chunked.status_code, fits.status_code) == (413, 413, 202)


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        (b"payload=%7B%7D", "text", "payload=%7B%7D"),
        (b"\xff\xfe", "body", "//4="),
        (b"", "text", ""),
        (b"null", "data", None),
        (b'{"a": NaN}', "text", '{"a": NaN}'),
        (b"[" * 50_000, "text", "[" * 50_000),
    ],
)
async def test_whatever_is_signed_arrives_whole(world, client, body, name, value):
    """A body that is no JSON, or that nobody should parse, travels as it is."""
    async with world.running(server(world)) as where:
        answer = await client.post(where["orders"], content=body, headers=headers("standard", body))

    assert answer.status_code == 202
    (fact,) = await world.facts("webhook.received")
    assert (await world.data(fact))[name] == value


async def test_a_large_body_is_a_claim_check(world, client):
    """Above 256 KiB the fact says where its data lies, and the data is whole."""
    body = json.dumps({"text": "x" * 400_000}).encode()
    async with world.running(server(world)) as where:
        assert (await client.post(where["orders"], content=body, headers=headers("standard", body))).status_code == 202

    (fact,) = await world.facts("webhook.received")
    assert fact.data is None
    assert (await world.data(fact))["data"] == json.loads(body)


async def test_greetings_are_answered_and_are_no_facts(world, client):
    """GitHub's ping and Slack's challenge get 200, if they are signed."""
    ping = headers("github", b"{}") | {"x-github-event": "ping"}
    async with world.running(server(world, "github")) as where:
        assert (await client.post(where["orders"], content=b"{}", headers=ping)).status_code == 200
    challenge = b'{"type": "url_verification", "challenge": "3eZb"}'
    async with world.running(server(world, "slack")) as where:
        answer = await client.post(where["orders"], content=challenge, headers=headers("slack", challenge))
        forged = await client.post(where["orders"], content=challenge)

    assert (answer.status_code, answer.json(), forged.status_code) == (200, {"challenge": "3eZb"}, 401)
    assert await world.facts("webhook.received") == []


async def test_the_cloudevents_handshake_is_answered(world, client):
    """OPTIONS with an origin gets it back, and a rate (CloudEvents HTTP webhook 1.0.1, section 4.2)."""
    asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    async with world.running(server(world)) as where:
        answer = await client.options(where["orders"], headers=asked)
        other = [
            (await client.get(where["orders"])).status_code,
            (await client.post(where["orders"] + "x")).status_code,
        ]

    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "eventemitter.example.com"
    assert answer.headers["webhook-allowed-rate"] == "120"
    assert answer.headers["allow"] == "POST"
    assert other == [405, 404]


async def test_a_bus_that_is_away_is_503_and_the_retry_is_taken(worlds, broker, client):
    """What was refused is not there, what was accepted is: after the broker's return the sender's retry is a fact."""
    world = await worlds(broker.url)
    async with world.running(server(world)) as where:
        before = await client.post(where["orders"], content=b"1", headers=headers("standard", b"1", ident="a"))
        broker.stop()
        refused = await client.post(where["orders"], content=b"2", headers=headers("standard", b"2", ident="b"))
        broker.start()
        await until(lambda: world.bus.connected)

        async def taken():
            answer = await client.post(where["orders"], content=b"2", headers=headers("standard", b"2", ident="b"))
            return answer.status_code == 202 and answer

        again = await until(taken, 20)

    assert (before.status_code, refused.status_code, refused.headers["retry-after"]) == (202, 503, "5")
    assert again.json()["duplicate"] in (False, True)  # a publish in doubt may have landed
    assert [(await world.data(fact))["data"] for fact in await world.facts("webhook.received")] == [1, 2]


async def test_a_stop_lets_a_request_in_hand_end(world, client, monkeypatch):
    """The delivery that is being stored when SIGTERM comes gets its 202."""
    storing, go_on = asyncio.Event(), asyncio.Event()
    publish = world.bus.publish

    async def slowly(*args, **kwargs):
        storing.set()
        await go_on.wait()
        return await publish(*args, **kwargs)

    monkeypatch.setattr(world.bus, "publish", slowly)
    async with world.running(server(world)) as where:
        asking = asyncio.create_task(client.post(where["orders"], content=b"{}", headers=headers("standard", b"{}")))
        await storing.wait()
        where["triggers"].stop()
        go_on.set()
        assert (await asking).status_code == 202


async def test_it_can_be_mounted_in_another_application(world):
    """A receiver is an ASGI application like any other."""
    receiver = Receiver(Webhook(path="/in", scheme="bearer", secrets=(b"key",)), world.intake())
    transport = httpx.ASGITransport(application({"/in": receiver}))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as inside:
        answer = await inside.post("/in", content=b"{}", headers=signed("bearer", b"{}"))

    assert answer.status_code == 202


async def test_an_address_that_is_taken_ends_the_process_and_says_so(world):
    """Nobody would notice one of several ways in that never opened."""
    async with world.running(server(world)) as where:
        port = int(where["orders"].rpartition(":")[2].partition("/")[0])
        second = WebhookServer(("127.0.0.1", port), {}, name="second")
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            async with world.running(second):
                pass
