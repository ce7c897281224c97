"""Invariant 7: a result is durable before anybody hears of it, and a reply is only a hint."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.shim import tool
from crossfade.shim.bindings import from_nats
from crossfade.shim.errors import BusFullError, BusUnavailableError
from crossfade.shim.events import Event
from crossfade.shim.spool import Spool
from crossfade.shim.worker import Worker
from integration.shim import kit


def test_a_dropped_reply_is_found_by_looking_it_up(connect, work, broker, counts):
    """The reply vanishes; half way to the deadline the log gives the answer."""

    @tool("web.search", effects="none", stage="bus", timeout=1, fallback="raise")
    def search(q: str) -> str:
        return q.upper()

    connection = connect()
    work(connection, search)
    broker.lose_replies(1)
    assert search("x") == "X"
    assert counts.get("looked-up") == 1


def test_a_result_found_only_at_the_deadline_still_counts(connect, work, broker, counts):
    """The last look-up comes before giving up: a late result that is there is never "unknown"."""
    release = threading.Event()

    @tool("web.late", effects="none", stage="bus", timeout=1, fallback="raise")
    def late() -> str:
        release.wait(0.94)
        return "just in time"

    connection = connect()
    work(connection, late)
    broker.lose_replies(1)
    assert late() == "just in time"


def test_nothing_is_replied_before_it_is_logged(connect, work, broker, counts, monkeypatch):
    """The log refuses three times: the caller hears nothing until the fourth try has made it durable."""
    logged = []
    reply = Worker._reply

    def spy(worker, delivery, event):
        logged.append((counts.get("result-retried"), event.id in stored_ids(broker, connection)))
        reply(worker, delivery, event)

    @tool("web.search", effects="none", stage="bus", timeout=8, fallback="raise")
    def search() -> str:
        for _ in range(3):  # from here on: the command itself is logged already
            broker.fail_next("publish", BusFullError())
        return "found"

    monkeypatch.setattr(Worker, "_reply", spy)
    connection = connect()
    work(connection, search)
    assert search() == "found"
    assert logged == [(3, True)]


def stored_ids(broker, connection):
    prefix = connection.runtime.config.prefix
    pattern = f"{prefix}.>"
    return {from_nats(m.headers, m.data).id for m in broker.stream(prefix, pattern).after(0, (pattern,))}


@pytest.mark.parametrize("size", [10, 400_000])
def test_a_result_that_cannot_be_logged_is_spooled_then_logged_then_acknowledged(connect, work, broker, tmp_path, size):
    """The bus goes away after the body has run: its result lies on disk, is logged when the bus is back, once."""
    runs = []

    @tool("web.search", effects="none", stage="bus", timeout=10, fallback="raise")
    def search() -> str:
        runs.append(1)
        if len(runs) == 1:
            broker.stop()
        return "x" * size

    connection = connect()
    worker = work(connection, search, spool=tmp_path / "spool")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(search)
        kit.until(lambda: list((tmp_path / "spool").glob("*.json")))
        assert not call.done()
        assert worker.in_flight == 1
        broker.start()
        assert call.result(kit.SOON) == "x" * size
    kit.until(lambda: worker.in_flight == 0)
    assert list((tmp_path / "spool").iterdir()) == []
    assert len(runs) == 1


def test_a_full_disk_does_not_lose_a_result(connect, work, broker, counts, tmp_path):
    """The spool fails, too: the worker keeps the result in memory and goes on trying."""
    (tmp_path / "file").write_text("where a folder should be")

    @tool("web.search", effects="none", stage="bus", timeout=10, fallback="raise")
    def search() -> str:
        broker.fail_next("publish", BusUnavailableError())
        return "found"

    connection = connect()
    work(connection, search, spool=tmp_path / "file" / "spool")
    assert search() == "found"
    assert counts.get("spool-failed") >= 1
    kit.until(lambda: counts.get("served", reason="value") == 1)


def test_a_worker_logs_what_a_dead_one_left_in_the_spool(connect, work, tmp_path, counts):
    """What a process left on disk is published by the next one on that machine, large results as claim checks."""

    @tool("web.search", effects="none", timeout=10)
    def search() -> str:
        return "found"

    connection = connect()
    subject = connection.runtime.subjects.call("result", domain="tool", seam="web.search", run="r", callid="c")
    spool = Spool(tmp_path / "spool")
    spool.add(subject, Event(type="tool.result", source="urn:t", id="small", data=b'{"outcome": "value"}'))
    spool.add(subject, Event(type="tool.result", source="urn:t", id="large", data=b'"' + b"x" * 300_000 + b'"'))
    work(connection, search, spool=tmp_path / "spool")
    kit.until(lambda: counts.get("spool-drained") == 2)
    assert {event.id: event.get("dataref") is not None for event in kit.read(connection, "{p}.>")} == {
        "small": False,
        "large": True,
    }
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_spooled_result_that_nobody_takes_does_not_stop_the_worker(connect, work, tmp_path, counts):
    """Another installation's result lies in the shared folder: it stays there, counted, and calls are served."""

    @tool("web.search", effects="none", stage="bus", timeout=10, fallback="raise")
    def search() -> str:
        return "found"

    connection = connect()
    spool = Spool(tmp_path / "spool")
    spool.add("other.0.-.-.tool.x.r.c.result", Event(type="tool.result", source="urn:t", id="foreign"))
    (tmp_path / "spool" / "torn.json").write_text('{"subject": ')
    work(connection, search, spool=tmp_path / "spool")
    assert search() == "found"
    kit.until(lambda: counts.get("result-retried", reason="BusRefusedError"))
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["foreign.json", "torn.bad"]
    assert counts.get("spool-unreadable") == 1


