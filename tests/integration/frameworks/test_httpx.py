"""httpx's own clients, real services and a real broker: what the program sees at each stage, and when things break."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import openai
import pytest

from crossfade import shim
from crossfade.adapters.httpx import AsyncSeamTransport, SeamTransport, route
from crossfade.shim.errors import NotExecutedError, OutcomeUnknownError, SeamDefinitionError
from crossfade.shim.http import HttpResponse, StreamedResponse, http_handler
from crossfade.shim.seam import registry
from crossfade.shim.services import services
from integration.shim import kit
from support.model_server import ModelServer, says
from support.web_service import WebService

ANY = "http.any"
STAGES = ("legacy", "observe", "shadow", "canary", "bus")


@pytest.fixture
def service():
    with WebService() as service:
        yield service


def routed(match: str = "GET,POST,PUT /v1/{rest...}", **options):
    return [route(ANY, match, **{"effects": "none", **options})]


@pytest.fixture
def handled():
    """A handler of the seam; the requests it was given."""
    asked = []

    @http_handler(ANY)
    async def any_request(request):
        asked.append(request)
        match request.path:
            case "/v1/fails":
                raise LookupError("the handler's own")
            case "/v1/missing":
                return HttpResponse(404, [("Content-Type", "text/plain")], "none on the bus")
            case "/v1/hangs":
                await asyncio.sleep(10)
            case "/v1/events":

                async def parts():
                    yield b"data: first\n\n"
                    yield b"data: second\n\n"

                return StreamedResponse(HttpResponse(200, [("Content-Type", "text/event-stream")]), parts())
        said = {"by": "bus", "method": request.method, "path": request.target, "got": request.body.decode("latin-1")}
        return HttpResponse.json(said)

    return asked


class Both:
    """The same request by either client."""

    def __init__(self, kind: str, routes, inner=None, **options):
        self._kind, self._routes, self._inner, self._options = kind, routes, inner, options

    def __call__(self, method: str, url: str, **options):
        if self._kind == "sync":
            content = options.get("content")
            if callable(content):
                options["content"] = content()
            with httpx.Client(transport=self._transport(SeamTransport), **self._options) as client:
                return client.request(method, url, **options)
        return asyncio.run(self._aask(method, url, options))

    async def _aask(self, method, url, options):
        content = options.get("content")
        if callable(content):

            async def parts():
                for part in content():
                    yield part

            options["content"] = parts()
        async with httpx.AsyncClient(transport=self._transport(AsyncSeamTransport), **self._options) as client:
            return await client.request(method, url, **options)

    def _transport(self, kind):
        if self._routes is None:
            return httpx.HTTPTransport() if kind is SeamTransport else httpx.AsyncHTTPTransport()
        return kind(self._routes)


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


# -- as without it ----------------------------------------------------------------------------------------------------

CALLS = {
    "an answer": ("GET", "/v1/x?q=1", {}),
    "a body": ("POST", "/v1/x", {"json": {"a": 1}}),
    "a generator": ("POST", "/v1/x", {"content": lambda: iter([b"a", b"b"])}),
    "a form with a file": (
        "POST",
        "/v1/x",
        {"files": {"f": b"data"}, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    ),
    "a status": ("GET", "/v1/missing", {}),
    "a redirect": ("GET", "/v1/moved", {}),
    "a redirect, followed": ("GET", "/v1/moved", {"follow_redirects": True}),
    "a cookie": ("GET", "/v1/cookie", {}),
    "a login": ("GET", "/v1/login", {"auth": lambda: httpx.DigestAuth("u", "p")}),
    "no body": ("HEAD", "/v1/x", {}),
    "a large answer": ("GET", "/v1/large", {}),
    "a cut connection": ("GET", "/v1/cut", {}),
    "half an answer": ("GET", "/v1/half", {}),
    "nonsense": ("GET", "/v1/nonsense", {}),
    "no answer in time": ("GET", "/v1/slow", {"timeout": 0.2}),
    "nobody there": ("GET", "http://127.0.0.1:9/v1/x", {}),
    "a scheme nobody speaks": ("GET", "gopher://127.0.0.1/v1/x", {}),
}


def outcome(ask, url, call):
    """All that a program can tell of what a request gave it."""
    method, path, options = call
    options = {**options, "auth": options["auth"]()} if "auth" in options else options
    address = path if "://" in path else url + path
    try:
        answer = ask(method, address, **options)
    except httpx.HTTPError as error:
        return (
            type(error),
            str(error),
            error.request.url,
            error.request.headers.get("user-agent"),
            type(error.__cause__),
        )
    seen = {name: value for name, value in answer.headers.items() if name != "date"}
    assert answer.elapsed.total_seconds() > 0
    described = answer.status_code, answer.reason_phrase, answer.http_version, seen, answer.content, answer.url
    history = [each.status_code for each in answer.history]
    return *described, history, dict(answer.cookies), answer.request.method, answer.is_closed


@KINDS
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stage", ["legacy", "shadow"])
def test_a_call_is_as_without_the_transport(service, put, kind, call, stage):
    """Answers, redirects, cookies, logins, errors: type, attributes and text are the plain library's."""
    routes = routed("/v1/{rest...}")
    put(stage, ANY, serve=False)
    plain = outcome(Both(kind, None), service.url, CALLS[call])
    service_asked = list(service.asked)

    assert outcome(Both(kind, routes), service.url, CALLS[call]) == plain
    again = service.asked[len(service_asked) :]
    assert [(asked[0], asked[1], asked[3]) for asked in again] == [(a[0], a[1], a[3]) for a in service_asked]


