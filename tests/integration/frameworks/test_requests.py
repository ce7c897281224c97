"""requests' own sessions, real services and a real broker: what a program sees at each stage, and in trouble."""

from __future__ import annotations

import asyncio
import io

import pytest
import requests
from requests.auth import HTTPDigestAuth

from crossfade import shim
from crossfade.adapters.requests import SeamAdapter, route
from crossfade.shim.errors import OutcomeUnknownError
from crossfade.shim.http import HttpResponse, StreamedResponse, http_handler
from integration.shim import kit
from support.web_service import WebService

ANY = "http.any"
STAGES = ("legacy", "observe", "shadow", "canary", "bus")


@pytest.fixture
def service():
    with WebService() as service:
        yield service


def routed(match: str = "/v1/{rest...}", **options):
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


def session(routes) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    if routes is not None:
        made.mount("http://", SeamAdapter(routes))
    return made


def ask(routes, method: str, url: str, **options):
    with session(routes) as made:
        return made.request(method, url, **options)


CALLS = {
    "an answer": lambda: ("GET", "/v1/x?q=1", {}),
    "a body": lambda: ("POST", "/v1/x", {"json": {"a": 1}}),
    "a generator": lambda: ("POST", "/v1/x", {"data": iter([b"a", b"b"])}),
    "a file": lambda: ("POST", "/v1/x", {"data": io.BytesIO(b"data")}),
    "a status": lambda: ("GET", "/v1/missing", {}),
    "a redirect": lambda: ("GET", "/v1/moved", {"allow_redirects": False}),
    "a redirect, followed": lambda: ("GET", "/v1/moved", {}),
    "a cookie": lambda: ("GET", "/v1/cookie", {}),
    "a login": lambda: ("GET", "/v1/login", {"auth": HTTPDigestAuth("u", "p")}),
    "no body": lambda: ("HEAD", "/v1/x", {}),
    "a large answer": lambda: ("GET", "/v1/large", {}),
    "a cut connection": lambda: ("GET", "/v1/cut", {}),
    "half an answer": lambda: ("GET", "/v1/half", {}),
    "nonsense": lambda: ("GET", "/v1/nonsense", {}),
    "no answer in time": lambda: ("GET", "/v1/slow", {"timeout": 0.2}),
    "nobody there": lambda: ("GET", "http://127.0.0.1:9/v1/x", {}),
}


def outcome(routes, url, call):
    """All that a program can tell of what a request gave it."""
    method, path, options = CALLS[call]()
    try:
        with session(routes) as made:
            answer = made.request(method, path if "://" in path else url + path, **options)
            jar = dict(made.cookies)
    except requests.RequestException as error:
        text = str(error).split("0x", maxsplit=1)[0]  # an object's address
        request = error.request
        return type(error), text, request and request.url, request and sorted(request.headers.items())
    seen = {name: value for name, value in answer.headers.items() if name != "Date"}
    described = answer.status_code, answer.reason, seen, answer.content, answer.url, answer.encoding, jar
    return *described, [each.status_code for each in answer.history], answer.request.method, answer.ok


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stage", ["legacy", "shadow"])
def test_a_call_is_as_without_the_adapter(service, put, call, stage):
    """Answers, redirects, cookies, logins, errors: type, attributes and text are the plain library's."""
    routes = routed()
    put(stage, ANY, serve=False)
    plain = outcome(None, service.url, call)
    first = len(service.asked)

    assert outcome(routes, service.url, call) == plain
    told = [(method, path, body) for method, path, _, body in service.asked]
    assert told[first:] == told[:first]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_answers(service, put, handled, stage):
    """The service to shadow, the handler from canary on; a streamed request body arrives whole on either side."""
    routes = routed()
    put(stage, ANY)
    with shim.correlate(user="alice"):
        answer = ask(routes, "POST", f"{service.url}/v1/x?q=1", data=iter([b"a", b"b"]))

    by = "bus" if stage in ("canary", "bus") else "service"
    assert answer.json() == {"by": by, "method": "POST", "path": "/v1/x?q=1", "got": "ab"}
    assert len(service.asked) == (by == "service")
    if stage == "shadow":
        kit.until(lambda: len(handled) == 1)
        assert handled[0].body == b"ab"


