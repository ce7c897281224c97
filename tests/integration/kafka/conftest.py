"""Tests of the Kafka bus alone, on the run's broker; what takes a broker of its own is slow."""

from __future__ import annotations

import pytest

from contract.kafka_raw import clean
from crossfade.adapters.kafka import open_bus
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from plugins.kafka import NEEDED


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "kafka" and item.path.parent.parent.name == "integration":
            for mark in NEEDED:
                item.add_marker(mark)


@pytest.fixture
def hooks():
    """Counts what the test's buses report."""
    return Counters()


@pytest.fixture
def subjects(prefix, tmp_path):
    """Under a prefix of the test's own."""
    return Subjects(f"k{abs(hash(tmp_path)) % 10**9}{prefix}")


@pytest.fixture
async def opened(subjects, hooks):
    """Opens a bus at a URL; everything is closed at the end."""
    buses = []

    async def make(url, **settings):
        bus = open_bus(url, BusSettings(prefix=subjects.prefix, **settings), hooks)
        buses.append(bus)
        await bus.open()
        return bus

    yield make
    for bus in buses:
        await bus.close()


@pytest.fixture
async def bus(opened, kafka_broker, subjects):
    """An open bus on the run's broker."""
    yield await opened(kafka_broker.url)
    await clean(kafka_broker.server, subjects.prefix)