def test_what_no_route_takes_is_the_inner_transports_own_object():
    """Request and answer are the very ones, nothing wrapped."""
    answer = httpx.Response(200, text="x")
    seen = []
    transport = SeamTransport(routed(), httpx.MockTransport(lambda request: seen.append(request) or answer))
    request = httpx.Request("GET", "http://host/other")

    assert transport.handle_request(request) is answer
    assert seen == [request]
    legacy = httpx.Request("GET", "http://host/v1/x")
    assert transport.handle_request(legacy) is answer
    assert seen[1] is legacy


def test_absent_telemetry_leaves_the_answer_as_it_is():
    """Nobody watches: the answer at legacy is the inner transport's own object, with its own body."""
    answers = []

    class Inner(httpx.BaseTransport):
        def handle_request(self, request):
            answers.append(httpx.Response(200, stream=httpx.ByteStream(b"x")))
            answers.append(answers[0].stream)
            return answers[0]

    got = SeamTransport(routed(), Inner()).handle_request(httpx.Request("GET", "http://127.0.0.1/v1/x"))
    assert (got, got.stream) == tuple(answers)


def test_routes_that_cannot_be_meant_are_refused():
    """No match, two that take the same, one seam declared in two ways."""
    with pytest.raises(SeamDefinitionError, match="write METHOD"):
        route("http.a", "POST")
    with pytest.raises(SeamDefinitionError, match="take the same requests"):
        SeamTransport([route("http.b", "GET /x/{a}"), route("http.c", "GET /x/{b}")])
    with pytest.raises(SeamDefinitionError, match="declared twice"):
        route("http.b", "GET /y")
    assert route("http.b", "GET /x/{a}").seam is route("http.b", "GET /x/{a}").seam


@pytest.mark.parametrize(
    ("match", "effects"),
    [("GET /a", "none"), ("PUT /a", "idempotent"), ("POST /a", "unsafe"), ("/a", "unsafe"), ("GET,POST /a", "unsafe")],
)
def test_effects_are_the_methods_unless_said(match, effects):
    """As of a proxied route."""
    assert route("http.effects", match).seam.policy.effects == effects


