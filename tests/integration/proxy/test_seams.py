"""Routes as seams, on real processes: a service, the proxy, a worker that asks the service, a broker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from crossfade.migrations.cli._session import session
from crossfade.migrations.controller import Controller
from support.commands import Done, crossfade, until

_ROUTES = """
listen: 127.0.0.1:0
upstreams: {legacy: URL, gone: 'http://127.0.0.1:9'}
identity: {user: 'cookie:user'}
routes:
  - {seam: http.search, match: GET /v1/search, upstream: legacy}
  - {seam: http.shadowed, match: GET /v1/shadowed, upstream: legacy}
  - {seam: http.ramp, match: GET /v1/ramp, upstream: legacy}
  - {seam: http.events, match: GET /v1/events, upstream: legacy}
  - {seam: http.reports, match: POST /v1/reports, upstream: legacy, timeout: 3}
  - {seam: http.gone, match: POST /v1/gone, upstream: gone, timeout: 3}
  - {seam: http.again, match: PUT /v1/again, upstream: legacy}
  - {seam: http.unserved, match: GET /v1/unserved, upstream: legacy, timeout: 1}
  - {seam: http.retired, match: POST /v1/retired, upstream: legacy, effects: none, timeout: 5}
  - {seam: http.hits, match: POST /v1/hits, upstream: legacy, effects: none, timeout: 1}
"""


_COOKIE = "a=lion-5d0c77aa-no-word"


class Service(ThreadingHTTPServer):
    """A synchronous service that remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, path: str) -> int:
        return sum(asked[1].startswith(path) for asked in self.asked)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Any

    def log_message(self, *_: object) -> None: ...

    def _asked(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        return body

    def do_GET(self) -> None:
        self._asked()
        if self.path.startswith("/v1/events"):
            self._stream()
        else:
            said = {"path": self.path, "by": self.headers.get("Authorization", "")[::-1]}  # what it says is stored
            self._answer(200, "application/json", json.dumps(said).encode())

    def do_POST(self) -> None:
        body = self._asked()
        if self.path.startswith("/v1/cut"):
            self.close_connection = True  # without an answer
            return
        if self.path.startswith("/v1/slow"):
            self.server.release.wait(30)
        if "cut" in self.path:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" if "half" in self.path else b"")
            self.close_connection = True
            return
        self._answer(201, "application/octet-stream", bytes(reversed(body)))

    def do_PUT(self) -> None:
        body = self._asked()
        if self.server.count("/v1/again") == 1:
            self.server.release.wait(30)  # the first one hangs
        self._answer(200, "application/octet-stream", body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", _COOKIE)
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        if "short" in self.path:
            shadow = self.headers.get("Crossfade-Shadow") is not None
            self.wfile.write(b"data: another\n\n" if shadow and "new" in self.path else b"data: second\n\n")
            return
        self.server.release.wait(10)
        self.wfile.write(b"data: " + b"x" * 200_000 + b"\n\n")
        self.wfile.flush()


class Stack:
    """The processes of one test module."""

    def __init__(self, folder: Any) -> None:
        self.service = Service()
        self.folder = folder
        key = base64.b64encode(b"k" * 32).decode()
        self.env = {
            **os.environ,
            "CROSSFADE_BUS": f"embedded://{folder}/bus?idle=20",
            "CROSSFADE_SEAL_KEY": f"one:{key}",
            "CROSSFADE_BUILD": "7f3c",
            "CROSSFADE_REDACT_KEY": "the same for both sides",
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start_proxy(self, routes: str = _ROUTES) -> subprocess.Popen[str]:
        (self.folder / "routes.yaml").write_text(routes.replace("URL", self.service.url))
        self.proxy = self.start("proxy", "--config", "routes.yaml", "--json")
        self.url = json.loads(self.line(self.proxy))["url"]
        return self.proxy

    def start_worker(self, seams: str, *options: str) -> subprocess.Popen[str]:
        named = [part for name in seams.split() for part in ("--seam", name)]
        worker = self.start("worker", "--http", self.service.url, "--routes", "routes.yaml", *named, *options)
        assert "Serving" in self.line(worker)
        return worker

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "crossfade", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env or self.env, cwd=self.folder)
        self.processes.append(process)
        return process

    @staticmethod
    def line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "crossfade", *arguments]
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.env, cwd=self.folder, timeout=60
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def stage(self, seam: str, stage: str, *options: str) -> None:
        done = self.here("stage", "set", seam, stage, *options, "--force", "--reason", "the test says so")
        assert done.code == 0, done.err

    def here(self, *arguments: str) -> Done:
        """What a command says that runs in this process, which takes a tenth of the time."""
        return crossfade(*arguments, "--bus", self.env["CROSSFADE_BUS"])

    def end(self) -> None:
        self.service.release.set()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=30)
        self.service.shutdown()
        self.service.server_close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start_proxy()
        stack.start_worker("http.search http.shadowed http.ramp http.events http.reports")
        yield stack
    finally:
        stack.end()


