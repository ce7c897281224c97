"""A retry with the same key from outside, on the other path, in all orders: the key is one call."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.shim import correlate
from crossfade.shim.errors import BusUnavailableError, KeyReusedError, OutcomeUnknownError
from crossfade.shim.policies import LivePolicy
from crossfade.shim.stages import Stage
from integration.ledger.world import SOON, until


def keyed(side, key="order-1", arg="a", **who):
    with correlate(key=key, **who):
        return side.call(arg)


def on_legacy(world, body=None, **policy):
    """A process whose seam was rolled back while commands may still be under way."""
    side = world.side(body, stage=Stage.LEGACY, **policy)
    now = datetime.now(UTC)
    live = LivePolicy(seam=world.seam, revision=1, claim_until=now + timedelta(hours=1))
    side.runtime._live[world.seam] = live
    side.runtime._apply(side.seam)
    return side


def test_bus_then_legacy(world):
    """What ran on the bus does not run again on the legacy path: the retry gets the first one's result."""
    caller, legacy = world.side(timeout=10), on_legacy(world)
    world.side().serve()
    assert keyed(caller) == "a done"
    assert keyed(legacy) == "a done"
    assert world.journal.lines == ["a"]


def test_legacy_then_bus(world):
    """What ran on the legacy path does not run again on the bus."""
    caller, legacy = world.side(), on_legacy(world)
    world.side().serve()
    assert keyed(legacy) == "a done"
    assert keyed(caller) == "a done"
    assert world.journal.lines == ["a"]
    assert world.kinds(caller) == ["own", "result"]


@pytest.mark.parametrize("first", ["bus", "legacy"])
@pytest.mark.parametrize("second", ["bus", "legacy"])
def test_other_arguments(world, first, second):
    """The same key with other arguments is refused on every path, and nothing runs for them."""
    sides = {"bus": world.side(timeout=5), "legacy": on_legacy(world)}
    world.side().serve()
    assert keyed(sides[first]) == "a done"
    with pytest.raises(KeyReusedError):
        keyed(sides[second], arg="b")
    assert world.journal.lines == ["a"]


@pytest.mark.parametrize("path", ["bus", "legacy"])
def test_concurrent_retries_in_one_process(world, path):
    """Ten threads of one process with one key: one start, ten times its result."""
    gate = threading.Barrier(10)

    def call():
        gate.wait(SOON)
        return keyed(side)

    if path == "bus":
        side = world.side(timeout=10)
        world.side().serve()
    else:
        side = on_legacy(world, timeout=10)
    results = [future.result(SOON) for future in [world.pool.submit(call) for _ in range(10)]]
    assert results == ["a done"] * 10
    assert world.journal.lines == ["a"]


def test_concurrently_on_both_paths(world):
    """Both paths at the same moment, twenty keys: each key starts once and both callers get its result."""
    caller, legacy = world.side(timeout=4), on_legacy(world, timeout=4)
    world.side().serve()
    calls = [
        world.pool.submit(keyed, side, key=f"k{number}", arg=f"a{number}")
        for number in range(20)
        for side in (caller, legacy)
    ]
    assert [call.result(SOON) for call in calls] == [f"a{number // 2} done" for number in range(40)]
    assert sorted(world.journal.lines) == sorted(f"a{number}" for number in range(20))


def test_a_retry_takes_over_what_nobody_started(world):
    """The first caller died and no worker serves: at its own deadline the retry claims the command and runs."""
    caller, legacy = world.side(timeout=0.6), on_legacy(world, timeout=0.6)
    with correlate(key="order-1"):
        caller.call.submit("a")
    assert keyed(legacy) == "a done"
    assert world.kinds(caller) == ["invoke", "own", "result"]
    late = world.side().serve()
    until(lambda: len(world.terminals(late)) == 1)
    assert world.journal.lines == ["a"]


def test_ledger_down_on_the_bus_path(world, monkeypatch):
    """A key that ran already is not run again by a retry whose command cannot be sent."""
    caller, retry = world.side(timeout=10), world.side()
    world.side().serve()
    assert keyed(caller) == "a done"

    async def unavailable(*args, **kwargs):
        raise BusUnavailableError("cut off")

    monkeypatch.setattr(retry.bus, "append", unavailable)
    monkeypatch.setattr(retry.bus, "last", unavailable)
    with pytest.raises(OutcomeUnknownError, match="ledger-down"):
        keyed(retry)
    assert world.journal.lines == ["a"]


