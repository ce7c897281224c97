"""Invariant 2: at observe the caller does not wait for the bus, however the bus is."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

import pytest

from crossfade.shim import connect as shim_connect
from crossfade.shim import tool
from crossfade.shim.config import Config
from integration.shim import kit

pytestmark = pytest.mark.alone

SLOWER = 0.05  # seconds; one wait for the bus would take far longer, a busy machine's worst call less


def declare():
    @tool("web.search", stage="observe")
    def search(q: str, limit: int = 10) -> list[str]:
        return [q] * limit

    return search


def worst(function, calls=300):
    """Seconds of the median and of the slowest call but two, which the machine may have interrupted."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        function("events")
        took.append(time.perf_counter() - began)
    return statistics.median(took), sorted(took)[-3]


@pytest.mark.parametrize("broken", ["up", "stopped", "paused", "killed"])
def test_a_call_takes_as_long_with_the_broker_gone(own_server, connect, counts, note, broken):
    """Stopped, SIGSTOPped or killed: the same microseconds, and nothing is lost without being counted."""
    search = declare()
    connection = connect(own_server.url)
    search("warm up")
    {"up": int, "stopped": own_server.stop, "paused": own_server.pause, "killed": own_server.kill}[broken]()
    median, slow = worst(search)
    if broken == "paused":
        own_server.resume()
    note(f"observe, broker {broken}: median {median * 1e6:.0f} us, slowest but two {slow * 1e6:.0f} us")
    assert slow < SLOWER
    waiting = len(connection.runtime.observer._buffer)
    assert counts.get("observed") + counts.get("dropped") + waiting == 301


@pytest.mark.parametrize("operation", ["emit", "publish"])
def test_a_slow_bus_does_not_slow_the_caller(connect, broker, operation):
    """Every answer takes a second."""
    search = declare()
    connect()
    search("warm up")
    broker.delay(operation, 1.0)
    assert worst(search, 50)[1] < SLOWER


def test_async_callers_do_not_wait_either(own_server, connect):
    """The caller's loop turns on while the broker hangs."""

    @tool("web.asearch", stage="observe")
    async def asearch(q: str) -> str:
        return q

    async def main() -> float:
        longest = 0.0
        for _ in range(100):
            began = time.perf_counter()
            await asearch("x")
            longest = max(longest, time.perf_counter() - began)
        return longest

    connect(own_server.url)
    asyncio.run(asearch("warm up"))
    own_server.pause()
    longest = asyncio.run(main())
    own_server.resume()
    assert longest < SLOWER


def test_the_first_observed_call_does_not_pay_for_imports(tmp_path, note):
    """``connect`` has loaded pydantic by then; what is left is one codec."""
    code = """
        import sys, time
        from crossfade.shim import connect, tool

        @tool("web.search", stage="observe")
        def search(q: str, limit: int = 10) -> list[str]:
            return [q]

        connect("memory://first")
        loaded = len(sys.modules)
        began = time.perf_counter()
        search("x")
        print(len(sys.modules) - loaded, round((time.perf_counter() - began) * 1000))
    """
    out, _ = kit.finish(kit.python(code, folder=tmp_path))
    modules, milliseconds = map(int, out.split())
    note(f"first observed call of a process: {milliseconds} ms, {modules} modules loaded in it")
    assert modules < 30


def test_connecting_to_nothing_waits_as_long_as_was_said(prefix, counts):
    """No broker: ``connect(wait=0.3)`` returns a connection that is not connected, and calls are legacy."""
    from support.nats_server import free_port

    search = declare()
    began = time.monotonic()
    connection = shim_connect(f"nats://127.0.0.1:{free_port()}", config=Config(prefix=prefix), wait=0.3)
    assert time.monotonic() - began < 2
    assert not connection.connected
    assert search("x", 1) == ["x"]
    assert search.__crossfade_seam__.route is None
    connection.close()


def test_a_broker_that_comes_up_later_is_found(prefix, tmp_path, counts):
    """The process starts first; the seam is observed as soon as there is a broker."""
    from support.nats_server import NatsServer

    search = declare()
    server = NatsServer(tmp_path / "late")
    connection = shim_connect(server.url, config=Config(prefix=prefix), wait=0.1)
    with server:
        kit.until(lambda: connection.connected, timeout=8)
        search("x")
        assert kit.observed(connection)[0].get("seam") == "web.search"
        connection.close()
    assert counts.get("connect-failed") >= 1


def test_policies_that_cannot_be_read_at_first_do_not_double_the_listeners(connect, broker, counts, work):
    """The first attempts to open fail half way: one reply arrives once."""
    from crossfade.shim.errors import BusAmbiguousError

    @tool("web.once", effects="none", stage="bus", timeout=5, fallback="raise")
    def once() -> str:
        return "x"

    broker.fail_next("entries", BusAmbiguousError())
    broker.fail_next("create", BusAmbiguousError())  # the seam cannot be announced, and that is no reason to wait
    connection = connect()
    work(connection, once)
    assert once() == "x"
    assert len(broker.listeners[connection.runtime.calls.reply_to]) == 1
    assert counts.get("late") == 0
    assert counts.get("announce-failed") == 1


def test_threads_do_not_wait_for_each_other(connect):
    """Eight threads observe at once; every call is numbered once."""
    search = declare()
    connection = connect()

    def many():
        for n in range(200):
            search(str(n))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = kit.observed(connection, 1600)
    assert sorted(int(event.get("obsseq")) for event in events) == list(range(1, 1601))
