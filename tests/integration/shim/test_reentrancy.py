"""A handler that waits for a nested call lends its slot, so that a full worker never waits for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - looked up as types of seams
from contextlib import contextmanager

import pytest

from crossfade.shim import NestedTooDeepError, current_call, slots, tool
from integration.shim import kit

BUS = {"effects": "none", "stage": "bus", "timeout": 8, "fallback": "raise"}


class Running:
    """How many bodies ran at once, at most; those that wait for a nested call do not count."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._now = self.most = 0

    @contextmanager
    def body(self) -> Iterator[None]:
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a nested call: narrower than the time in which the slot is lent."""
        self._change(-1)
        try:
            yield
        finally:
            self._change(1)

    def _change(self, by: int) -> None:
        with self._gate:
            self._now += by
            self.most = max(self.most, self._now)


@pytest.mark.parametrize("broker_kind", ["memory", "nats"])
def test_two_seams_may_call_each_other_over_a_full_worker(broker_kind, nats_server, connect, work):
    """A to B to A with one slot each, plain: far below the deadline, and every level ran over the bus."""
    callids = []

    @tool("ring.a", **BUS)
    def a(n: int) -> int:
        callids.append(current_call().callid)
        return 1 + b(n - 1) if n else 0

    @tool("ring.b", **BUS)
    def b(n: int) -> int:
        callids.append(current_call().callid)
        return 1 + a(n - 1) if n else 0

    connection = connect(nats_server.url if broker_kind == "nats" else None)
    worker = work(connection, a, b, concurrency=1)
    assert [a(9), a(9)] == [9, 9]
    assert len(set(callids)) == 20
    kit.until(lambda: worker.in_flight == 0, what="a command was not acknowledged")


def test_coroutines_may_call_each_other_over_a_full_worker(nats_server, connect, work):
    """The same for coroutines, and for several nested calls at once."""

    @tool("ring.fork", **BUS)
    async def fork(n: int) -> int:
        return sum(await asyncio.gather(*(join(n - 1) for _ in range(2)))) if n else 1

    @tool("ring.join", **BUS)
    async def join(n: int) -> int:
        return sum(await asyncio.gather(*(fork(n - 1) for _ in range(2)))) if n else 1

    work(connect(nats_server.url), fork, join, concurrency=1)
    assert asyncio.run(fork(4)) == 16


def test_a_stream_and_a_submitted_task_lend_the_slot_too(nats_server, connect, work):
    """Waiting for an item, or for the result of a task, is waiting."""

    @tool("ring.count", **BUS)
    def count(n: int) -> Iterator[int]:
        for i in range(n):
            yield plain(i)

    @tool("ring.plain", **BUS)
    def plain(n: int) -> int:
        if n < 3:
            return n
        return sum(count(3)) + later.submit(n).result()

    @tool("ring.later", **BUS)
    def later(n: int) -> int:
        return plain(0) + n

    work(connect(nats_server.url), count, plain, later, concurrency=1)
    assert plain(5) == 8


def test_coroutines_lend_the_slot_to_a_stream_and_a_submitted_task(nats_server, connect, work):
    """The same for coroutines."""

    @tool("ring.acount", **BUS)
    async def acount(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield await aplain(i)

    @tool("ring.aplain", **BUS)
    async def aplain(n: int) -> int:
        if n < 3:
            return n
        task = await alater.asubmit(n)
        return sum([i async for i in acount(3)]) + await task.aresult()

    @tool("ring.alater", **BUS)
    async def alater(n: int) -> int:
        return await aplain(0) + n

    work(connect(nats_server.url), acount, aplain, alater, concurrency=1)
    assert asyncio.run(aplain(5)) == 8


def test_no_more_bodies_run_than_the_limit(nats_server, connect, work):
    """Twenty plain runs and twenty of coroutines over two slots: bodies that do not wait are never more than two."""
    running, arunning = Running(), Running()

    @tool("limit.outer", **BUS)
    def outer(n: int) -> int:
        with running.body():
            for _ in range(2):
                with running.waiting():
                    n += inner(0)
            return n

    @tool("limit.inner", **BUS)
    def inner(n: int) -> int:
        return n + 1

    @tool("limit.aouter", **BUS)
    async def aouter(n: int) -> int:
        with arunning.body():
            for _ in range(2):
                with arunning.waiting():
                    n += await ainner(0)
                await asyncio.sleep(0.002)
            return n

    @tool("limit.ainner", **BUS)
    async def ainner(n: int) -> int:
        return n + 1

    work(connect(nats_server.url), outer, inner, aouter, ainner, concurrency=2)

    async def many():
        plain = [asyncio.to_thread(outer, n) for n in range(20)]
        return await asyncio.gather(*plain, *(aouter(n) for n in range(20)))

    assert asyncio.run(many()) == [n + 2 for n in range(20)] * 2
    assert running.most <= 2
    assert arunning.most <= 2


def test_a_wait_given_up_by_the_handler_itself_keeps_the_account(nats_server, connect, work):
    """A timeout of its own around a nested call: the body goes on at once, and no slot is lost or won."""

    @tool("given.slow", **BUS)
    async def slow() -> str:
        await asyncio.sleep(30)
        return "slow"

    @tool("given.hasty", **BUS)
    async def hasty() -> str:
        try:
            async with asyncio.timeout(0.1):
                return await slow()
        except TimeoutError:
            return "gave up"

    worker = work(connect(nats_server.url), slow, hasty, concurrency=1)

    async def thrice():
        return await asyncio.gather(*(hasty() for _ in range(3)))

    assert asyncio.run(thrice()) == ["gave up"] * 3
    kit.until(lambda: worker.in_flight == 0)
    assert [(found._free, found.wanted) for found in (one.slots for one in worker._executions)] == [(1, 1), (1, 1)]


def test_recursion_without_end_is_a_clear_error(nats_server, connect, work, counts):
    """Not a hang until the deadline, and the worker serves on."""

    @tool("endless.a", **BUS)
    def a(n: int) -> int:
        return b(n + 1) if n >= 0 else n

    @tool("endless.b", **BUS)
    def b(n: int) -> int:
        return a(n + 1)

    work(connect(nats_server.url), a, b, concurrency=1)
    with pytest.raises(NestedTooDeepError, match="call each other without end"):
        a(0)
    assert sum(counts.get("refused", seam=seam, reason="depth") for seam in ("endless.a", "endless.b")) == 1
    assert a(-1) == -1


def test_lenders_are_bounded(nats_server, connect, work, counts, monkeypatch):
    """Whoever comes after the last that may lend its slot keeps it while it waits, counted; all are served."""
    monkeypatch.setattr(slots, "LENDERS", 2)

    @tool("bounded.outer", **BUS)
    async def outer(n: int) -> int:
        return await inner(n)

    @tool("bounded.inner", **BUS)
    async def inner(n: int) -> int:
        await asyncio.sleep(0.02)
        return n

    work(connect(nats_server.url), outer, inner, concurrency=1)

    async def many():
        return await asyncio.gather(*(outer(n) for n in range(8)))

    assert asyncio.run(many()) == list(range(8))
    assert counts.get("skipped", seam="bounded.outer", reason="lenders") >= 1
