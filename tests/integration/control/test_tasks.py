"""A task answers to whoever created it: how it stands, its result, its progress, its end."""

from __future__ import annotations

import asyncio

import pytest

from crossfade import shim
from crossfade.proxy.control.calls import is_older_than_kept
from crossfade.shim import connection, seam
from crossfade.shim.config import Config
from crossfade.shim.events import new_id
from integration.shim import kit as workers
from plugins.nats import until

SECRET = "where the treasure is buried"


@pytest.fixture
def declared(monkeypatch):
    """A function that takes as long as it is told to."""
    monkeypatch.setattr(seam.registry, "_seams", {})

    @shim.tool("desk.report", effects="none", timeout=20)
    async def report(topic: str, steps: int = 1) -> dict[str, str]:
        for step in range(steps):
            shim.report_progress(step / steps, f"step {step}")
            await asyncio.sleep(0.02)
        if topic == "bad":
            raise ValueError(SECRET)
        if topic == "for ever":
            await asyncio.Event().wait()
        return {"about": topic}

    return report


@pytest.fixture
async def submit(declared, plane, prefix, nats_server, tmp_path):
    """Submits a call as a user; with ``work`` a worker serves it."""
    config = Config(prefix=prefix, seams={"desk.report": {"stage": "bus"}})
    connected = await asyncio.to_thread(connection.connect, nats_server.url, config=config, required=True)
    with workers.Workers(tmp_path / "spool") as served:

        async def start(*args, user="alice", tenant="acme", work=True):
            if work and not served._running:
                await asyncio.to_thread(served.start, connected, declared)
            with shim.correlate(user=user, tenant=tenant):
                return (await declared.asubmit(*args)).callid

        yield start
    await asyncio.to_thread(connected.close)


async def standing(plane, task, user="alice"):
    return await plane.ask("GET", f"/_crossfade/tasks/{task}", plane.token(user))


async def ended(plane, task):
    """Its monitor's answer, once it is over."""

    async def look():
        answer = await standing(plane, task)
        return answer if "retry-after" not in answer.headers else None

    return await until(look)


async def test_a_task_ends_in_a_redirect_to_its_result(plane, submit):
    """While it runs 200 and when to look again; then 303, and the value as JSON."""
    task = await submit("events")
    over = await ended(plane, task)
    assert (over.status_code, over.headers["location"]) == (303, f"/_crossfade/tasks/{task}/result")
    result = await plane.ask("GET", over.headers["location"], plane.token())
    assert (result.status_code, result.json()) == (200, {"about": "events"})
    assert result.headers["cache-control"] == "no-store"


async def test_a_task_nobody_has_started_says_so(plane, submit):
    """Waiting, with an ETag that saves the second answer, and no result yet."""
    task = await submit("events", work=False)
    answer = await standing(plane, task)
    assert (answer.status_code, answer.json()["status"], answer.headers["retry-after"]) == (200, "waiting", "2")
    again = await plane.ask(
        "GET", f"/_crossfade/tasks/{task}", plane.token(), headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    assert (await plane.ask("GET", f"/_crossfade/tasks/{task}/result", plane.token())).status_code == 409


async def test_a_failed_task_says_what_failed_and_not_on_what(plane, submit):
    """The monitor itself worked: 200 with a problem inside, by the error's type."""
    answer = await ended(plane, await submit("bad"))
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "failed", "ValueError")
    assert answer.json()["error"]["detail"] == "ValueError"
    assert SECRET not in answer.text


@pytest.mark.parametrize(("user", "tenant"), [("bob", "acme"), ("alice", "other"), ("alice", "")])
async def test_anothers_task_is_not_there(plane, submit, user, tenant):
    """Neither its state nor its result, progress or cancel; the answer is that of a task that never was."""
    task = await submit("for ever")
    token = plane.token(user, tenant)
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", ""), ("GET", "/events")):
        answer = await plane.ask(method, f"/_crossfade/tasks/{task}{path}", token)
        other = new_id()
        never = await plane.ask(method, f"/_crossfade/tasks/{other}{path}", token)
        assert (answer.status_code, never.status_code) == (404, 404)
        assert answer.text.replace(task, "") == never.text.replace(other, "")
    assert (await plane.ask("DELETE", f"/_crossfade/tasks/{task}", plane.token())).status_code == 202


async def test_a_task_that_has_not_started_is_cancelled_for_good(plane, submit):
    """200: no worker that comes later runs it. One that runs is told: 202, and it ends."""
    task = await submit("events", work=False)
    given_up = await plane.ask("DELETE", f"/_crossfade/tasks/{task}", plane.token())
    assert (given_up.status_code, given_up.json()["status"]) == (200, "cancelled")
    running = await submit("for ever")
    await until(lambda: _is(plane, running, "running"))
    asked = await plane.ask("DELETE", f"/_crossfade/tasks/{running}", plane.token())
    assert (asked.status_code, asked.json()["status"]) == (202, "asked")
    assert (await ended(plane, running)).json()["status"] == "cancelled"
    assert (await standing(plane, task)).json()["status"] == "cancelled"


async def _is(plane, task, status):
    return (await standing(plane, task)).json()["status"] == status


async def test_its_events_come_from_the_start_to_the_end(plane, submit):
    """Whenever one begins to listen; the end closes the stream, and a browser that comes back stops."""
    task = await submit("events", 5)
    await ended(plane, task)
    path = f"/_crossfade/tasks/{task}/events"
    async with plane.stream(path=path) as page:
        data, steps = await page.until("call.ended")
        with pytest.raises(EOFError):
            await page.next()
    assert (data["data"]["outcome"], steps) == ("value", [f"step {n}" for n in range(5)])
    again = await plane.ask("GET", path, plane.token(), headers={"Last-Event-ID": page.last_id})
    assert again.status_code == 204


async def test_an_id_of_yesterday_is_gone_and_one_of_nobody_is_not_there(plane):
    """410 for what was there perhaps, by the time in its id; 404 for the rest."""
    old = "0190" + "0" * 8 + "7" + "0" * 19
    assert is_older_than_kept(old, now=plane.control.bus.now())
    assert (await standing(plane, old)).status_code == 410
    for task in (new_id(), "x", "h_x", "-"):
        assert (await standing(plane, task)).status_code == 404
    assert (await plane.ask("GET", "/_crossfade/tasks/x")).status_code == 401
    assert (await standing(plane, "a.b")).status_code == 422


async def test_operators_see_everybodys_tasks(plane, submit):
    """Newest first, with their owners and how they stand."""
    first = await submit("events")
    await ended(plane, first)
    second = await submit("for ever", user="bob")
    listed = (await plane.ask("GET", "/api/v1/tasks", plane.view)).json()["tasks"]
    assert [(task["id"], task["user"]) for task in listed] == [(second, "bob"), (first, "alice")]
    assert listed[1]["status"] == "completed"
    await plane.ask("DELETE", f"/_crossfade/tasks/{second}", plane.token("bob"))