@pytest.fixture
def client(stack):
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        yield client


def test_a_route_goes_from_the_upstream_to_the_bus_and_back(stack, client):
    """The client sees the same answer, fields in order and count; only the way there differs."""
    direct = client.get("/v1/search?q=a%20b&q=2")
    stack.stage("http.search", "bus")
    over_bus = client.get("/v1/search?q=a%20b&q=2")
    assert (over_bus.status_code, over_bus.content) == (direct.status_code, direct.content)
    same = {"date", "via"}
    assert [pair for pair in over_bus.headers.multi_items() if pair[0] not in same] == [
        pair for pair in direct.headers.multi_items() if pair[0] not in same
    ]
    assert stack.service.asked[-1][1] == "/v1/search?q=a%20b&q=2"
    assert over_bus.headers.get_list("set-cookie") == [_COOKIE, "b=2"]
    calls = stack.run("events", "tail", "--type", "http.response", "--since", "60s", "--json", "--limit", "1")
    assert json.loads(calls.splitlines()[0])["seam"] == "http.search"
    stack.stage("http.search", "legacy")
    assert client.get("/v1/search?q=back").status_code == 200


def test_a_shadow_is_compared_and_its_caller_waits_for_nothing(stack, client):
    """The worker asks the service a second time, and the verdict says that the answers match."""
    stack.stage("http.shadowed", "shadow")
    for n in range(3):
        client.cookies.clear()  # a request with a cookie is no shadow's: its copy has none
        assert client.get(f"/v1/shadowed?n={n}").status_code == 200
    until(lambda: stack.service.count("/v1/shadowed") == 6)
    until(lambda: '"match"' in stack.run("events", "tail", "--type", "seam.compared", "--since", "60s", "--json"))
    marks = [fields.get("Crossfade-Shadow") for _, path, fields, _ in stack.service.asked if "/shadowed" in path]
    assert sorted(marks, key=str) == ["?1"] * 3 + [None] * 3, "a service cannot tell what is run again"