# -- what a stage adds ------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_answers(service, put, handled, kind, stage):
    """The service to shadow, the handler from canary on; a streamed request body arrives whole on either side."""
    routes = routed()
    put(stage, ANY)
    with shim.correlate(user="alice"):
        answer = Both(kind, routes)("POST", f"{service.url}/v1/x?q=1", content=lambda: iter([b"a", b"b"]))

    by = "bus" if stage in ("canary", "bus") else "service"
    assert answer.json() == {"by": by, "method": "POST", "path": "/v1/x?q=1", "got": "ab"}
    assert len(service.asked) == (by == "service")
    if stage == "shadow":
        kit.until(lambda: len(handled) == 1)
        assert handled[0].body == b"ab"


@KINDS
def test_an_observation_holds_request_and_answer_and_no_secret(service, put, kind):
    """Redacted before it leaves the process, under the correlation of the call."""
    routes = routed()
    connected = put("observe", ANY, serve=False)
    with shim.correlate(run="run-7", user="alice"):
        Both(kind, routes)("POST", f"{service.url}/v1/x", json={"a": 1}, headers={"Authorization": "Bearer lion-5d0c"})

    (event,) = kit.observed(connected)
    said = kit.payload(event)
    assert (event.type, event.get("correlationid"), event.get("userid")) == ("http.observed", "run-7", "alice")
    assert said["arguments"]["method"] == "POST"
    assert json.loads(said["arguments"]["text"]) == {"a": 1}
    assert said["value"]["status"] == 200
    assert b"lion-5d0c" not in (event.data or b"")


@KINDS
def test_an_error_is_observed(put, kind):
    """A service that is gone is an outcome, too."""
    routes = routed()
    connected = put("observe", ANY, serve=False)
    with pytest.raises(httpx.ConnectError):
        Both(kind, routes)("GET", "http://127.0.0.1:9/v1/x")

    assert kit.payload(kit.observed(connected)[0])["error"]["type"] == "httpx.ConnectError"


