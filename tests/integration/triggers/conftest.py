"""Triggers over a real broker, in this process; what they published is read back from the bus."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from crossfade.adapters.nats import open_bus
from crossfade.adapters.triggers import Intake, Triggers
from crossfade.shim import hooks
from crossfade.shim.claimcheck import load_data
from crossfade.shim.ports import BusSettings
from crossfade.shim.schemas import validate_payload
from crossfade.shim.subjects import Subjects
from support.nats_server import NatsServer


@pytest.fixture
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture
def broker(tmp_path):
    """A server this test may stop, pause and kill."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


class World:
    """A bus, and what lies on it."""

    def __init__(self, bus, prefix):
        self.bus = bus
        self.subjects = Subjects(prefix)

    def intake(self, trigger="orders"):
        return Intake(self.bus, self.subjects, trigger)

    async def facts(self, event_type, *, tenant="*", user="*"):
        """Every fact of a type."""
        subject = f"{self.subjects.prefix}e.{tenant}.{user}.{event_type.replace('.', '-')}"
        return [stored.event async for stored in self.bus.read(subject)]

    async def data(self, event):
        """A fact's data, wherever it lies; it is what the event's own schema says, and nothing beside."""
        data = await load_data(self.bus, event)
        model = validate_payload(event.type, data)
        payload = json.loads(data)
        assert payload.keys() <= type(model).model_fields.keys()
        return payload

    @asynccontextmanager
    async def running(self, *triggers):
        """Triggers that run while the block does; gives where they listen."""
        found = Triggers(triggers, self.bus)
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(found.run(ready.set_result))
        try:
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
            if not ready.done():
                await task
            found_at = ready.result()
            found_at = dict(found_at)
            found_at["triggers"] = found
            yield found_at
        finally:
            found.stop()
            await asyncio.wait_for(task, 20)


@pytest.fixture
async def worlds(counts, prefix):
    """Opens buses: ``await worlds(url)``."""
    opened = []

    async def open_world(url):
        bus = open_bus(url, BusSettings(prefix=prefix), hooks.report)
        opened.append(bus)
        await bus.open()
        return World(bus, prefix)

    yield open_world
    for bus in opened:
        await bus.close()


@pytest.fixture
async def world(worlds, nats_server):
    """A bus on the shared server."""
    return await worlds(nats_server.url)
