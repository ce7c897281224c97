"""Caller and worker disagree about what running twice does: what is unsafe to one never runs twice."""

from __future__ import annotations

import time

import pytest

from crossfade.shim.errors import NotExecutedError, OutcomeUnknownError
from integration.ledger.world import until


def at_worker(world, seconds=0.0):
    def body(arg: str) -> str:
        world.journal.start("worker")
        time.sleep(seconds)
        return f"{arg} at the worker"

    return body


@pytest.mark.parametrize("said", ["none", "idempotent"])
def test_the_worker_says_unsafe(world, counts, said):
    """It refuses before it runs, so the caller's own body is the only one that starts, also when it is late."""
    caller = world.side(timeout=5, effects=said)
    world.side(at_worker(world)).serve()
    assert caller.call("a") == "a done"
    assert world.journal.lines == ["a"]
    assert [(answer.kind, answer.reason) for answer in world.terminals(caller)] == [("not-executed", "effects-differ")]
    assert counts.get("refused", seam=world.seam, reason="effects-differ") == 1
    assert counts.get("fallback", seam=world.seam, reason="effects-differ") == 1


def test_without_a_fallback_it_has_a_name(world):
    """The caller hears why; nothing ran."""
    caller = world.side(timeout=5, effects="none", fallback="raise")
    world.side(at_worker(world)).serve()
    with pytest.raises(NotExecutedError, match="effects-differ"):
        caller.call("a")
    assert world.journal.lines == []


def test_a_later_delivery_is_no_proof(world, monkeypatch):
    """A worker that agrees with the caller lost its delivery in mid-call: no "not executed", no fallback."""

    async def no_heart(self, *args):
        await first.runtime.ready.wait()

    caller, first = world.side(timeout=8, effects="none"), world.side(at_worker(world, 4), effects="none")
    monkeypatch.setattr("crossfade.shim.worker.Worker._beat", no_heart)
    first.serve(ack_wait=1.0, concurrency=1)
    call = world.pool.submit(caller.call, "a")
    until(lambda: world.journal.lines)
    world.side(at_worker(world)).serve(ack_wait=1.0)
    with pytest.raises(OutcomeUnknownError, match="effects-differ"):
        call.result(20)
    assert world.journal.lines == ["worker"]


def test_the_caller_says_unsafe(world):
    """The stricter side counts: the call is claimed, and its caller never falls back beside a worker."""
    caller = world.side(timeout=0.6)
    world.side(at_worker(world, 1.2), effects="none").serve()
    with pytest.raises(OutcomeUnknownError, match="started"):
        caller.call("a")
    assert world.journal.lines == ["worker"]
    until(lambda: "value" in [answer.kind for answer in world.terminals(caller)])
