"""Requests of httpx clients and requests sessions as calls in a trace: what a collector gets of them."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import requests

from crossfade.adapters.httpx import AsyncSeamTransport, SeamTransport, route
from crossfade.adapters.requests import SeamAdapter
from crossfade.shim import correlate
from integration.telemetry.test_spans import user_span
from support.web_service import WebService


@pytest.fixture(scope="module")
def service():
    with WebService() as service:
        yield service


@pytest.fixture(scope="module")
def routes(world):
    """One seam at each of the stages that differ; the worker has handlers for the last two."""
    return [
        route("http.legacy", "GET /legacy/{rest...}", effects="none"),
        route("http.compared", "GET /compared/{rest...}", effects="none", stage="shadow"),
        route("http.weather", "GET /bus/{rest...}", effects="none", stage="bus"),
        route("http.slow", "GET /slow/{rest...}", effects="none", stage="bus", timeout=0.3, fallback="raise"),
        route("http.nowhere", "GET /nowhere/{rest...}", effects="none", stage="bus", timeout=0.3),
    ]


def by_httpx(routes, url):
    with httpx.Client(transport=SeamTransport(routes)) as client:
        return client.get(url)


def by_async_httpx(routes, url):
    async def ask():
        async with httpx.AsyncClient(transport=AsyncSeamTransport(routes)) as client:
            return await client.get(url)

    return asyncio.run(ask())


def by_requests(routes, url):
    with requests.Session() as session:
        session.mount("http://", SeamAdapter(routes))
        return session.get(url)


CLIENTS = pytest.mark.parametrize("ask", [by_httpx, by_async_httpx, by_requests])


@CLIENTS
def test_a_request_over_the_bus_is_one_trace(world, service, routes, ask):
    """User > call > producer > consumer, as of a decorated function; and the same metric."""
    with user_span(world) as (trace, user), correlate(run="r1"):
        assert ask(routes, f"{service.url}/bus/oslo").text == "/bus/oslo"

    spans = world.collector.trace(trace, 4)
    call, send = spans["caller call http.weather"], spans["caller publish http.http-weather"]
    run = spans["worker process http.http-weather"]
    assert (call.parent, send.parent, run.parent) == (user, call.id, send.id)
    assert call.kind == "INTERNAL"
    assert call.attributes == {
        "crossfade.callid": send.attributes["crossfade.callid"],
        "crossfade.outcome": "value",
        "crossfade.path": "bus",
        "crossfade.seam": "http.weather",
        "crossfade.stage": "bus",
        "messaging.message.conversation_id": "r1",
    }
    world.providers[1].force_flush()
    told = [attributes for attributes, _ in world.collector.points["crossfade.call.duration"]]
    assert {
        "crossfade.seam": "http.weather",
        "crossfade.path": "bus",
        "crossfade.stage": "bus",
        "crossfade.outcome": "value",
    } in told
    names = [a.get("gen_ai.tool.name") for a, _ in world.collector.points["gen_ai.execute_tool.duration"]]
    assert "http.weather" not in names  # a request is no tool's execution


@CLIENTS
def test_the_service_goes_on_in_the_trace(world, service, routes, ask):
    """Where the service answers, it is told the call's span: its own spans hang below it."""
    with user_span(world) as (trace, user):
        assert ask(routes, f"{service.url}/legacy/x").status_code == 200

    call = world.collector.trace(trace, 2)["caller call http.legacy"]
    assert (call.parent, call.attributes["crossfade.path"]) == (user, "legacy")
    assert service.asked[-1][2]["traceparent"].startswith(f"00-{trace}-{call.id}-")


@CLIENTS
def test_a_shadow_is_linked_to_the_request(world, service, routes, ask):
    """The service answers in the user's trace; the handler's run is a trace of its own, linked to the call."""
    with user_span(world) as (trace, _):
        ask(routes, f"{service.url}/compared/x")

    call = world.collector.trace(trace, 2)["caller call http.compared"]
    shadow = world.collector.linked_to(call)
    assert (shadow.service, shadow.parent) == ("worker", "")


@CLIENTS
def test_what_went_wrong_is_on_the_call(world, service, routes, ask):
    """A handler that raises is a 502 to the program and an error to telemetry; so is what nobody knows."""
    with user_span(world) as (trace, _):
        assert ask(routes, f"{service.url}/bus/fails").status_code == 502
    failed = world.collector.trace(trace, 4)["caller call http.weather"]
    assert (failed.failed, failed.attributes["error.type"]) == (True, "LookupError")

    with user_span(world) as (trace, _), pytest.raises((httpx.ReadTimeout, requests.ReadTimeout)):
        ask(routes, f"{service.url}/slow/x")
    unknown = world.collector.trace(trace, 4)["caller call http.slow"]
    assert (unknown.attributes["crossfade.outcome"], unknown.failed) == ("unknown", True)


@CLIENTS
def test_a_fallback_is_named(world, service, routes, ask):
    """Nobody serves the seam, so the service answers: the call took the path ``fallback``."""
    with user_span(world) as (trace, _):
        assert ask(routes, f"{service.url}/nowhere/x").status_code == 200

    call = world.collector.trace(trace, 3)["caller call http.nowhere"]
    assert (call.attributes["crossfade.path"], call.attributes["crossfade.outcome"]) == ("fallback", "value")


@CLIENTS
def test_an_error_of_the_service_is_on_the_call(world, routes, ask):
    """Nobody listens there."""
    with user_span(world) as (trace, _), pytest.raises((httpx.ConnectError, requests.ConnectionError)):
        ask(routes, "http://127.0.0.1:1/legacy/x")

    call = world.collector.trace(trace, 2)["caller call http.legacy"]
    assert (call.failed, call.attributes["crossfade.outcome"]) == (True, "error")


def test_an_answer_that_is_left_ends_its_call(world, service, routes):
    """Whoever closes an answer before its end has had enough: no error, and no span that never ends."""
    with user_span(world) as (first, _), httpx.Client(transport=SeamTransport(routes)) as client:
        client.send(client.build_request("GET", f"{service.url}/legacy/x"), stream=True).close()
    with user_span(world) as (second, _), requests.Session() as session:
        session.mount("http://", SeamAdapter(routes))
        session.get(f"{service.url}/legacy/x", stream=True).close()

    for trace in (first, second):
        call = world.collector.trace(trace, 2)["caller call http.legacy"]
        assert (call.failed, call.attributes["crossfade.outcome"]) == (False, "value")