def test_credentials_reach_the_handler_and_nothing_else(stack, client):
    """A bearer token and a cookie that is set travel sealed; no stream, log or object holds them in clear."""
    token = "tiger-8f3b1c55-not-a-word"
    stack.stage("http.search", "bus")
    answer = client.get("/v1/search?q=auth", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["by"] == f"Bearer {token}"[::-1]
    stack.stage("http.reports", "canary", "--percent", "0")
    kept = [client.post("/v1/reports", headers={"Idempotency-Key": "cookie"}) for _ in range(2)]
    assert [answer.headers.get_list("set-cookie") for answer in (answer, *kept)] == [[_COOKIE, "b=2"]] * 3
    stack.stage("http.search", "observe")
    assert client.get("/v1/search?q=seen", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    until(
        lambda: (
            "/v1/search?q=seen" in stack.run("events", "tail", "--type", "http.observed", "--since", "60s", "--json")
        )
    )
    stored = b"".join(path.read_bytes() for path in (stack.folder / "bus").rglob("*") if path.is_file())
    assert b"/v1/search?q=seen" in stored
    assert token.encode() not in stored
    assert _COOKIE.partition("=")[2].encode() not in stored


def test_answers_with_cookies_keep_a_seam_from_the_bus_where_there_is_no_key(stack):
    """What such an answer says to its client alone could not be stored: the stage is refused, and says the remedy."""
    routes = "listen: 127.0.0.1:0\nupstreams: {legacy: URL}\nroutes: [{seam: http.keyless, match: GET /v1/keyless}]\n"
    (stack.folder / "keyless.yaml").write_text(routes.replace("URL", stack.service.url))
    env = {name: value for name, value in stack.env.items() if name != "CROSSFADE_SEAL_KEY"}
    proxy = stack.start("proxy", "--config", "keyless.yaml", "--json", env=env)
    url = json.loads(stack.line(proxy))["url"]
    stack.stage("http.keyless", "shadow")

    def refused():
        assert httpx.get(f"{url}/v1/keyless").status_code == 200
        moving = stack.here("stage", "set", "http.keyless", "canary", "--percent", "1", "--reason", "none")
        return "set CROSSFADE_SEAL_KEY" in " ".join(moving.err.split())

    until(refused)
    proxy.terminate()


def _events(stack, kind):
    return stack.here("events", "tail", "--type", kind, "--since", "120s", "--json").lines


def test_a_request_with_a_key_is_observed_as_one_without(stack, client):
    """Once, when the upstream answered it, without its credentials; what the ledger answers is no observation."""
    stack.stage("http.reports", "canary", "--percent", "0")
    headers = {"Idempotency-Key": "seen-1", "Authorization": "Bearer panther-1f0e99-no-word"}
    for _ in range(2):
        assert client.post("/v1/reports?seen", json={"n": 1}, headers=headers).status_code == 201
    assert client.post("/v1/reports?seen", json={"n": 1}).status_code == 201

    def seen():
        return [event for event in _events(stack, "http.observed") if "/v1/reports?seen" in json.dumps(event)]

    until(lambda: len(seen()) == 2)
    keyed, plain = (json.dumps(event) for event in seen())
    assert "panther" not in keyed + plain
    assert ('{\\"n\\":1}' in keyed) == ('{\\"n\\":1}' in plain)


@pytest.mark.parametrize("stage", [("bus",), ("canary", "--percent", "0")], ids=["bus", "claim"])
@pytest.mark.parametrize("way", ["cut", "cut-half"])
def test_a_service_that_dies_over_a_request_leaves_nobody_knowing(stack, client, stage, way):
    """It had the request: the call ends as unknown, a retry with its key is told so, and it never runs again."""
    stack.stage("http.reports", *stage)
    path = f"/v1/reports?{way}-{stage[0]}"
    key = {"Idempotency-Key": path.rpartition("?")[2]}
    first = _status(client, path, key)
    assert first in ({504} if stage == ("bus",) else {502, "cut"})
    assert _status(client, path, key) == 504
    assert stack.service.count(path) == 1


def _status(client, path, headers):
    try:
        return client.post(path, headers=headers).status_code
    except httpx.RemoteProtocolError:
        return "cut"


def test_a_service_that_took_no_connection_did_not_run_it(stack, client):
    """A retry with its key may run, and the ledger says of neither try that it did."""
    stack.stage("http.gone", "canary", "--percent", "0")
    for _ in range(2):
        answer = client.post("/v1/gone", headers={"Idempotency-Key": "gone"})
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (502, "upstream-refused")
    ended = [event for event in _events(stack, "http.response") if event["seam"] == "http.gone"]
    assert {event["data"]["outcome"] for event in ended} == {"not-executed"}


def test_a_trace_is_the_clients_to_begin(stack, client):
    """A traceparent goes on as it came, on either path; nobody's sampler is told what it was not told before."""

    def heard(**headers):
        assert client.get("/v1/search?q=trace", headers=headers).status_code == 200
        return stack.service.asked[-1][2].get("traceparent", "")

    mine = f"00-{'a' * 32}-{'b' * 16}-00"
    for stage in ("observe", "bus"):
        stack.stage("http.search", stage)
        assert heard() == ""
        assert heard(traceparent=mine) == mine


def test_events_come_as_they_happen(stack, client):
    """The first piece is there before the service has written the second, which is larger than a message."""
    stack.stage("http.events", "bus")
    stack.service.release.clear()
    with client.stream("GET", "/v1/events") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"data: first\n\n"
        assert answer.headers["content-type"] == "text/event-stream"
        stack.service.release.set()
        rest = b"".join(pieces)
    assert rest == b"data: " + b"x" * 200_000 + b"\n\n"


def test_a_shadow_of_events_is_compared_event_by_event(stack, client):
    """As it ended, whatever pieces it came in; the difference names the event."""
    stack.stage("http.events", "shadow")
    for asked in ("short", "short-and-new"):
        assert client.get(f"/v1/events?{asked}").content == b"data: first\n\ndata: second\n\n"

    def verdicts():
        return [event["data"] for event in _events(stack, "seam.compared") if event["seam"] == "http.events"]

    until(lambda: len(verdicts()) == 2)
    found = sorted(verdicts(), key=lambda each: each["verdict"])
    assert [each["verdict"] for each in found] == ["match", "mismatch"]
    assert [each["path"] for each in found[1]["differences"]] == ["$.body[1].data"]


def test_a_binary_body_arrives_as_it_was(stack, client):
    """Bytes that are no text, both ways."""
    stack.stage("http.reports", "bus")
    body = bytes(range(256)) * 300
    answer = client.post("/v1/reports", content=body, headers={"Content-Type": "application/octet-stream"})
    assert (answer.status_code, answer.content) == (201, bytes(reversed(body)))


def test_a_retry_with_its_key_runs_once_on_either_path(stack, client):
    """The first answer comes again; another request under the key is refused, and another user's is its own."""
    stack.stage("http.reports", "bus")
    client.cookies.clear()
    key = {"Idempotency-Key": "order-1"}
    before = stack.service.count("/v1/reports")
    first = client.post("/v1/reports", json={"a": 1}, headers=key)
    again = client.post("/v1/reports", json={"a": 1}, headers={**key, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert (again.status_code, again.content) == (201, first.content)
    other = client.post("/v1/reports", json={"a": 2}, headers=key)
    assert (other.status_code, other.json()["type"].rpartition(":")[2].rpartition("/")[2]) == (422, "key-reused")
    stack.stage("http.reports", "canary", "--percent", "0")
    on_legacy = client.post("/v1/reports", json={"a": 1}, headers=key)
    assert (on_legacy.status_code, on_legacy.content) == (201, first.content)
    assert stack.service.count("/v1/reports") == before + 1
    client.post("/v1/reports", json={"a": 1}, headers={**key, "Cookie": "user=bob"})
    assert stack.service.count("/v1/reports") == before + 2


def test_an_unsafe_request_carries_a_key_on_both_paths(stack, client):
    """Minted when the client brought none, so that the service can tell a repetition."""
    for stage in ("observe", "bus"):
        stack.stage("http.reports", stage)
        client.post("/v1/reports", json={})
        assert len(stack.service.asked[-1][2]["Idempotency-Key"]) == 32


def test_a_user_stays_on_one_path(stack, client):
    """A canary is sticky by user, and a ramp only adds."""
    stack.stage("http.ramp", "canary", "--percent", "50")
    users = [f"user{n}" for n in range(20)]

    def paths():
        for user in users:
            client.get("/v1/ramp", headers={"Cookie": f"user={user}"})
        # What came over the bus was asked with its credentials last: the worker adds them behind the others.
        asked = [fields for _, path, fields, _ in stack.service.asked if path == "/v1/ramp"][-len(users) :]
        return {fields["Cookie"] for fields in asked if list(fields)[-1] == "Content-Length" or _is_last(fields)}

    assert paths() == paths()


def _is_last(fields):
    return list(fields).index("Cookie") > list(fields).index("Via")


def test_what_no_worker_serves_falls_back_or_says_so(stack, client):
    """Effects none: the upstream answers after the deadline."""
    stack.stage("http.unserved", "bus")
    began = time.monotonic()
    assert client.get("/v1/unserved").status_code == 200
    assert 0.9 < time.monotonic() - began < 10


def test_every_request_that_the_upstream_answers_at_bus_is_a_hit(stack, client):
    """What a retirement must not find: without an answer from the bus, too large, upgraded; not one before bus."""
    client.post("/v1/hits", content=b"before")
    stack.stage("http.hits", "bus")
    client.post("/v1/hits", content=b"no worker")
    client.post("/v1/hits", content=os.urandom(9 * 1024 * 1024))
    client.post("/v1/hits", headers={"Connection": "upgrade", "Upgrade": "other"})
    assert stack.service.count("/v1/hits") == 4
    until(lambda: json.loads(stack.run("stage", "show", "http.hits", "--json"))["legacy_hits"] == 3)


def test_a_retired_route_alarms_when_its_upstream_answers(stack, client):
    """Too large for the bus, the caller is served and an event says so; unserved by the bus, it is no way out."""
    stack.stage("http.retired", "retired")
    stack.start_worker("http.retired")
    client.post("/v1/retired", content=b"over the bus")
    assert client.post("/v1/retired", content=os.urandom(9 * 1024 * 1024)).status_code == 201
    alarm = until(lambda: stack.here("events", "tail", "--type", "seam.skipped", "--since", "60s", "--json").lines)[-1]
    told = {name: alarm["data"][name] for name in ("seam", "reason", "count", "build")}
    assert told == {"seam": "http.retired", "reason": "legacy-hit", "count": 1, "build": "7f3c"}
    until(
        lambda: json.loads(stack.run("stage", "show", "http.retired", "--json"))["legacy_hits_by_build"] == {"7f3c": 1}
    )
    before = stack.service.count("/v1/unserved")
    stack.stage("http.unserved", "retired")
    assert client.get("/v1/unserved").status_code == 504
    assert stack.service.count("/v1/unserved") == before


def test_a_retired_route_stays_in_the_file_which_is_named_by_line(stack, client):
    """The service that a worker asks still answers; a file without the route is said before anything is written."""

    def look():
        async def tick():
            async with session(stack.env["CROSSFADE_BUS"], None) as opened:
                await Controller(opened.bus, opened.subjects, instance="the test").tick()

        asyncio.run(tick())

    def retire(*words):
        look()
        return stack.here("migrate", "retire", "http.reports", "--period", "1s", "--acknowledge", *words)

    stack.stage("http.reports", "retired")
    assert client.post("/v1/reports", content=b"x").status_code == 201
    other = stack.folder / "other.yaml"
    other.write_text(
        "upstreams: {legacy: 'http://127.0.0.1:9'}\nroutes: [{seam: http.other, match: GET /other, upstream: legacy}]\n"
    )
    routes = str(stack.folder / "routes.yaml")
    done = until(lambda: (found := retire("--routes", routes, "--json")).code == 0 and found)
    line = next(at for at, text in enumerate(_ROUTES.splitlines(), 1) if "http.reports" in text)
    assert done.json["delete"]["place"] == f"{routes}:{line}"
    assert "asked by `crossfade worker --http`: delete nothing of it. The route stays" in done.json["delete"]["what"]
    assert "`crossfade proxy export`" in done.json["delete"]["what"]
    refused = retire("--routes", str(other))
    assert refused.code == 2, refused
    assert "has no route with seam http.reports; there are: http.other" in " ".join(refused.err.split())
    stack.stage("http.reports", "legacy")


def test_an_upload_over_the_limit_stays_with_the_upstream(stack, client):
    """Every byte of it arrives, though the seam is on the bus."""
    stack.stage("http.reports", "bus")
    body = os.urandom(9 * 1024 * 1024)
    answer = client.post("/v1/reports", content=body)
    assert answer.content == bytes(reversed(body))


def _say(stack, request, *, until=b"\r\n\r\n"):
    """A connection that has sent ``request``, and what it was answered up to ``until``."""
    host, port = stack.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(request)
    got = b""
    while until not in got:
        part = connection.recv(65536)
        assert part, got
        got += part
    return connection, got


@pytest.mark.parametrize("stage", [("bus",), ("canary", "--percent", "0")])
def test_a_client_that_asks_before_it_sends_is_told_to_go_on(stack, stage):
    """Expect: 100-continue on a route whose request is read before anybody is asked."""
    stack.stage("http.reports", *stage)
    head = b"POST /v1/reports HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\nIdempotency-Key: "
    connection, got = _say(stack, head + stage[0].encode() + b"-expects\r\n\r\n")
    with connection:
        assert got == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        got = b""
        while b"HTTP/1.1 201 " not in got:  # a service asked on the client's behalf says 100 too, which is passed on
            part = connection.recv(65536)
            assert part, got
            got += part


def test_nobodys_key_finds_the_answer_to_another(stack, client):
    """Neither with other credentials where no user is named, nor by a user's name that ends as the key begins."""
    stack.stage("http.reports", "bus")
    client.cookies.clear()

    def executions(**fields):
        before = stack.service.count("/v1/reports")
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        assert client.post("/v1/reports", content=b"mine", headers=named).status_code == 201
        return stack.service.count("/v1/reports") - before

    assert executions(Idempotency_Key="k", Authorization="Bearer alice-8f3b1c55") == 1
    assert executions(Idempotency_Key="k", Authorization="Bearer alice-8f3b1c55") == 0
    assert executions(Idempotency_Key="k", Authorization="Bearer mallory-77aa") == 1
    assert executions(Idempotency_Key="x/1", Cookie="user=alice") == 1
    assert executions(Idempotency_Key="1", Cookie="user=alice/x") == 1


def test_an_idempotent_request_is_begun_again_when_its_worker_dies(stack, client):
    """PUT may run twice, as the routes say: another worker asks the service again, and the client has its answer."""
    stack.service.release.clear()
    first = stack.start_worker("http.again", "--ack-wait", "1")
    stack.stage("http.again", "bus")
    with ThreadPoolExecutor(1) as callers:
        asking = callers.submit(client.put, "/v1/again", content=b"the same", timeout=25)
        until(lambda: stack.service.count("/v1/again") == 1)
        first.kill()
        stack.start_worker("http.again", "--ack-wait", "1")
        answer = asking.result(25)
    stack.service.release.set()
    assert (answer.status_code, answer.content, stack.service.count("/v1/again")) == (200, b"the same", 2)


def test_nobody_notices_a_broker_that_is_gone(stack, client):
    """Pass-through, observe and shadow routes answer as before while the broker is stopped."""
    from crossfade.adapters.embedded import stop

    stack.stage("http.search", "observe")
    stack.stage("http.shadowed", "shadow")
    for path in ("/v1/search", "/v1/shadowed", "/elsewhere"):
        client.get(path)
    stop(stack.folder / "bus")
    for path in ("/v1/search", "/v1/shadowed", "/elsewhere"):
        began = time.monotonic()
        assert client.get(path).status_code == 200
        assert time.monotonic() - began < 2
