"""The ASGI middleware around real applications, under a real server."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from crossfade.adapters.asgi import CorrelationMiddleware
from crossfade.shim.errors import ConfigurationError
from integration.frameworks.django_app import told_by
from support import web_servers
from support.correlations import here

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
TRUSTED = {"trusted": ["127.0.0.0/8"], "user": "header:X-User", "tenant": "header:X-Tenant"}


def fastapi(seen: list) -> FastAPI:
    app = FastAPI()

    @app.get("/async")
    async def in_the_loop():
        return await asyncio.create_task(asyncio.to_thread(here))

    @app.get("/plain")
    def in_a_thread(background: BackgroundTasks):
        background.add_task(lambda: seen.append(here()))
        return here()

    @app.get("/stream")
    def stream():
        def parts():
            for _ in range(3):
                yield here()["run"] + "\n"

        return StreamingResponse(parts())

    @app.get("/own")
    async def own():
        return StreamingResponse(iter([b"x"]), headers={"x-correlation-id": "mine"})

    @app.get("/fails")
    async def fails():
        raise LookupError("the application's own")

    return app


@pytest.fixture
def seen():
    return []


@pytest.fixture
def client(seen):
    """Of a FastAPI application that trusts this machine."""
    app = fastapi(seen)
    app.add_middleware(CorrelationMiddleware, **TRUSTED)
    with web_servers.asgi(app) as url, httpx.Client(base_url=url) as client:
        yield client


GIVEN = {"X-User": "alice", "X-Tenant": "acme", "X-Correlation-Id": "run-1", "X-Causation-Id": "c-9"}


@pytest.mark.parametrize("path", ["/async", "/plain"])
def test_a_trusted_peer_says_whose_request_it_is(client, path):
    """User, tenant, run, cause and trace hold in coroutines, tasks and threads, and the answer names the run."""
    answer = client.get(path, headers={**GIVEN, "traceparent": TRACEPARENT, "tracestate": "a=1"})

    found = answer.json()
    assert (found["user"], found["tenant"], found["run"], found["causation"]) == ("alice", "acme", "run-1", "c-9")
    assert (found["traceparent"], found["tracestate"]) == (TRACEPARENT, "a=1")
    assert (answer.headers["x-correlation-id"], answer.headers["traceparent"]) == ("run-1", TRACEPARENT)


def test_it_holds_while_streaming_and_in_background_tasks(client, seen):
    """Each part of a streamed answer, and what runs after it, is of the same run."""
    assert client.get("/stream", headers={"X-Correlation-Id": "r"}).text == "r\n" * 3

    client.get("/plain", headers=GIVEN)
    client.get("/async")  # on the same connection: the task before it has ended
    assert [found["run"] for found in seen] == ["run-1"]


def test_requests_side_by_side_keep_to_themselves(client):
    """Fifty at once: each gets its own run and nobody else's."""

    def ask(number: int):
        got[number] = client.get(("/async", "/plain")[number % 2], headers={"X-Correlation-Id": f"r{number}"}).json()

    got: dict[int, dict] = {}
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {number: found["run"] for number, found in got.items()} == {number: f"r{number}" for number in range(50)}


def test_a_stranger_names_nobody(seen, counts):
    """From a peer that is not trusted, names and run are passed over and counted; the trace links all the same."""
    app = CorrelationMiddleware(fastapi(seen), user="header:X-User", trusted=["10.0.0.0/8"])
    with web_servers.asgi(app) as url:
        answer = httpx.get(f"{url}/async", headers={**GIVEN, "traceparent": TRACEPARENT})

    found = answer.json()
    assert (found["user"], found["causation"], found["traceparent"]) == (None, None, TRACEPARENT)
    assert found["run"] not in ("run-1", TRACE)
    assert answer.headers["x-correlation-id"] == found["run"]
    assert [counts.get("skipped", reason=f"{what}-untrusted") for what in ("user", "run", "cause")] == [1, 1, 1]


def test_a_trusted_trace_is_the_run(client):
    """Without a name of its own, a run is called as its trace."""
    assert client.get("/async", headers={"traceparent": TRACEPARENT}).json()["run"] == TRACE


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("X-User", "a"), ("X-User", "b")], "user-twice"),
        ([("X-User", "a" * 1025)], "user-unreadable"),
        ([("X-User", b"\xff")], "user-unreadable"),
    ],
)
def test_what_names_nobody_fails_no_request(client, counts, headers, reason):
    """A name that is there twice or cannot be carried is nobody's, counted."""
    answer = client.get("/async", headers=headers)

    assert (answer.status_code, answer.json()["user"]) == (200, None)
    assert counts.get("skipped", reason=reason) == 1


def test_a_callable_names_the_user_and_may_fail(seen, counts):
    """What it answers is believed; what it raises is logged, counted, and names nobody."""

    def user(scope):
        return {"/async": "bob"}[scope["path"]]

    with web_servers.asgi(CorrelationMiddleware(fastapi(seen), user=user)) as url:
        assert httpx.get(f"{url}/async").json()["user"] == "bob"
        assert httpx.get(f"{url}/plain").json()["user"] is None
    assert counts.get("failed", reason="user-source") == 1


def test_the_applications_own_fields_and_errors_stay(client):
    """A run that the application names itself is not named twice, and its error becomes what it was."""
    assert client.get("/own").headers.get_list("x-correlation-id") == ["mine"]
    assert client.get("/fails").status_code == 500


def test_django_by_asgi():
    """A Django view, plain or async, runs in the request's correlation, and so does what it streams."""
    app = CorrelationMiddleware(told_by("asgi"), **TRUSTED)
    with web_servers.asgi(app) as url, httpx.Client(base_url=url, headers=GIVEN) as client:
        assert client.get("/plain").json()["user"] == client.get("/async").json()["user"] == "alice"
        assert client.get("/astream").text == "run-1\n" * 3
        assert client.get("/plain").headers["x-correlation-id"] == "run-1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"user": "X-User"}, "write header:NAME"),
        ({"trusted": ["localhost"]}, "write an address"),
        ({"trusted": "10.0.0.1"}, "write a list"),
    ],
)
def test_what_cannot_be_meant_is_said_at_start(options, text):
    """A source or a peer that is none is a configuration error that says what to write."""
    with pytest.raises(ConfigurationError, match=text):
        CorrelationMiddleware(FastAPI(), **options)
