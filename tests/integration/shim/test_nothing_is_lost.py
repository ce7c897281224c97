"""Invariants 6 and 9: every call ends in one terminal, whatever dies; no delivery is lost by stopping a worker."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.shim import NotExecutedError, OutcomeUnknownError, current_call, tool
from crossfade.shim.errors import BusAmbiguousError
from integration.shim import kit


@pytest.mark.parametrize("kind", ["memory", "nats"])
def test_concurrency_is_what_was_asked_for(connect, work, nats_server, kind):
    """Eight places hold eight calls at once: none waits for another to finish."""
    meeting = threading.Barrier(8)

    @tool("slow.meeting", effects="none", stage="bus", timeout=5, fallback="raise")
    def meet() -> int:
        return meeting.wait(timeout=4) * 0

    connection = connect(nats_server.url if kind == "nats" else None)
    work(connection, meet, concurrency=8)
    with ThreadPoolExecutor(8) as callers:
        assert [call.result() for call in [callers.submit(meet) for _ in range(8)]] == [0] * 8


def test_concurrency_is_a_limit(connect, work):
    """Two places never hold three calls."""
    inside, most = [], []

    @tool("slow.limited", effects="none", stage="bus", timeout=10, fallback="raise")
    async def limited() -> None:
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(0.01)
        inside.pop()

    connection = connect()
    work(connection, limited, concurrency=2)
    asyncio.run(kit.gather(*(limited() for _ in range(20))))
    assert max(most) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_worker_stops_though_every_place_is_taken(connect, work, counts, kind):
    """A body that hangs costs the grace period, not the whole stop; its call goes to the next worker."""
    release = threading.Event()
    began = threading.Event()

    @tool("slow.sync", effects="none", stage="bus", timeout=8, fallback="raise")
    def hang() -> str:
        if not began.is_set():
            began.set()
            release.wait(5)
        return "done"

    @tool("slow.async", effects="none", stage="bus", timeout=8, fallback="raise")
    async def ahang() -> str:
        if not began.is_set():
            began.set()
            await asyncio.sleep(5)
        return "done"

    connection = connect()
    function = hang if kind == "sync" else ahang
    worker = work(connection, function, concurrency=1, grace=0.2, ack_wait=1)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(hang) if kind == "sync" else callers.submit(asyncio.run, ahang())
        assert began.wait(kit.SOON)
        worker.stop()
        kit.until(lambda: counts.get("abandoned", reason="grace"), timeout=2)
        release.set()
        work(connection, function, ack_wait=1)
        assert call.result(kit.SOON) == "done"


def test_stopping_during_traffic_loses_nothing(connect, work, nats_server):
    """Workers come and go under load: every call is answered, each by the bus."""

    @tool("web.busy", effects="none", stage="bus", timeout=15, fallback="raise")
    def busy(n: int) -> int:
        assert current_call() is not None
        return n

    connection = connect(nats_server.url)
    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(busy, n) for n in range(300)]
        worker = work(connection, busy, ack_wait=2)
        for done in (50, 120, 200):
            kit.until(lambda done=done: sum(call.done() for call in calls) >= done)
            worker.stop()
            worker = work(connection, busy, ack_wait=2)
        assert [call.result(20) for call in calls] == list(range(300))


def test_two_workers_share_the_calls_and_answer_each_once(connect, work, nats_server, counts):
    """Two members of one group: both serve, none twice."""
    served: list[int] = []

    @tool("web.shared", effects="none", stage="bus", timeout=15, fallback="raise")
    def shared(n: int) -> int:
        served.append(n)
        return n

    connection = connect(nats_server.url)
    work(connection, shared, concurrency=2)
    work(connection, shared, concurrency=2)
    with ThreadPoolExecutor(16) as callers:
        assert list(callers.map(shared, range(100))) == list(range(100))
    assert sorted(served) == list(range(100))
    assert counts.get("served") == 100


def test_two_hundred_threads_call_one_seam(connect, work, nats_server):
    """Each thread gets its own answer."""

    @tool("web.crowd", effects="none", stage="bus", timeout=20, fallback="raise")
    def crowd(n: int) -> int:
        return n

    connection = connect(nats_server.url)
    work(connection, crowd)
    start = threading.Barrier(200)

    def call(n: int) -> int:
        start.wait()
        return crowd(n)

    with ThreadPoolExecutor(200) as callers:
        assert list(callers.map(call, range(200))) == list(range(200))


def test_no_call_is_lost_when_the_broker_is_killed(own_server, connect, work, counts):
    """kill -9 and a restart in the middle of traffic: every call ends with its own result."""

    @tool("web.killed", effects="none", stage="bus", timeout=20, fallback="raise")
    def killed(n: int) -> int:
        return n

    connection = connect(own_server.url)
    work(connection, killed, ack_wait=2)

    def call(n: int) -> int:
        while True:  # not connected right now: provably not executed, so the caller may try again
            try:
                return killed(n)
            except NotExecutedError:
                threading.Event().wait(0.1)

    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(call, n) for n in range(400)]
        kit.until(lambda: sum(call.done() for call in calls) > 100)
        own_server.restart(kill=True)
        assert [call.result(25) for call in calls] == list(range(400))
    assert counts.get("reconnected") >= 1


WORKER = """
    import sys, os, time
    from crossfade.shim import tool, connect, current_call
    from crossfade.shim.config import Config
    from crossfade.shim.worker import Worker, WorkerOptions
    from pathlib import Path

    @tool("web.mortal", effects="idempotent", timeout=20)
    def mortal(n: int) -> list[int]:
        attempt = current_call().attempt
        print("began", n, attempt, flush=True)
        if attempt == 1:
            time.sleep(60)
        return [n, attempt]

    if __name__ == "__main__":
        connection = connect(sys.argv[1], config=Config(prefix=sys.argv[2]), required=True)
        Worker(connection.runtime, WorkerOptions(ack_wait=1, spool=Path("spool"))).run()
