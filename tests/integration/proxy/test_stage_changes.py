"""Routes whose stage, route or broker changes while requests are under way, on real processes."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

from crossfade.adapters._embedded.processes import server_pid
from integration.proxy.test_seams import Stack
from support.commands import until

_ROUTES = """
listen: LISTEN
upstreams: {legacy: URL}
identity: {user: 'cookie:user'}
routes:
  - {seam: http.search, match: GET /v1/search, upstream: legacy, timeout: 20}
  - {seam: http.reports, match: POST /v1/reports, upstream: legacy, timeout: 20}
"""


class Fleet(Stack):
    """A proxy of two processes, and clients that remember what they were told."""

    def start_fleet(self, routes: str = _ROUTES, *, workers: int = 2, listen: str = "127.0.0.1:0"):
        (self.folder / "routes.yaml").write_text(routes.replace("URL", self.service.url).replace("LISTEN", listen))
        proxy = self.start("proxy", "--config", "routes.yaml", "--json", "--workers", str(workers))
        self.proxy = proxy
        self.url = json.loads(self.line(proxy))["url"]
        return proxy


class Load:
    """Threads that ask, one connection each, until told to stop; each request has an id of its own."""

    def __init__(self, stack, ask, threads=4):
        self.stack = stack
        self.over = threading.Event()
        self.asked: list[tuple[str, object]] = []
        self._ask = ask
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self):
        host, port = self.stack.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        while not self.over.is_set():
            name = f"id-{next(self._numbers)}"
            try:
                said: object = self._ask(connection, name)
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
                connection.close()
            self.asked.append((name, said))
        connection.close()


def post(connection, name, **fields):
    connection.request("POST", "/v1/reports", name.encode(), {k.replace("_", "-"): v for k, v in fields.items()})
    answer = connection.getresponse()
    body = answer.read()
    return answer.status if answer.status != 201 or body == name.encode()[::-1] else "wrong answer"


def mixed(connection, name):
    kind = random.randrange(3)
    if kind == 0:
        connection.request("GET", f"/v1/search?q={name}")
        answer = connection.getresponse()
        return answer.status if name in answer.read().decode() else f"wrong answer {answer.status}"
    return post(connection, name, **({"Idempotency_Key": name} if kind == 1 else {}))


@pytest.fixture
def fleet(tmp_path):
    stack = Fleet(tmp_path)
    try:
        yield stack
    finally:
        stack.end()


def executions(stack):
    return Counter(body.decode() for method, _, _, body in stack.service.asked if method == "POST")


@pytest.mark.slow
def test_a_hundred_stage_changes_under_load_fail_no_request(fleet, note):
    """All stages but the last, in any order, both kinds of seam: every request is answered, no effect is doubled."""
    fleet.start_fleet()
    fleet.start_worker("http.search http.reports")
    stages = [("legacy",), ("observe",), ("shadow",), ("canary", "--percent", "50"), ("bus",)]
    chosen = random.Random(4)
    began = time.monotonic()
    with Load(fleet, mixed) as load:
        for _ in range(50):
            for seam in ("http.search", "http.reports"):
                fleet.stage(seam, *chosen.choice(stages))
    took = time.monotonic() - began
    bad = [each for each in load.asked if each[1] not in (200, 201)]
    doubled = [name for name, count in executions(fleet).items() if count > 1]
    note(f"{len(load.asked)} requests in {took:.0f} s over 100 changes; bad {bad[:10]}, doubled {doubled[:10]}")
    assert not bad
    assert not doubled
    assert len(load.asked) > 300


_HANDLER = """
from crossfade.shim.http import HttpResponse, http_handler

@http_handler("http.search")
async def search(request):
    return HttpResponse.json({"by": "bus"})