def test_a_caller_waits_through_a_restart_of_the_broker(own_server, connect, work, counts):
    """The broker restarts while the body runs: the caller looks the result up as soon as it is back."""
    running, release = threading.Event(), threading.Event()

    @tool("web.search", effects="none", stage="bus", timeout=20, fallback="raise")
    def search() -> str:
        running.set()
        assert release.wait(kit.SOON)
        return "found"

    connection = connect(own_server.url)
    work(connection, search, ack_wait=5)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(search)
        assert running.wait(kit.SOON)
        own_server.kill()
        release.set()
        kit.until(lambda: counts.get("result-retried"))
        own_server.start()
        assert call.result(kit.SOON) == "found"


def test_a_result_logged_while_the_caller_was_cut_off_is_found_on_reconnect(connect, work, broker, counts):
    """Nobody waits for the half-time look-up: a reconnect asks the log at once."""
    running, release = threading.Event(), threading.Event()

    @tool("web.search", effects="none", stage="bus", timeout=60, fallback="raise")
    def search() -> str:
        running.set()
        assert release.wait(kit.SOON)
        return "found"

    connection = connect()
    work(connection, search)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(search)
        assert running.wait(kit.SOON)
        broker.lose_replies(1)
        release.set()
        kit.until(lambda: counts.get("served") == 1)
        broker.stop()
        broker.start()
        assert call.result(5) == "found"
    assert counts.get("looked-up") == 1


def test_a_redelivered_call_that_was_answered_is_answered_again_not_run_again(connect, work, broker, counts):
    """The acknowledgement got lost: the next delivery finds the result in the log and sends it once more."""
    runs = []

    @tool("web.search", effects="none", stage="bus", timeout=10, fallback="raise")
    def search() -> str:
        runs.append(1)
        return "found"

    connection = connect()
    broker.lose_replies(1)
    broker.fail_next("ack", BusUnavailableError("cut off before the ack"))
    work(connection, search, ack_wait=1)
    assert search() == "found"
    kit.until(lambda: counts.get("redelivered", reason="answered") == 1)
    assert runs == [1]
