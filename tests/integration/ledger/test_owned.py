"""Bodies that run at the caller under a claim are owners as workers are, and know it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - seams resolve their annotations

import pytest

from crossfade.shim import correlate, current_call, report_progress
from integration.ledger.test_keys import on_legacy
from integration.ledger.world import SOON, until

seen = []


def note() -> None:
    seen.append(current_call())


def plain(arg: str) -> str:
    note()
    report_progress(0.5, "half")
    return arg


async def coroutine(arg: str) -> str:
    await asyncio.sleep(0)
    note()
    return arg


def generator(arg: str) -> Iterator[str]:
    note()
    yield arg
    note()


async def async_generator(arg: str) -> AsyncIterator[str]:
    note()
    yield arg
    await asyncio.sleep(0)
    note()


def drain(call):
    """Use a call of any kind to its end; no other code may take the call for its own meanwhile."""

    async def awaited():
        if hasattr(call, "__aiter__"):
            async for _ in call:
                assert current_call() is None
        else:
            await call

    if hasattr(call, "__await__") or hasattr(call, "__aiter__"):
        asyncio.run(awaited())
    elif hasattr(call, "__next__"):
        for _ in call:
            assert current_call() is None
    assert current_call() is None


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@pytest.mark.parametrize("body", [plain, coroutine, generator, async_generator])
def test_after_the_claim_of_a_fallback(world, counts, body):
    """Nobody serves the seam: its caller claims it, and the body has the claim's position as its fence."""
    caller = world.side(body, timeout=0.3)
    drain(caller.call("a"))
    own = next(found for found in world.log(caller) if found.subject.endswith(".own"))
    (record,) = world.claims(caller)
    assert len(seen) == (2 if "generator" in body.__name__ else 1)
    for call in seen:
        assert (call.callid, call.fence, call.attempt) == (record.callid, own.position, 1)
        assert call.deadline == record.expires
    until(lambda: len(world.terminals(caller)) == 1)
    assert counts.get("legacy-hit", seam=world.seam) == 1


@pytest.mark.parametrize("body", [plain, coroutine])
def test_a_keyed_call_on_the_legacy_path(world, counts, body):
    """It claims first, and its body is given the claim. It is where it belongs: no hit."""
    side = on_legacy(world, body)
    with correlate(key="order-1"):
        drain(side.call("a"))
    (record,) = world.claims(side)
    assert [(call.callid, call.deadline) for call in seen] == [(record.callid, record.expires)]
    assert [call.fence for call in seen] == [world.log(side)[0].position]
    assert counts.get("legacy-hit") == 0


def test_a_body_that_calls_itself_under_its_key(world):
    """It runs in place: waiting for the ledger it would wait for itself."""

    def recursive(arg: str) -> str:
        note()
        return arg if len(arg) > 2 else side.call(arg + arg)

    side = on_legacy(world, recursive, timeout=5)
    with correlate(key="order-1"):
        assert side.call("a") == "aaaa"
    assert len(seen) == 3
    assert world.kinds(side) == ["own", "result"]


def test_a_submitted_call_that_runs_here(world, counts, monkeypatch):
    """Its handle, its ledger and its body have one call id, and its progress is still told."""
    from crossfade.shim.errors import BusFullError

    caller = world.side(plain, timeout=5)
    append = caller.bus.append

    async def full(subject, event, **options):
        if subject.endswith(".invoke"):
            raise BusFullError
        return await append(subject, event, **options)

    monkeypatch.setattr(caller.bus, "append", full)
    with correlate(key="order-1"):
        task = caller.call.submit("a")
    assert task.result(SOON) == "a"
    assert not task.durable
    assert [call.callid for call in seen] == [task.callid]
    assert seen[0].fence
    assert counts.get("legacy-hit", seam=world.seam) == 1
    assert [progress.message for progress in task.events()] == ["half"]


def test_a_plain_legacy_body_owns_nothing(world):
    """Without a claim there is no current call."""
    side = on_legacy(world, plain)
    drain(side.call("a"))
    assert seen == [None]
