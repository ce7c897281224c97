"""A bus path that fails, on a real broker: who waits, who answers, and how it comes back."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossfade.migrations.cli import stage
from crossfade.proxy.control import metrics
from crossfade.proxy.reading import read_config
from crossfade.proxy.route_seams import RouteSeams
from crossfade.proxy.routing import Routing, serving_of
from crossfade.proxy.serving import DataPlane
from crossfade.shim import _calls, hooks, seam
from crossfade.shim.config import Config
from crossfade.shim.errors import BusUnavailableError
from crossfade.shim.http import HttpResponse, add_http_handler
from crossfade.shim.standing import standings
from integration.proxy.wire import Upstream, get
from integration.shim import kit
from plugins.nats import until
from support.nats_server import NatsServer

_ROUTES = """
listen: 127.0.0.1:0
upstreams: {{legacy: 'http://127.0.0.1:{port}'}}
control: 127.0.0.1:9
trust: [127.0.0.1]
identity: {{user: 'header:X-User'}}
access_log: {folder}/access.jsonl
routes:
  - {{seam: http.read, match: GET /read, timeout: 0.4, breaker: {breaker}}}
  - {{seam: http.write, match: POST /write, timeout: 0.4, breaker: {breaker}}}
  - {{seam: http.task, match: POST /task, timeout: 0.4, mode: task, breaker: {breaker}}}
"""
QUICK = 0.4  # seconds, the routes' timeout: whoever was faster has not waited for the bus
OPEN = 100.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def counts(monkeypatch):
    """What crossfade counted during the test; seams declared elsewhere are out of sight meanwhile."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(seam.registry, "_seams", {})
    monkeypatch.setattr(seam.registry, "_handlers", {})
    monkeypatch.setattr(_calls, "_CLAIM_PATIENCE", 0.5)
    monkeypatch.setattr(_calls, "_LAST_LOOK", 0.1)
    return counters