@pytest.mark.parametrize("down", ["refuse", "run"])
def test_ledger_down_on_the_legacy_path(world, monkeypatch, down):
    """Nobody can say whether the key ran: that is unknown, never "not executed"; ``run`` is a named choice."""
    legacy = on_legacy(world, ledger_down=down)

    async def unavailable(*args, **kwargs):
        raise BusUnavailableError("cut off")

    monkeypatch.setattr(legacy.bus, "append", unavailable)
    monkeypatch.setattr("crossfade.shim._calls._CLAIM_PATIENCE", 0.3)
    if down == "run":
        assert keyed(legacy) == "a done"
    else:
        with pytest.raises(OutcomeUnknownError, match="ledger-down"):
            keyed(legacy)
    assert len(world.journal.lines) == (down == "run")


def test_a_refusal_falls_back_once(world):
    """A worker refused the command as stale: of two callers with its key, one runs the body and both get its result."""
    worker = world.side()
    worker.runtime._live[world.seam] = LivePolicy(seam=world.seam, revision=9, minrev=9)
    worker.serve()
    first, second = world.side(timeout=5), world.side(timeout=5)
    assert keyed(first) == "a done"
    assert keyed(second) == "a done"
    assert world.journal.lines == ["a"]
    assert [answer.kind for answer in world.terminals(first)] == ["not-executed", "value"]


def test_two_users_of_one_tenant_share_a_key(world):
    """A key is its tenant's: whoever uses it again gets the first one's result. The docs name the danger."""
    caller = world.side(timeout=10)
    world.side().serve()
    first = keyed(caller, user="alice", tenant="acme")
    assert keyed(caller, user="bob", tenant="acme") == first
    assert world.journal.lines == ["a"]


@pytest.mark.parametrize("effects", ["none", "idempotent"])
def test_a_keyed_read(world, effects):
    """On the bus a key is one call, of a read, too; on the legacy path only unsafe seams ask the ledger."""
    caller, legacy = world.side(timeout=10, effects=effects), on_legacy(world, effects=effects)
    world.side(effects=effects).serve()
    assert keyed(caller) == keyed(caller) == "a done"
    assert world.journal.lines == ["a"]
    with pytest.raises(KeyReusedError):
        keyed(caller, arg="b")
    assert [keyed(legacy), keyed(legacy, arg="b")] == ["a done", "b done"]
    assert world.journal.lines == ["a", "a", "b"]


def test_users_and_tenants(world):
    """A key belongs to its tenant: another tenant's is another call."""
    caller = world.side(timeout=10)
    world.side().serve()
    keyed(caller, user="alice", tenant="acme")
    keyed(caller, user="alice", tenant="acme")
    keyed(caller, user="alice", tenant="other")
    assert len(world.journal.lines) == 2


@pytest.mark.parametrize("second", ["bus", "legacy"])
def test_who_joins_a_call_hears_of_its_end_soon(world, second, note, brokers):
    """The first caller with the key runs its body; another, on either path, has its result long before its deadline."""
    release = threading.Event()

    def body(arg: str) -> str:
        world.journal.start(arg)
        assert release.wait(SOON)
        return f"{arg} done"

    first = on_legacy(world, body, timeout=30)
    other = on_legacy(world, body, timeout=30) if second == "legacy" else world.side(body, timeout=30)
    running = world.pool.submit(keyed, first)
    until(lambda: world.journal.lines)
    joined = world.pool.submit(keyed, other)
    time.sleep(0.5)
    release.set()
    assert running.result(SOON) == "a done"
    began = time.monotonic()
    assert joined.result(SOON) == "a done"
    took = time.monotonic() - began
    note(
        f"a {second} caller that joined a legacy owner on {type(brokers).__name__}: {took * 1000:.0f} ms after it ended"
    )
    assert took < 5, "it waited for its look-up at half its time"
    assert world.journal.lines == ["a"]
