"""A caller that is cancelled while it waits: its own end is not delayed, its worker hears of it, the ledger ends."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from crossfade.shim import correlate
from crossfade.shim.errors import BusAmbiguousError
from integration.ledger.world import SOON, until


class Waiting:
    """A coroutine body that waits until it is cancelled or let go, and says which."""

    def __init__(self, journal):
        self.began, self.go = threading.Event(), threading.Event()
        self.ended = []
        self.journal = journal

    def body(self):
        async def wait(arg: str) -> str:
            self.journal.start(arg)
            self.began.set()
            try:
                await asyncio.to_thread(self.go.wait, SOON)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            self.ended.append("done")
            return f"{arg} done"

        return wait


@pytest.fixture
def waiting(world):
    """The body; whatever still waits at the end is let go."""
    made = Waiting(world.journal)
    yield made
    made.go.set()


def cancel_when(side, condition, arg="a"):
    """Call, and cancel the call once ``condition`` holds; returns the seconds that the cancellation took."""

    async def main():
        task = asyncio.create_task(side.call(arg))
        await asyncio.to_thread(until, condition)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return time.monotonic() - began

    return asyncio.run(main())


@pytest.mark.parametrize("effects", ["unsafe", "none"])
def test_what_runs_is_told(world, waiting, counts, effects):
    """The handler gets CancelledError where it waits, and the call ends in one terminal that says so."""
    caller = world.side(waiting.body(), timeout=15, effects=effects)
    worker = world.side(waiting.body(), effects=effects).serve()
    assert cancel_when(caller, waiting.began.is_set) < 1
    until(lambda: waiting.ended == ["cancelled"])
    (terminal,) = until(lambda: world.terminals(worker))
    assert (terminal.kind, terminal.error.type) == ("error", "crossfade.shim.errors.CallCancelledError")
    assert world.journal.lines == ["a"]
    until(lambda: counts.get("cancelled", seam=world.seam) == 1)
    assert counts.get("given-up", seam=world.seam) == 1


def test_what_had_not_begun_never_does(world, waiting):
    """An unsafe call that waits for a worker is claimed by whoever gave it up: not executed, provably."""
    caller = world.side(waiting.body(), timeout=15)
    cancel_when(caller, lambda: world.log(caller))
    until(lambda: world.kinds(caller) == ["invoke", "own", "result"])
    assert [(answer.kind, answer.reason) for answer in world.terminals(caller)] == [("not-executed", "cancelled")]
    worker = world.side(waiting.body()).serve()
    until(lambda: worker.in_flight == 0 and world.kinds(caller) == ["invoke", "own", "result"])
    assert world.journal.lines == []


def test_what_may_run_twice_and_had_not_begun(world, waiting):
    """Without a ledger the workers remember what was given up: it is refused when its turn comes."""
    caller = world.side(waiting.body(), timeout=15, effects="none")
    worker = world.side(waiting.body(), effects="none").serve(concurrency=1)
    busy = world.pool.submit(asyncio.run, _await(caller.call("busy")))
    until(waiting.began.is_set)
    cancel_when(caller, lambda: world.kinds(caller).count("invoke") == 2, "late")
    until(lambda: any(caller_id for caller_id in worker._worker._executions[0]._given_up))
    waiting.go.set()
    assert busy.result(SOON) == "busy done"
    until(lambda: len(world.terminals(caller)) == 2)
    assert [answer.reason for answer in world.terminals(caller)] == ["", "cancelled"]
    assert world.journal.lines == ["busy"]


async def _await(call):
    return await call


def test_a_key_stands_for_whoever_waits(world, waiting):
    """A keyed call goes on when one of its callers is cancelled: the next one with the key gets its result."""
    caller = world.side(waiting.body(), timeout=15)
    world.side(waiting.body()).serve()
    with correlate(key="order-1"):
        cancel_when(caller, waiting.began.is_set)
        waiting.go.set()
        assert asyncio.run(_await(caller.call("a"))) == "a done"
    assert (waiting.ended, world.journal.lines) == (["done"], ["a"])


def test_a_bus_that_hangs_delays_no_cancellation(world, waiting, monkeypatch, counts):
    """Neither claim nor word gets through: the caller is cancelled at once all the same."""
    caller = world.side(waiting.body(), timeout=15)
    world.side(waiting.body()).serve()
    append = caller.bus.append

    async def hanging(subject, event, **options):
        if subject.endswith(".own"):
            await asyncio.sleep(0.5)
            raise BusAmbiguousError("no answer")
        return await append(subject, event, **options)

    monkeypatch.setattr(caller.bus, "append", hanging)
    assert cancel_when(caller, waiting.began.is_set) < 0.4
    waiting.go.set()
    until(lambda: len(world.terminals(caller)) == 1)
    assert world.journal.lines == ["a"]


def test_an_answer_in_the_moment_of_the_cancellation(world):
    """The claim was won for a caller that is cancelled before it hears so: the call ends as not executed."""
    caller = world.side(_never(world.journal), timeout=0.3)
    asking = caller.call.__crossfade_seam__.route._ask
    answered = threading.Event()

    def slowly(command):
        future = asking(command)
        future.add_done_callback(lambda _: answered.set())
        return future

    caller.seam.route._ask = slowly

    async def main():
        task = asyncio.create_task(caller.call("a"))
        await asyncio.sleep(0)
        answered.wait(SOON)  # blocks this loop: the answer is there, and its task has not seen it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(lambda: world.terminals(caller))
    assert [(answer.kind, answer.reason) for answer in world.terminals(caller)] == [("not-executed", "cancelled")]
    assert world.journal.lines == []


def _never(journal):
    async def body(arg: str) -> str:
        journal.start(arg)
        return arg

    return body