class Proxy:
    """A proxy whose seams are at one stage, before an upstream that says ``legacy``."""

    def __init__(self, client, seams, upstream, folder, workers):
        self.client = client
        self.seams = seams
        self.upstream = upstream
        self.folder = folder
        self.workers = workers
        self.connection = seams._connection

    def state(self, name="http.read"):
        return self.seams._seams[name].circuits.state

    @property
    def asked(self):
        return self.upstream.received.count(b" HTTP/1.1\r\n")

    async def ask(self, path="/read", **fields):
        """The answer, and whether it came without waiting for anybody."""
        method = "GET" if path == "/read" else "POST"
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        began = time.monotonic()
        answer = await self.client.request(method, path, headers=headers)
        return answer, time.monotonic() - began < QUICK

    async def fail(self, times=2, path="/read", **fields):
        """Requests that wait for the bus in vain."""
        answers = [await self.ask(path, **fields) for _ in range(times)]
        assert not any(quick for _, quick in answers)
        return [answer for answer, _ in answers]

    async def serve(self, say=lambda: HttpResponse(text="bus")):
        """Have a worker answer reads."""

        async def handler(_request):
            return say()

        add_http_handler("http.read", handler)
        named = SimpleNamespace(__crossfade_seam__=SimpleNamespace(name="http.read"))
        worker = await asyncio.to_thread(self.workers.start, self.connection, named)
        await until(lambda: worker.ready)

    async def leave(self):
        """A client that is gone (by a reset: nobody can take it for a half close) while the bus is asked for it."""
        calls = self.connection.runtime.calls
        _, writer = await asyncio.open_connection(self.client.base_url.host, self.client.base_url.port)
        writer.write(get("/read"))
        await until(lambda: calls._asked)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: not calls._asked)

    def over(self):
        """Let the time pass until a probe may go."""
        for declared in self.seams._seams.values():
            for circuit in (declared.circuits.calls, declared.circuits.ledger):
                circuit._clock = lambda now=circuit._clock: now() + OPEN * 1.25

    async def facts(self):
        events = await asyncio.to_thread(kit.read, self.connection, "{p}e.>")
        return [json.loads(event.data) for event in events if event.type == "seam.rollback.requested"]

    async def standings(self):
        runtime = self.connection.runtime
        return await asyncio.to_thread(kit.on_loop, self.connection, standings(runtime.policies, runtime.bus))

    async def remarks(self):
        """What `stage show` says beneath its table."""
        return [*stage._remarks([stage._row(found) for found in await self.standings()])]

    async def metric(self, name):
        """The samples of a metric by seam."""
        text = metrics.page({}, await self.standings(), SimpleNamespace(total=0, ring=()), connected=True)
        found = re.findall(rf'^{name}{{seam="(.*?)"}} (.*)$', text, re.MULTILINE)
        return {seam: float(value) for seam, value in found}

    async def page(self):
        """What Prometheus reads at the control plane, by its own parser: values by name and labels."""
        text = metrics.page({}, await self.standings(), SimpleNamespace(total=0, ring=()), connected=True)
        return {
            (sample.name, *(sample.labels.get(label, "") for label in ("seam", "path", "status", "le"))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def reported(self):
        """What this process says of its breakers to whoever asks the bus."""
        found = await asyncio.to_thread(kit.on_loop, self.connection, self.connection.runtime.policies.instances.live())
        return [dict(instance.breakers) for instance in found]


async def _answer(reader, writer):
    while True:
        head = await reader.head()
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        await reader.exactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nlegacy")
        await writer.drain()


@pytest.fixture
def proxied(server, prefix, tmp_path, counts):
    """``async with proxied(stage="bus") as proxy``."""

    @asynccontextmanager
    async def start(stage="bus"):
        upstream = Upstream(_answer)
        listening = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        file = tmp_path / "routes.yaml"
        breaker = f"{{failures: 2, open: {OPEN}}}"
        file.write_text(_ROUTES.format(port=port, folder=tmp_path, breaker=breaker))
        config = read_config(str(file))
        policies = {name: {"stage": stage, "unsafe_storage": True} for name in ("http.read", "http.write", "http.task")}
        seams = RouteSeams(server.url, Config(prefix=prefix, seams=policies))
        seams.declare(config)
        workers = kit.Workers(tmp_path / "spool")
        plane = DataPlane(serving_of(config, name="crossfade-test"))
        await asyncio.to_thread(seams.__enter__)
        seams.tell_of(plane)
        try:
            plane.resolve = Routing(config, config.router(), plane.pools, seams.declare(config)).resolve
            host, port = await plane.listen()
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=20) as client:
                yield Proxy(client, seams, upstream, tmp_path, workers)
        finally:
            server.resume()
            await asyncio.to_thread(workers.__exit__)
            plane.server.abort()
            await plane.drain()
            listening.close()
            await asyncio.to_thread(seams.__exit__, None, None, None)

    return start


async def test_nobody_waits_for_a_worker_that_is_absent_and_one_probe_finds_it_again(proxied, counts):
    """Two wait in vain, then none but one probe at a time; once a worker is there the probe closes it."""
    async with proxied() as proxy:
        assert [answer.text for answer in await proxy.fail()] == ["legacy"] * 2
        answers = [await proxy.ask() for _ in range(5)]
        assert [(answer.text, quick) for answer, quick in answers] == [("legacy", True)] * 5
        assert counts.get("fallback", seam="http.read", reason="breaker-open") == 5
        assert counts.get("legacy-hit", seam="http.read") == 7
        assert await until(proxy.reported) == [{"http.read": "open"}]
        instance = proxy.connection.runtime.instance
        assert f"http.read does not ask the bus, which failed it, in {instance}" in await proxy.remarks()
        assert await proxy.metric("crossfade_seam_breakers_open") == {"http.read": 1, "http.task": 0, "http.write": 0}
        (request,) = await until(proxy.facts)
        assert request.pop("instance") == instance
        assert request == {
            "seam": "http.read",
            "revision": 0,
            "failing": "calls",
            "reason": "deadline",
            "counts": {"deadline": 2},
        }

        proxy.over()
        answers = await asyncio.gather(*(proxy.ask() for _ in range(5)))
        assert sorted(quick for _, quick in answers) == [False, True, True, True, True]
        assert {answer.text for answer, _ in answers} == {"legacy"}
        assert proxy.state() == "open"

        await proxy.serve()
        proxy.over()
        assert [(await proxy.ask())[0].text for _ in range(3)] == ["bus"] * 3
        assert proxy.state() == "closed"
        await until(lambda: _is(proxy.reported, [{}]))
        assert len(await proxy.facts()) == 1, "one outage asks once"
        assert [counts.get("breaker", reason=state) for state in ("open", "half-open", "closed")] == [2, 2, 1]


async def _is(look, expected):
    return await look() == expected


async def test_a_paused_broker_opens_it_and_the_request_for_rollback_arrives_later(proxied, server, counts):
    """The upstream answers at once meanwhile, a key that cannot be asked about is refused, and nothing runs twice."""
    async with proxied() as proxy:
        await proxy.serve()
        assert (await proxy.ask())[0].text == "bus"
        server.pause()
        assert [answer.text for answer in await proxy.fail()] == ["legacy"] * 2
        answer, quick = await proxy.ask()
        assert (answer.text, quick, proxy.state()) == ("legacy", True, "open")

        asked = proxy.asked
        keyed = await proxy.fail(4, "/write", X_User="alice", Idempotency_Key="k")  # calls wait, then claims
        assert [(answer.status_code, answer.json()["type"].rpartition(":")[2]) for answer in keyed] == [
            *[(504, "outcome-unknown")] * 2,
            *[(503, "ledger-down")] * 2,
        ]
        answer, quick = await proxy.ask("/write", X_User="alice", Idempotency_Key="k")
        problem = answer.json()
        assert (answer.status_code, quick, problem["seam"]) == (503, True, "http.write")
        assert problem["type"] == "urn:crossfade:problem:breaker-open"
        assert 1 < int(answer.headers["retry-after"]) <= OPEN * 1.25
        assert "same one" in problem["detail"]
        assert proxy.asked == asked

        assert counts.get("rollback-requested") == 0
        server.resume()
        requests = await until(lambda: _at_least(proxy.facts, 2))
        assert [request["failing"] for request in requests if request["seam"] == "http.read"] == ["calls"]
        assert counts.get("dropped", seam="http.write", reason="rollback-request") == 1, "one of a seam waits"
        proxy.over()
        await until(lambda: proxy.connection.connected)
        assert (await proxy.ask())[0].text == "bus"
        assert proxy.state() == "closed"


async def _at_least(look, n):
    found = await look()
    return found if len(found) >= n else None


async def test_an_unsafe_request_runs_once_while_it_is_open(proxied):
    """Without a key the upstream answers, since nothing was sent; with one only under a claim, and no retry again."""
    async with proxied() as proxy:
        await proxy.fail(2, "/write")
        assert (proxy.state("http.write"), proxy.asked) == ("open", 2)
        assert [(await proxy.ask("/write"))[1] for _ in range(2)] == [True, True]
        assert proxy.asked == 4
        retries = [await proxy.ask("/write", X_User="alice", Idempotency_Key="once") for _ in range(3)]
        assert [answer.text for answer, _ in retries] == ["legacy"] * 3
        assert proxy.asked == 5
        lines = [json.loads(line) for line in await until(lambda: _lines(proxy, 7))]
        assert [line.get("breaker", "") for line in lines] == ["", "", "open", "open", "open", "open", "open"]


def _lines(proxy, n):
    lines = (proxy.folder / "access.jsonl").read_text().splitlines()
    return lines if len(lines) >= n else None


async def test_a_retired_route_says_so_at_once(proxied):
    """503 that names the seam and when to come again; its upstream is never asked."""
    async with proxied("retired") as proxy:
        assert [answer.status_code for answer in await proxy.fail()] == [504, 504]
        answer, quick = await proxy.ask()
        problem = answer.json()
        assert (answer.status_code, quick) == (503, True)
        assert (problem["type"], problem["seam"], problem["phase"]) == (
            "urn:crossfade:problem:breaker-open",
            "http.read",
            "bus",
        )
        assert 1 < int(answer.headers["retry-after"]) <= OPEN * 1.25
        assert proxy.asked == 0


async def test_what_a_handler_says_and_who_leaves_is_no_failure(proxied, counts):
    """Ten errors and three clients that went away leave it closed, and the bus is still asked."""

    def fail():
        raise ValueError("the handler's own")

    async with proxied() as proxy:
        for _ in range(3):
            await proxy.leave()
        assert counts.get("cancelled", reason="client-left") == 3
        assert proxy.state() == "closed"
        await proxy.serve(fail)
        assert {(await proxy.ask())[0].status_code for _ in range(10)} == {502}
        assert proxy.state() == "closed"


async def test_a_probe_whose_client_leaves_gives_its_place_to_the_next(proxied, counts):
    """The next request tries the bus at once, and finds it."""
    async with proxied() as proxy:
        await proxy.fail()
        proxy.over()
        await proxy.leave()
        await proxy.serve()
        assert (await proxy.ask())[0].text == "bus"
        assert proxy.state() == "closed"


async def test_tasks_are_stored_though_no_worker_comes_and_refused_when_nobody_stores_them(proxied, server):
    """Their breaker hears of storing alone: 202 without a worker; with the broker paused 504s, then at once no task."""
    async with proxied() as proxy:
        for n in range(4):
            assert (await proxy.ask("/task", X_User="alice", Idempotency_Key=f"a{n}"))[0].status_code == 202
        assert (await proxy.ask("/task", X_User="alice"))[0].status_code == 202
        server.pause()
        lost = await proxy.fail(2, "/task", X_User="alice")
        assert [(answer.status_code, answer.json()["seam"]) for answer in lost] == [(504, "http.task")] * 2
        asked = proxy.asked
        answer, quick = await proxy.ask("/task", X_User="alice")
        assert (answer.status_code, answer.text, quick, proxy.asked) == (200, "legacy", True, asked + 1)
        keyed, quick = await proxy.ask("/task", X_User="alice", Idempotency_Key="b")
        assert (keyed.status_code, quick, keyed.json()["type"]) == (503, True, "urn:crossfade:problem:breaker-open")
        assert proxy.asked == asked + 1


async def test_a_task_that_nobody_could_store_and_no_upstream_may_run_says_so(proxied, server):
    """Retired, with the broker down: 503, for it provably did not run; and 503 at once when the breaker is open."""
    async with proxied("retired") as proxy:
        server.stop()
        try:
            await until(lambda: not proxy.connection.connected)
            answers = [(await proxy.ask("/task", X_User="alice"))[0] for _ in range(3)]
        finally:
            server.start()
        assert [(answer.status_code, answer.json()["type"].rpartition(":")[2]) for answer in answers] == [
            *[(503, "not-executed")] * 2,
            (503, "breaker-open"),
        ]
        assert [answer.json()["seam"] for answer in answers] == ["http.task"] * 3
        assert [int(answer.headers["retry-after"]) > 1 for answer in answers] == [False, False, True]
        assert proxy.asked == 0
        await until(lambda: proxy.connection.connected)


async def test_a_ledger_that_cannot_be_read_is_no_failed_handler(proxied, monkeypatch):
    """The task is stored and nobody can say so: a 503 of the bus that asks for the same key again."""
    async with proxied() as proxy:
        bus = proxy.connection.runtime.bus
        last = bus.last

        async def cut_off(subject):
            if subject.endswith(".invoke"):
                raise BusUnavailableError
            return await last(subject)

        monkeypatch.setattr(bus, "last", cut_off)
        answer, _ = await proxy.ask("/task", X_User="alice", Idempotency_Key="k")
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (503, "urn:crossfade:problem:bus-failed")
        assert (problem["phase"], answer.headers["retry-after"]) == ("bus", "1")
        assert "same Idempotency-Key" in problem["detail"]
        monkeypatch.undo()
        assert (await proxy.ask("/task", X_User="alice", Idempotency_Key="k"))[0].status_code == 202


async def test_requests_are_counted_by_who_answered_them_and_told_over_the_bus(proxied):
    """A fallback is legacy's, a handler's answer the bus', a path of ours local; each once, and timed by its path."""
    async with proxied() as proxy:
        (fallen,) = await proxy.fail(1)
        assert fallen.text == "legacy"
        await proxy.serve()
        assert (await proxy.ask())[0].text == "bus"
        assert (await proxy.client.get("/elsewhere")).text == "legacy"
        assert (await proxy.client.get("/_crossfade/x")).status_code == 404

        proxy.connection.runtime.act_as("caller")  # tells the bus at once

        async def told():
            found = await proxy.page()
            return ("crossfade_proxy_requests_total", "_crossfade", "local", "4xx", "") in found and found

        page = await until(told)
        name = "crossfade_proxy_requests_total"
        assert {sample[1:4]: value for sample, value in page.items() if sample[0] == name} == {
            ("http.read", "legacy", "2xx"): 1,
            ("http.read", "bus", "2xx"): 1,
            ("legacy", "legacy", "2xx"): 1,
            ("_crossfade", "local", "4xx"): 1,
        }
        name = "crossfade_proxy_request_duration_seconds"
        assert page[f"{name}_count", "", "legacy", "", ""] == page[f"{name}_bucket", "", "legacy", "", "+Inf"] == 2
        assert page[f"{name}_bucket", "", "legacy", "", "0.1"] == 1  # the other waited for the bus
        assert page[f"{name}_sum", "", "legacy", "", ""] >= QUICK
