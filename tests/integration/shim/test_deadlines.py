"""Invariant 8: every wait ends at a deadline of the broker's time, judged before anything runs; the late is counted."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

import pytest

from crossfade.shim import NotExecutedError, OutcomeUnknownError, tool
from crossfade.shim.events import Event, new_id
from integration.shim import kit


def command(connection, seam, *, expiry, data=b'{"arguments": {}}', **extensions):
    """Publish a command of our own; returns its call id."""
    runtime, callid = connection.runtime, new_id()
    attributes = {"callid": callid, "expirytime": expiry, **extensions}
    event = Event(
        type="tool.invoke",
        source="urn:test",
        id=callid,
        extensions={name: value for name, value in attributes.items() if value is not None},
        data=data,
    )
    subject = runtime.subjects.call("invoke", domain="tool", seam=seam, run=callid, callid=callid)
    kit.on_loop(connection, runtime.bus.publish(subject, event))
    return callid


def result(connection, callid):
    """The result payload of a call, once there is one."""
    pattern = connection.runtime.subjects.of_call(callid, "result")
    (event,) = kit.until(lambda: kit.read(connection, pattern))
    return json.loads(event.data)


@pytest.fixture
def ran():
    """Fills when the body runs."""
    return []


@pytest.fixture
def seam(ran):
    """A seam at the bus that notes its runs."""

    @tool("web.search", effects="none", stage="bus", timeout=5, fallback="raise")
    def search() -> str:
        ran.append(1)
        return "found"

    return search


def test_an_expired_command_does_not_run(connect, work, seam, ran):
    """Its terminal is not-executed, so the body may legally run elsewhere."""
    connection = connect()
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    callid = command(connection, "web.search", expiry=past)
    work(connection, seam)
    assert result(connection, callid) == {"outcome": "not-executed", "reason": "expired", "message": ""}
    assert ran == []


@pytest.mark.parametrize("clock", [timedelta(hours=1), timedelta(hours=-1)])
def test_the_brokers_clock_decides_not_the_workers(connect, work, seam, monkeypatch, clock):
    """A worker whose own clock is an hour off in either direction judges as the broker would."""
    connection = connect()
    expiry = (datetime.now(UTC) + clock / 2).isoformat()
    monkeypatch.setattr(connection.runtime.bus, "now", lambda: datetime.now(UTC) + clock)
    callid = command(connection, "web.search", expiry=expiry)
    work(connection, seam)
    assert result(connection, callid)["outcome"] == ("not-executed" if clock > timedelta(0) else "value")


def test_the_deadline_is_judged_again_after_fetching_the_arguments(connect, work, seam, ran, monkeypatch):
    """The claim check took until after the deadline: the body does not start."""
    connection = connect()
    start = datetime.now(UTC)
    times = chain([start], repeat(start + timedelta(seconds=9)))
    monkeypatch.setattr(connection.runtime.bus, "now", lambda: next(times))
    callid = command(connection, "web.search", expiry=(start + timedelta(seconds=5)).isoformat())
    work(connection, seam)
    assert result(connection, callid)["reason"] == "expired"
    assert ran == []


def test_a_caller_of_an_expired_command_hears_not_executed(connect, work, seam, ran, broker):
    """The worker was late by the broker's clock: provably not executed, said as such."""
    connection = connect()
    connection.runtime.deadline = lambda seconds: datetime.now(UTC) - timedelta(seconds=1)
    work(connection, seam)
    with pytest.raises(NotExecutedError) as caught:
        seam()
    assert caught.value.reason == "expired"
    assert ran == []


def test_a_late_result_is_counted_and_kept(connect, work, counts):
    """The caller gave up; the result is logged all the same and its reply counted."""
    release = threading.Event()

    @tool("slow.one", effects="none", stage="bus", timeout=0.3, fallback="raise")
    def slow() -> str:
        assert release.wait(kit.SOON)
        return "too late"

    connection = connect()
    work(connection, slow)
    with pytest.raises(OutcomeUnknownError) as caught:
        slow()
    release.set()
    assert result(connection, caught.value.callid)["value"] == "too late"
    kit.until(lambda: counts.get("late", seam="slow.one") == 1)


def test_a_call_ends_at_its_deadline_though_the_broker_hangs(own_server, connect):
    """SIGSTOP: publish and look-ups get no answer, and the caller waits at most one second more."""

    @tool("web.hangs", effects="none", stage="bus", timeout=0.5, fallback="raise")
    def hangs() -> str: ...

    connect(own_server.url)
    own_server.pause()
    began = time.monotonic()
    with pytest.raises(OutcomeUnknownError):
        hangs()
    waited = time.monotonic() - began
    own_server.resume()
    assert 0.5 <= waited < 2.5


@pytest.mark.parametrize("expiry", [None, "", "soon", "2026-01-01T00:00:00", "9" * 5000])
def test_a_command_without_a_deadline_does_not_run(connect, work, seam, ran, expiry):
    """No deadline, no zone, no time: dead letters, and a terminal that says why."""
    connection = connect()
    callid = command(connection, "web.search", expiry=expiry)
    work(connection, seam)
    assert result(connection, callid)["outcome"] == "not-executed"
    assert [letter.reason for letter in kit.until(lambda: kit.dead_letters(connection))] == ["attributes"]
    assert ran == []
