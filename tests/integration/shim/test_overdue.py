"""A handler that never returns is told to stop after its deadline and the grace, and is in nobody's way then."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from crossfade.shim import (
    HandlerOverdueError,
    OutcomeUnknownError,
    agent,
    bodies,
    current_call,
    execution,
    outcome,
    tool,
)
from integration.shim import kit
from support.nats_server import NatsServer


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Ten seconds and two in earnest; nothing but the length of these tests depends on them."""
    monkeypatch.setattr(execution, "GRACE", timedelta(seconds=0.3))
    monkeypatch.setattr(bodies, "LAST_WORD", 0.3)


@pytest.fixture
def synced(tmp_path):
    """Ask for it before ``connect``, so that it outlives the connection."""
    with NatsServer(tmp_path / "nats", sync_always=True) as server:
        yield server


@pytest.fixture
def release():
    """What a hung plain function waits for; set at the end of the test, so that its thread ends."""
    event = threading.Event()
    yield event
    event.set()


def health(connection, worker):
    return kit.on_loop(connection, worker.health())


def test_a_hung_coroutine_is_cancelled_and_its_slot_serves_the_next_call(nats_server, connect, work, counts):
    """The only slot is free again, the log has an error that names the reason, and nothing is stuck."""
    stopped = threading.Event()

    @agent("hung.coroutine", effects="none", stage="bus", timeout=1, fallback="raise")
    async def sleep(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            stopped.set()
        return "slept"

    connection = connect(nats_server.url)
    worker = work(connection, sleep, concurrency=1)
    hung = sleep.submit(3600)
    with pytest.raises(HandlerOverdueError, match="was told to stop"):
        hung.result()
    assert stopped.is_set()
    assert asyncio.run(sleep(0)) == "slept"
    assert counts.get("overdue", seam="hung.coroutine", reason="stopped") == 1
    assert (health(connection, worker).status, health(connection, worker).stuck) == ("serving", {})


def test_a_hung_plain_function_is_told_and_ends(nats_server, connect, work, counts):
    """One that looks at ``cancelled`` frees its slot and its thread."""

    @agent("hung.polite", effects="none", stage="bus", timeout=1, fallback="raise")
    def work_on(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if current_call().cancelled:
                return "gave up"
            time.sleep(0.01)
        return "done"

    connection = connect(nats_server.url)
    worker = work(connection, work_on, concurrency=1)
    assert work_on.submit(3600).result() == "gave up"  # its own last word counts
    assert work_on(0) == "done"
    assert health(connection, worker).stuck == {}


def test_a_thread_that_cannot_be_stopped_is_stuck_and_the_other_slots_serve(
    nats_server, connect, work, release, counts
):
    """Its call ends in an error; health names it, and says so when all are; one that ends after all is free again."""

    @agent("hung.plain", effects="none", stage="bus", timeout=1, fallback="raise")
    def hang(how: str) -> str:
        if how == "forever":
            release.wait()
        return "ended"

    @tool("hung.neighbour", effects="none", stage="bus", timeout=10, fallback="raise")
    def neighbour() -> str:
        return "served"

    connection = connect(nats_server.url)
    worker = work(connection, hang, neighbour, concurrency=2)
    with pytest.raises(HandlerOverdueError):
        hang.submit("forever").result()
    kit.until(lambda: worker.in_flight == 0, what="its command was not acknowledged")
    assert (health(connection, worker).status, health(connection, worker).stuck) == ("serving", {"hung.plain": 1})
    assert (hang("not"), neighbour()) == ("ended", "served")

    with pytest.raises(HandlerOverdueError):
        hang.submit("forever").result()
    assert (health(connection, worker).status, health(connection, worker).stuck) == ("stuck", {"hung.plain": 2})
    assert neighbour() == "served"
    with pytest.raises(OutcomeUnknownError):
        hang("not")
    assert worker.in_flight == 0  # it lies on the broker, for another worker

    release.set()
    kit.until(lambda: health(connection, worker).stuck == {}, what="a slot stays stuck")
    assert hang("not") == "ended"
    assert counts.get("overdue", seam="hung.plain", reason="stuck") == 2


def test_an_unsafe_call_of_a_hung_handler_ends_as_unknown_and_its_late_result_counts(
    synced, connect, work, release, counts
):
    """Nobody knows what it did; when the function returns after all, its own word supersedes that."""

    @agent("hung.charge", stage="bus", timeout=1)
    def charge(order: str) -> str:
        release.wait()
        return f"charged {order}"

    work(connect(f"{synced.url}?sync=always"), charge, concurrency=1)
    task = charge.submit("17")
    with pytest.raises(OutcomeUnknownError):
        task.result()
    assert counts.get("unknown", seam="hung.charge", reason="overdue") == 1
    assert outcome(task.callid).kind == "unknown"
    release.set()
    kit.until(lambda: outcome(task.callid).kind == "value", what="the late result was not logged")
    assert counts.get("late", seam="hung.charge", reason="overdue") == 1
