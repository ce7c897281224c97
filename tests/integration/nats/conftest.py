"""A bus on a real server; tests that hurt the server ask for one of their own."""

from __future__ import annotations

import nats
import pytest

from crossfade.adapters.nats import open_bus
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from support.nats_server import NatsServer


@pytest.fixture
def hooks():
    """Counts what the test's buses report."""
    return Counters()


@pytest.fixture
def subjects(prefix):
    return Subjects(prefix)


@pytest.fixture
def command(subjects):
    """The subject of one command."""
    return subjects.call("invoke", domain="tool", seam="web.search", run="run1", callid="call1")


@pytest.fixture
def result(subjects):
    """The subject of one result."""
    return subjects.call("result", domain="tool", seam="web.search", run="run1", callid="call1")


@pytest.fixture
def server(tmp_path):
    """A server this test may stop, pause and kill."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def opened(hooks, prefix):
    """Opens buses and closes them after the test."""
    buses = []

    async def open_at(url, **settings):
        bus = open_bus(url, BusSettings(prefix=prefix, **settings), hooks)
        buses.append(bus)
        await bus.open()
        return bus

    yield open_at
    for bus in buses:
        await bus.close()


@pytest.fixture
async def bus(opened, nats_server):
    """An open bus on the shared server."""
    return await opened(nats_server.url)


@pytest.fixture
async def own_bus(opened, server):
    """An open bus on a server this test may hurt."""
    return await opened(server.url)


@pytest.fixture
async def bare(nats_server):
    """A plain client, for what happens behind the adapter's back."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
def event():
    """Makes an event."""

    def make(data=b'{"n":1}', **extensions):
        return Event(type="tool.invoke", source="urn:crossfade:test", data=data, extensions=extensions)

    return make
