"""Long-running routes on real processes: 202 with a monitor, and what became of the task whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import time

import httpx
import pytest

from crossfade.adapters._embedded.processes import server_pid
from integration.proxy.test_seams import Stack
from support.commands import until

_ROUTES = """
listen: 127.0.0.1:0
upstreams: {legacy: URL}
control: CONTROL
trust: [127.0.0.1]
identity: {user: 'header:X-User'}
routes:
  - {seam: http.slow, match: POST /v1/slow, upstream: legacy, mode: task, effects: idempotent, timeout: 60}
  - {seam: http.reports, match: POST /v1/reports, upstream: legacy, mode: task, timeout: 60}
  - {seam: http.search, match: GET /v1/search, upstream: legacy, timeout: 20}
  - {seam: http.events, match: GET /v1/events, upstream: legacy, mode: task, timeout: 20}
  - {seam: http.cut, match: POST /v1/cut, upstream: legacy, mode: task, timeout: 20}
"""
_ALICE = {"X-User": "alice"}


class Tasks(Stack):
    """A stack with a control plane, and clients of it."""

    def start_all(self) -> None:
        control = self.start("control", "--listen", "127.0.0.1:0", "--json")
        self.control = json.loads(self.line(control))["url"].removeprefix("http://")
        self.start_tasks_proxy()
        self.tokens = {user: self.run("control", "token", "--user", user).split()[0] for user in ("alice", "bob")}

    def start_tasks_proxy(self):
        return self.start_proxy(_ROUTES.replace("CONTROL", self.control))

    def ask(self, method: str, path: str, *, user: str = "alice") -> httpx.Response:
        """A request for a task, through the proxy."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=20)

    def post(self, path: str, body: bytes = b"abc", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(self.url + path, content=body, headers=_ALICE | named, timeout=20)

    def ended(self, monitor: str) -> httpx.Response:
        """Its monitor's answer, once it is over."""

        said: list[str] = []

        def look() -> httpx.Response | None:
            found = self.ask("GET", monitor)
            said[:] = [f"{found.status_code} {found.text}"]
            return found if found.status_code in {200, 303} and "retry-after" not in found.headers else None

        try:
            return until(look)
        except AssertionError as error:
            raise AssertionError(f"not over: {said}") from error


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    stack = Tasks(tmp_path_factory.mktemp("tasks"))
    try:
        stack.start_all()
        seams = "http.slow http.reports http.search http.events http.cut"
        stack.start_worker(seams, "--ack-wait", "1")
        for seam in seams.split():
            stack.stage(seam, "bus")
        yield stack
    finally:
        stack.end()


def test_a_task_is_answered_at_once_and_its_result_later(tasks):
    """202 while the service works; then the monitor leads to what the service answered, field by field."""
    tasks.service.release.clear()
    answer = tasks.post("/v1/slow", b"\x01\x02\xff")
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["vary"]) == (202, "2", "Prefer")
    assert "preference-applied" not in answer.headers
    monitor = answer.headers["location"]
    assert answer.json() == {"id": monitor.rpartition("/")[2], "status": "waiting", "monitor": monitor}
    until(lambda: tasks.service.count("/v1/slow") == 1)
    assert tasks.ask("GET", monitor).json()["status"] == "running"
    tasks.service.release.set()
    over = tasks.ended(monitor)
    assert (over.status_code, over.headers["location"]) == (303, f"{monitor}/result")
    result = tasks.ask("GET", over.headers["location"])
    assert (result.status_code, result.content) == (201, b"\xff\x02\x01")
    assert result.headers["content-type"] == "application/octet-stream"
    assert (result.headers["cache-control"], result.headers["content-security-policy"]) == ("no-store", "sandbox")
    assert "set-cookie" not in result.headers


def test_a_task_answers_to_its_owner_alone(tasks):
    """Another user's look, result and cancel find what is not there; a request of nobody is no task."""
    monitor = tasks.post("/v1/reports").headers["location"]
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert tasks.ask(method, monitor + path, user="bob").status_code == 404
    tasks.ended(monitor)
    nobody = httpx.post(f"{tasks.url}/v1/reports", content=b"abc", headers={"Prefer": "respond-async"}, timeout=20)
    assert (nobody.status_code, nobody.content) == (201, b"cba")
    assert "preference-applied" not in nobody.headers


def test_a_client_may_wait_a_little(tasks):
    """In time it gets the answer itself, else a 202 that says which preferences were followed."""
    quick = tasks.post("/v1/reports", Prefer="respond-async, wait=15")
    assert (quick.status_code, quick.content, quick.headers["preference-applied"]) == (201, b"cba", "wait=15")
    tasks.service.release.clear()
    began = time.monotonic()
    late = tasks.post("/v1/slow", Prefer="respond-async, wait=1")
    assert (late.status_code, late.headers["preference-applied"]) == (202, "respond-async, wait=1")
    assert time.monotonic() - began >= 1
    tasks.service.release.set()
    assert tasks.ended(late.headers["location"]).status_code == 303