@KINDS
def test_the_service_is_told_run_and_trace(service, put, kind):
    """On legacy requests, unless the program says its own; without a run nothing is added."""
    routes = routed()
    put("observe", ANY, serve=False)
    ask = Both(kind, routes)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with shim.correlate(run="run-7", traceparent=trace):
        ask("GET", f"{service.url}/v1/x")
        ask("GET", f"{service.url}/v1/x", headers={"X-Correlation-Id": "own"})
        ask("GET", f"{service.url}/other")
    ask("GET", f"{service.url}/v1/x")

    told = [(headers.get("X-Correlation-Id"), headers.get("traceparent")) for _, _, headers, _ in service.asked]
    assert told == [("run-7", trace), ("own", trace), (None, None), (None, None)]


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["legacy", "observe", "shadow"])
def test_a_stream_is_not_held_back(service, put, stage):
    """The first event is there while the service still waits to send the second."""
    routes = routed()
    put(stage, ANY, serve=False)
    with (
        httpx.Client(transport=SeamTransport(routes)) as client,
        client.stream("GET", f"{service.url}/v1/events") as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "data: first"
        service.go.set()
        assert [line for line in lines if line] == ["data: second"]


async def test_an_async_stream_is_not_held_back(service, put):
    """See above."""
    routes = routed()
    await asyncio.to_thread(put, "shadow", ANY, serve=False)
    async with (
        httpx.AsyncClient(transport=AsyncSeamTransport(routes)) as client,
        client.stream("GET", f"{service.url}/v1/events") as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "data: first"
        service.go.set()
        assert [line async for line in lines if line] == ["data: second"]


@KINDS
def test_a_stream_over_the_bus(service, put, handled, kind):
    """A handler's parts come as a body."""
    routes = routed()
    put("bus", ANY)
    answer = Both(kind, routes)("GET", f"{service.url}/v1/events", headers={"Accept": "text/event-stream"})

    assert answer.text == "data: first\n\ndata: second\n\n"
    assert answer.headers["content-type"] == "text/event-stream"
    assert service.asked == []


def test_a_stream_that_is_left_is_no_observation(service, put, counts):
    """Nothing is told of a service whose answer nobody took; it is counted."""
    routes = routed()
    put("observe", ANY, serve=False)
    with (
        httpx.Client(transport=SeamTransport(routes)) as client,
        client.stream("GET", f"{service.url}/v1/events") as answer,
    ):
        next(answer.iter_raw())
    service.go.set()
    assert counts.get("skipped", seam=ANY, reason="client-left") == 1


# -- over the bus, when things break ----------------------------------------------------------------------------------


@KINDS
def test_a_handlers_answer_is_an_answer(service, put, handled, kind):
    """A status of its own is raised for by the program, and an error of its own is a 502 that tells nothing of it."""
    routes = routed()
    put("bus", ANY)
    ask = Both(kind, routes)

    missing = ask("GET", f"{service.url}/v1/missing")
    assert (missing.status_code, missing.reason_phrase, missing.text) == (404, "Not Found", "none on the bus")
    with pytest.raises(httpx.HTTPStatusError, match="404 Not Found"):
        missing.raise_for_status()
    failed = ask("GET", f"{service.url}/v1/fails")
    assert failed.status_code == 502
    assert "own" not in failed.text
    assert service.asked == []


@KINDS
def test_a_large_body_travels_and_a_larger_one_stays(service, put, handled, counts, kind):
    """Over 256 KiB by claim check; over 8 MiB the service is asked, and gets every byte."""
    routes = routed()
    put("bus", ANY)
    ask = Both(kind, routes)

    assert len(ask("POST", f"{service.url}/v1/x", content=b"y" * 600_000).json()["got"]) == 600_000
    assert service.asked == []
    parts = [b"z" * 1_000_000] * 9
    ask("POST", f"{service.url}/v1/x", content=lambda: iter(parts))
    assert service.asked[0][3] == b"".join(parts)
    assert counts.get("skipped", seam=ANY, reason="too-large") == 1


@KINDS
def test_without_a_worker_the_service_answers_where_that_is_legal(service, put, kind):
    """A read falls back after its deadline, which is the client's when that is shorter."""
    routes = routed()
    put("bus", ANY, serve=False)
    began = time.monotonic()

    assert Both(kind, routes, timeout=0.5)("GET", f"{service.url}/v1/x").json()["by"] == "service"
    assert time.monotonic() - began < 10  # of the policy's thirty seconds


@KINDS
def test_an_unsafe_request_whose_end_nobody_knows_is_a_read_timeout(service, put, handled, kind):
    """It is not sent to the service, too: the handler may have run."""
    routes = routed(effects="unsafe")
    put("bus", ANY, unsafe_storage=True)

    with pytest.raises(httpx.ReadTimeout) as raised:
        Both(kind, routes, timeout=0.5)("POST", f"{service.url}/v1/hangs")
    assert isinstance(raised.value.__cause__, OutcomeUnknownError)
    assert raised.value.request.url == f"{service.url}/v1/hangs"
    assert service.asked == []


@KINDS
def test_what_was_not_run_and_may_not_fall_back_is_a_connect_error(service, put, kind):
    """Which is what a program may safely repeat."""
    routes = routed(effects="unsafe", fallback="raise")
    put("bus", ANY, serve=False, unsafe_storage=True)

    with pytest.raises((httpx.ConnectError, httpx.ReadTimeout)) as raised:
        Both(kind, routes, timeout=0.5)("POST", f"{service.url}/v1/x")
    assert isinstance(raised.value.__cause__, NotExecutedError | OutcomeUnknownError)
    assert service.asked == []


@KINDS
def test_an_idempotency_key_is_one_execution(service, put, handled, kind):
    """Asked again with its key, the same answer comes back, and nothing runs again; another request is refused."""
    routes = routed(effects="unsafe")
    put("bus", ANY, unsafe_storage=True)
    ask = Both(kind, routes)
    keyed = {"Idempotency-Key": "k-1"}
    first = ask("POST", f"{service.url}/v1/x", content=b"1", headers=keyed)
    again = ask("POST", f"{service.url}/v1/x", content=b"1", headers=keyed)
    other = ask("POST", f"{service.url}/v1/x", content=b"2", headers=keyed)

    assert first.json() == again.json()
    assert len(handled) == 1
    assert other.status_code == 422


@KINDS
def test_a_key_that_the_service_answers_under_is_claimed(service, put, kind):
    """At canary, outside the share: the service's answer is kept for whoever asks again, and it is asked once."""
    routes = routed(effects="unsafe")
    connected = put("observe", ANY, serve=False)
    live = {"stage": "canary", "percent": 0, "unsafe_storage": True, "effects": "unsafe"}
    kit.set_live(connected, ANY, live)
    kit.until(lambda: type(routes[0].seam.route).__name__ == "Split")
    ask = Both(kind, routes)
    keyed = {"Idempotency-Key": "k-1"}

    with shim.correlate(user="alice"):
        first, again = (ask("POST", f"{service.url}/v1/x", content=b"1", headers=keyed) for _ in range(2))
        assert first.json() == again.json() == {"by": "service", "method": "POST", "path": "/v1/x", "got": "1"}
        assert service.count("/v1/x") == 1
        assert ask("POST", f"{service.url}/v1/other", content=b"1").json()["by"] == "service"
        assert service.asked[-1][2]["Idempotency-Key"] not in ("", "k-1")  # which the handler would be told, too
        assert len(kit.read(connected, "{p}.*.*.*.*.*.*.*.own")) == 1  # claimed: the one with a key of the program's
        with pytest.raises(httpx.RemoteProtocolError):
            ask("POST", f"{service.url}/v1/cut", headers={"Idempotency-Key": "k-2"})


@KINDS
def test_a_handler_that_asks_the_service_by_the_same_client_gets_it(service, put, kind):
    """Its own seam's requests pass through, else it would wait for itself."""
    routes = routed()

    @http_handler(ANY)
    async def through(request):
        async with httpx.AsyncClient(transport=AsyncSeamTransport(routes)) as client:
            answer = await client.get(f"{service.url}{request.target}")
        return HttpResponse.json({"through": answer.json()})

    put("bus", ANY)
    assert Both(kind, routes)("GET", f"{service.url}/v1/x").json()["through"]["by"] == "service"


def test_a_worker_passes_over_routes_without_a_handler(put):
    """A module with routes may have seams to serve; of the routes it serves those that have a handler."""
    routed()
    route("http.unhandled", "GET /elsewhere")

    @http_handler(ANY)
    async def handler(_request):
        return HttpResponse(204)

    names = {service.name for service in services(registry)}
    assert ANY in names
    assert "http.unhandled" not in names
    with pytest.raises(SeamDefinitionError, match="serve it with a handler"):
        services(registry, ["http.unhandled"])


# -- in use -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["legacy", "shadow"])
def test_the_openai_sdk(put, stage):
    """Its client takes ours, and a streamed completion is as it was."""
    routes = [route("http.model", "POST /v1/chat/completions")]
    put(stage, "http.model", serve=False)
    with (
        ModelServer(says("hello there"), says("hello again")) as server,
        httpx.Client(transport=SeamTransport(routes)) as client,
        openai.OpenAI(base_url=server.url, api_key="-", http_client=client) as sdk,
    ):
        asked = {"model": "test", "messages": [{"role": "user", "content": "?"}]}
        assert sdk.chat.completions.create(**asked).choices[0].message.content == "hello there"
        parts = [part.choices[0].delta.content or "" for part in sdk.chat.completions.create(**asked, stream=True)]
        assert "".join(parts) == "helloagain"
