"""The same tests on every bus: ask for ``bus``, ``make_bus`` or ``backend``, and the test runs once per bus."""

from __future__ import annotations

import uuid

import pytest

from contract.backends import EmbeddedBackend, KafkaBackend, MemoryBackend, NatsBackend
from crossfade.adapters import embedded
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from plugins.kafka import NEEDED
from support.nats_server import NatsServer

BUSES = ("memory", "nats", "embedded", pytest.param("kafka", marks=NEEDED))


@pytest.fixture(scope="session")
def memory_backend():
    return MemoryBackend()


@pytest.fixture(scope="session")
def nats_backend(tmp_path_factory):
    with NatsServer(tmp_path_factory.mktemp("contract")) as server:  # its own, because tests restart it
        yield NatsBackend(server)


@pytest.fixture(scope="session")
def embedded_backend(tmp_path_factory):
    backend = EmbeddedBackend(tmp_path_factory.mktemp("embedded") / "bus")
    yield backend
    embedded.stop(backend.path)


@pytest.fixture(scope="session")
def kafka_backend(kafka_broker):
    return KafkaBackend(kafka_broker)


@pytest.fixture(scope="session", params=BUSES)
def backend(request):
    """The broker under test. A bus that cannot be had fails its tests; none is skipped."""
    return request.getfixturevalue(f"{request.param}_backend")


@pytest.fixture
def subjects():
    """Subjects under a prefix no other test uses."""
    return Subjects("t" + uuid.uuid4().hex[:12])


@pytest.fixture
def hooks():
    """Counts what the test's buses report."""
    return Counters()


@pytest.fixture
async def make_bus(backend, subjects, hooks):
    """Opens another client of the same installation."""
    buses = []

    async def make():
        bus = backend.client(BusSettings(prefix=subjects.prefix), hooks)
        buses.append(bus)
        await bus.open()
        return bus

    yield make
    for bus in buses:
        await bus.close()
    await backend.start()  # a test may have stopped it
    await backend.clean(subjects.prefix)


@pytest.fixture
async def bus(make_bus):
    """An open bus."""
    return await make_bus()


@pytest.fixture
def subject(subjects):
    """Where most tests publish: the command of one call."""
    return subjects.call("invoke", domain="tool", seam="web.search", run="run1", callid="call1")


@pytest.fixture
def commands(subjects):
    """The filter that selects ``subject``."""
    return subjects.commands("tool", "web.search")
