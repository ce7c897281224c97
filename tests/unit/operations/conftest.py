"""Calls on a bus in memory, at whatever point of their lives."""

from __future__ import annotations

import pytest

from crossfade.adapters import memory
from crossfade.shim import hooks
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from support.ledgers import Ledgers


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture
def subjects():
    return Subjects()


@pytest.fixture
def broker():
    return memory.MemoryBroker()


@pytest.fixture
async def bus(broker, counts):
    bus = memory.MemoryBus(BusSettings(), counts, broker=broker)
    await bus.open()
    yield bus
    await bus.close()


@pytest.fixture
def calls(bus, subjects):
    return Ledgers(bus, subjects)
