"""One leads; when it goes or falls silent, another does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crossfade.migrations.lease import TERM, Lease, holder


@pytest.fixture
def clock(bus, monkeypatch):
    """Moves the broker's clock."""
    began, passed = bus.now(), [timedelta(0)]
    monkeypatch.setattr(type(bus), "now", lambda _: began + passed[0])

    def later(by):
        passed[0] += by

    return later


async def test_one_leads_and_renews(bus, clock):
    """As long as it asks often enough."""
    first, second = Lease(bus, "x", "first"), Lease(bus, "x", "second")
    for _ in range(10):
        assert await first.held()
        assert not await second.held()
        clock(TERM / 2)
    assert await holder(bus, "x") == "first"


async def test_a_silent_leader_is_replaced_and_knows(bus, clock):
    """A paused process that wakes up asks before it goes on."""
    first, second = Lease(bus, "x", "first"), Lease(bus, "x", "second")
    assert await first.held()
    clock(TERM)
    assert await second.held()
    assert not await first.held()


async def test_a_leader_that_goes_makes_room_at_once(bus, clock):
    """Nobody waits for its term to end."""
    first, second = Lease(bus, "x", "first"), Lease(bus, "x", "second")
    await first.held()
    await first.release()
    assert await holder(bus, "x") == ""
    assert await second.held()
    await first.release()
    assert await holder(bus, "x") == "second"


async def test_of_two_that_ask_at_once_one_leads(bus, monkeypatch):
    """Both have read that it is free."""
    first, second = Lease(bus, "x", "first"), Lease(bus, "x", "second")
    state = first._state
    read = state.get

    async def and_be_overtaken(key):
        entry = await read(key)
        monkeypatch.setattr(state, "get", read)
        assert await second.held()
        return entry

    monkeypatch.setattr(state, "get", and_be_overtaken)
    assert not await first.held()