def test_any_route_of_the_bus_can_be_asked_to_be_a_task(tasks):
    """With the preference it is one, without it the client waits."""
    search = f"{tasks.url}/v1/search?q=a"
    assert httpx.get(search, headers=_ALICE, timeout=20).status_code == 200
    answer = httpx.get(search, headers=_ALICE | {"Prefer": "respond-async"}, timeout=20)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    result = tasks.ask("GET", tasks.ended(answer.headers["location"]).headers["location"])
    assert result.json()["path"] == "/v1/search?q=a"


def test_the_same_key_is_the_same_task(tasks):
    """A retry is told the same monitor, before the end and after it; the service is asked once."""
    before = tasks.service.count("/v1/slow")
    tasks.service.release.clear()
    first = tasks.post("/v1/slow", Idempotency_Key="k1")
    again = tasks.post("/v1/slow", Idempotency_Key="k1")
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    tasks.service.release.set()
    tasks.ended(first.headers["location"])
    after = tasks.post("/v1/slow", Idempotency_Key="k1")
    assert (after.status_code, after.headers["location"]) == (202, first.headers["location"])
    assert after.json()["status"] == "completed"
    assert tasks.service.count("/v1/slow") == before + 1
    assert tasks.post("/v1/slow", b"other", Idempotency_Key="k1").status_code == 422


def test_a_task_whose_service_hangs_up_is_unknown(tasks):
    """It may have been done, so it is not called failed: nothing says where the service is, and there is no result."""
    monitor = tasks.post("/v1/cut").headers["location"]
    over = tasks.ended(monitor)
    assert (over.status_code, over.json()["status"]) == (200, "unknown")
    assert tasks.service.url.rpartition(":")[2] not in over.text
    result = tasks.ask("GET", f"{monitor}/result")
    assert (result.status_code, result.headers["content-type"]) == (409, "application/problem+json")
    assert tasks.service.count("/v1/cut") == 1


def test_a_task_that_streamed_has_no_result_to_give(tasks):
    """What came in pieces is not kept: its monitor says that it ended, and the result is a 409."""
    tasks.service.release.set()
    answer = httpx.get(f"{tasks.url}/v1/events", headers=_ALICE, timeout=20)
    assert answer.status_code == 202
    monitor = answer.headers["location"]
    over = tasks.ended(monitor)
    result = tasks.ask("GET", f"{monitor}/result")
    assert (result.status_code, result.headers["content-type"]) == (409, "application/problem+json")
    assert "completed" in over.text


@pytest.mark.parametrize("stage", ["legacy", "observe", "shadow"])
def test_a_route_that_is_not_on_the_bus_passes_through(tasks, stage):
    """Its upstream answers, and no preference is said to have been followed."""
    tasks.stage("http.reports", stage)
    answer = tasks.post("/v1/reports", Prefer="respond-async")
    assert (answer.status_code, answer.content) == (201, b"cba")
    assert "preference-applied" not in answer.headers
    tasks.stage("http.reports", "bus")


def test_a_task_that_nobody_began_can_be_cancelled(tmp_path):
    """It never runs, and its result is a problem that says so."""
    stack = Tasks(tmp_path)
    try:
        stack.start_all()
        stack.stage("http.reports", "bus")
        monitor = stack.post("/v1/reports").headers["location"]
        assert stack.ask("DELETE", monitor).json()["status"] == "cancelled"
        stack.start_worker("http.reports")
        result = stack.ask("GET", f"{monitor}/result")
        assert (result.status_code, result.headers["content-type"]) == (409, "application/problem+json")
        assert stack.ask("GET", monitor).json()["status"] == "cancelled"
        assert stack.service.count("/v1/reports") == 0
    finally:
        stack.end()


def test_no_waiting_task_is_lost_or_doubled_when_everything_is_killed(tmp_path):
    """Proxy, a worker at work and the broker are killed after the 202s: what had not begun runs once, and ends."""
    stack = Tasks(tmp_path)
    try:
        stack.start_all()
        stack.service.release.clear()
        stack.stage("http.slow", "bus")
        stack.stage("http.reports", "bus")
        worker = stack.start_worker("http.slow", "--ack-wait", "1")
        assert stack.post("/v1/slow", b"slow").status_code == 202
        until(lambda: stack.service.count("/v1/slow") == 1)
        waiting = [stack.post("/v1/reports", b"n%d" % n).headers["location"] for n in range(5)]
        broker = server_pid(tmp_path / "bus")
        assert broker is not None
        for pid in (stack.proxy.pid, worker.pid, broker):
            os.kill(pid, signal.SIGKILL)
        stack.service.release.set()
        stack.proxy.wait(10)
        stack.start_tasks_proxy()
        stack.start_worker("http.slow http.reports", "--ack-wait", "1")
        results = [stack.ask("GET", stack.ended(monitor).headers["location"]) for monitor in waiting]
        assert [(found.status_code, found.content) for found in results] == [(201, b"%dn" % n) for n in range(5)]
        assert sorted(asked[3] for asked in stack.service.asked if asked[1] == "/v1/reports") == [
            b"n%d" % n for n in range(5)
        ]
    finally:
        stack.end()