"""


def path_of(stack, user):
    """Which side answered a request of ``user`` on a connection of its own."""
    host, port = stack.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/v1/search", headers={"Cookie": f"user={user}"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["by"] or "legacy"


@pytest.mark.slow
def test_a_user_stays_on_one_side_of_a_canary_in_every_process_and_after_a_restart(fleet):
    """Each user's eight connections to two processes, before and after both were started anew: one side, both used."""
    (fleet.folder / "app.py").write_text(_HANDLER)
    fleet.start_fleet()
    worker = fleet.start("worker", "app")
    assert "Serving" in fleet.line(worker)
    fleet.stage("http.search", "canary", "--percent", "50")
    users = [f"user{n}" for n in range(12)]

    def sides():
        return {user: {path_of(fleet, user) for _ in range(8)} for user in users}

    first = sides()
    assert all(len(side) == 1 for side in first.values())
    assert set().union(*first.values()) == {"bus", "legacy"}
    fleet.proxy.terminate()
    fleet.proxy.wait(30)
    fleet.start_fleet()
    until(lambda: path_of(fleet, next(user for user, side in first.items() if side == {"bus"})) == "bus")
    assert sides() == first


@pytest.mark.slow
def test_nothing_is_doubled_when_the_broker_is_killed(fleet, note):
    """Unsafe requests at bus, with a key and without, while the broker is killed thrice: each ran once or not at all.

    201: once. 503: never. 504: nobody can say. A retry with its key finds what became of it, and never runs it again.
    """
    fleet.start_fleet()
    fleet.start_worker("http.search http.reports", "--ack-wait", "2")
    fleet.stage("http.reports", "bus")

    def ask(connection, name):
        keyed = int(name[3:]) % 2
        return post(connection, name, **({"Idempotency_Key": name} if keyed else {}))

    with Load(fleet, ask, threads=3) as load:
        for _ in range(3):
            seen = len(load.asked)
            until(lambda seen=seen: len(load.asked) > seen + 20)
            killed = server_pid(fleet.folder / "bus")
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: server_pid(fleet.folder / "bus") not in {None, killed})
    said = Counter(str(status) for _, status in load.asked)
    ran = executions(fleet)
    note(f"{dict(said)}; executions {sum(ran.values())}")
    assert set(said) <= {"201", "503", "504"}
    assert not [name for name, count in ran.items() if count > 1]
    assert not [name for name, status in load.asked if status == 201 and ran[name] != 1]
    assert not [name for name, status in load.asked if status == 503 and ran[name]]
    host, port = fleet.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for name, status in load.asked:
        if int(name[3:]) % 2 and status != 201:
            again = post(connection, name, Idempotency_Key=name)
            assert again in {201, 503, 504}
            assert (again == 201) <= (executions(fleet)[name] == 1)
    connection.close()
    assert not [name for name, count in executions(fleet).items() if count > 1]


@pytest.mark.slow
def test_a_reload_that_changes_what_a_route_is_fails_no_request(fleet, note):
    """Its effects, then its seam's name, by SIGHUP under load at bus."""
    fleet.start_fleet()
    fleet.start_worker("http.search http.reports")
    fleet.stage("http.reports", "bus")
    fleet.stage("http.search", "bus")
    variants = [
        _ROUTES,
        _ROUTES.replace("upstream: legacy, timeout: 20}\n", "upstream: legacy, timeout: 20, effects: unsafe}\n"),
        _ROUTES.replace("http.reports", "http.renamed"),
        _ROUTES.replace("match: POST /v1/reports,", "match: POST /v1/reports, effects: idempotent,"),
    ]
    with Load(fleet, mixed) as load:
        for at in range(12):
            seen = len(load.asked)
            text = variants[at % len(variants)].replace("URL", fleet.service.url).replace("LISTEN", fleet.url[7:])
            (fleet.folder / "routes.yaml").write_text(text)
            fleet.proxy.send_signal(signal.SIGHUP)
            until(lambda seen=seen: len(load.asked) > seen + 30)
    said = Counter(str(status) for _, status in load.asked)
    note(f"{dict(said)}")
    assert set(said) == {"200", "201"}
    assert not [name for name, count in executions(fleet).items() if count > 1]