"""


def test_a_call_whose_worker_is_killed_goes_to_another(connect, work, nats_server, prefix, tmp_path):
    """kill -9 in the middle of the body: the redelivery answers the caller, which waited all the while."""

    @tool("web.mortal", effects="idempotent", stage="bus", timeout=20, fallback="raise")
    def mortal(n: int) -> list[int]:
        call = current_call()
        return [n, call.attempt if call else 0]

    connection = connect(nats_server.url)
    with ThreadPoolExecutor(1) as callers, kit.python(WORKER, nats_server.url, prefix, folder=tmp_path) as process:
        call = callers.submit(mortal, 7)
        assert process.stdout.readline().split() == ["began", "7", "1"]
        process.kill()
        work(connection, mortal, ack_wait=1)
        assert call.result(kit.SOON) == [7, 2]


def test_a_call_that_nobody_serves_ends_unknown_at_its_deadline(connect):
    """Sent, and no result: unknown, with what is needed to ask again."""

    @tool("web.nobody", effects="none", stage="bus", timeout=0.3, fallback="raise")
    def nobody() -> int: ...

    connect()
    with pytest.raises(OutcomeUnknownError) as caught:
        nobody()
    assert len(caught.value.callid) == 32
    assert caught.value.deadline.tzinfo is not None


def test_closing_ends_the_calls_that_wait(connect):
    """A thread and a task that wait for answers get a terminal when the connection closes, not a cancellation."""

    @tool("web.left", effects="none", stage="bus", timeout=30, fallback="raise")
    def left() -> int: ...

    @tool("web.aleft", effects="none", stage="bus", timeout=30, fallback="raise")
    async def aleft() -> int: ...

    connection = connect()
    with ThreadPoolExecutor(2) as callers:
        calls = [callers.submit(left), callers.submit(asyncio.run, aleft())]
        kit.until(lambda: len(kit.read(connection, "{p}.>")) == 2)
        connection.close()
        for call in calls:
            with pytest.raises(OutcomeUnknownError, match="closed"):
                call.result(kit.SOON)


def test_a_call_that_meets_a_closed_connection_runs_its_body(connect, work):
    """A route picked up just before ``close`` leads nowhere: nothing was sent, so the body may answer."""

    @tool("web.stale", effects="none", stage="bus", timeout=5)
    def stale() -> str:
        return "bus" if current_call() else "body"

    @tool("web.astale", effects="none", stage="bus", timeout=5)
    async def astale() -> str:
        return "bus" if current_call() else "body"

    connection = connect()
    route, aroute = stale.__crossfade_seam__.route, astale.__crossfade_seam__.route
    connection.close()
    assert route.call(stale.__crossfade_seam__, stale.__wrapped__, (), {}) == "body"
    assert asyncio.run(aroute.acall(astale.__crossfade_seam__, astale.__wrapped__, (), {})) == "body"


def test_a_broker_that_does_not_answer_at_first_is_waited_for(connect, broker):
    """While a cluster elects its leaders nobody answers: ``required`` is patient with that, within its wait."""
    broker.fail_next("open", BusAmbiguousError("no answer within 5 s"))
    assert connect().connected