@pytest.mark.parametrize("stream", [False, True])
def test_an_observation_holds_request_and_answer(service, put, stream):
    """Under the correlation of the call, which the service is told; read at once or by and by."""
    routes = routed()
    connected = put("observe", ANY, serve=False)
    with shim.correlate(run="run-7"), session(routes) as made:
        answer = made.post(f"{service.url}/v1/x", data="body", stream=stream)
        body = b"".join(answer.iter_content(7))

    (event,) = kit.observed(connected)
    said = kit.payload(event)
    assert (event.type, event.get("correlationid")) == ("http.observed", "run-7")
    assert said["arguments"]["body"]
    assert said["value"]["text"].encode() == body
    assert service.asked[0][2]["X-Correlation-Id"] == "run-7"


@pytest.mark.parametrize("stage", ["legacy", "shadow"])
def test_a_stream_is_not_held_back(service, put, stage):
    """The first event is there while the service still waits to send the second."""
    routes = routed()
    put(stage, ANY, serve=False)
    with session(routes) as made, made.get(f"{service.url}/v1/events", stream=True) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"data: first"
        service.go.set()
        assert [line for line in lines if line] == [b"data: second"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stream_over_the_bus(service, put, handled, stream):
    """A handler's parts come as a body, one by one."""
    routes = routed()
    put("bus", ANY)
    with session(routes) as made:
        answer = made.get(f"{service.url}/v1/events", stream=stream, headers={"Accept": "text/event-stream"})
        assert [line for line in answer.iter_lines() if line] == [b"data: first", b"data: second"]
    assert service.asked == []


def test_a_handlers_answer_is_an_answer(service, put, handled):
    """A status of its own is raised for by the program, and an error of its own is a 502 that tells nothing of it."""
    routes = routed()
    put("bus", ANY)

    missing = ask(routes, "GET", f"{service.url}/v1/missing")
    assert (missing.status_code, missing.reason, missing.text) == (404, "Not Found", "none on the bus")
    with pytest.raises(requests.HTTPError, match="404 Client Error: Not Found"):
        missing.raise_for_status()
    failed = ask(routes, "GET", f"{service.url}/v1/fails")
    assert failed.status_code == 502
    assert "own" not in failed.text
    assert service.asked == []


def test_a_body_too_large_for_the_bus_stays(service, put, counts):
    """Over 8 MiB the service is asked, and gets every byte."""
    routes = routed()
    put("bus", ANY, serve=False)
    parts = [b"z" * 1_000_000] * 9
    ask(routes, "POST", f"{service.url}/v1/x", data=iter(parts))

    assert service.asked[0][3] == b"".join(parts)
    assert counts.get("skipped", seam=ANY, reason="too-large") == 1


def test_without_a_worker_the_service_answers_where_that_is_legal(service, put):
    """A read falls back after its deadline, which is the session's when that is shorter."""
    routes = routed()
    put("bus", ANY, serve=False)

    assert ask(routes, "GET", f"{service.url}/v1/x", timeout=(3, 0.5)).json()["by"] == "service"


def test_an_unsafe_request_whose_end_nobody_knows_is_a_read_timeout(service, put, handled):
    """It is not sent to the service, too: the handler may have run."""
    routes = routed(effects="unsafe")
    put("bus", ANY, unsafe_storage=True)

    with pytest.raises(requests.ReadTimeout) as raised:
        ask(routes, "POST", f"{service.url}/v1/hangs", timeout=0.5)
    assert isinstance(raised.value.__cause__, OutcomeUnknownError)
    assert raised.value.request.url == f"{service.url}/v1/hangs"
    assert service.asked == []


def test_an_idempotency_key_is_one_execution(service, put, handled):
    """Asked again with its key, the same answer comes back, and nothing runs again; another request is refused."""
    routes = routed(effects="unsafe")
    put("bus", ANY, unsafe_storage=True)
    first, again, other = (
        ask(routes, "POST", f"{service.url}/v1/x", data=body, headers={"Idempotency-Key": "k-1"})
        for body in (b"1", b"1", b"2")
    )

    assert first.json() == again.json()
    assert len(handled) == 1
    assert other.status_code == 422
