"""A control plane in this process, served by uvicorn on loopback, over a real broker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from crossfade.adapters.nats import open_bus
from crossfade.proxy.control.app import Control, create_app
from crossfade.proxy.control.auth import Credentials
from crossfade.proxy.control.serving import listen, serve
from crossfade.proxy.control.settings import ControlSettings
from crossfade.proxy.control.tokens import Key, Keyring
from crossfade.shim import hooks
from crossfade.shim.config import Config
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from integration.control.kit import Plane

KEYRING = Keyring([Key.new()])


@pytest.fixture
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture
def serving(prefix, counts):
    """Starts control planes: ``async with serving(url, **settings) as plane``."""

    @asynccontextmanager
    async def start(url, *, ring=None, routers=(), dashboard=False, **settings):
        bus = open_bus(url, BusSettings(prefix=prefix), hooks.report)
        await bus.open()
        credentials, operate = Credentials().with_new("olga", "operate")
        credentials, view = credentials.with_new("viktor", "view")
        control = Control(
            bus=bus,
            url="nats://user:hunter2@127.0.0.1:4222",
            config=Config(prefix=prefix, seams={"web.search": {"timeout": 5.0}}),
            subjects=Subjects(prefix),
            credentials=credentials,
            keyring=KEYRING,
            settings=ControlSettings(port=0, **settings),
            instance="control_under_test",
        )
        if ring is not None:
            control.hub.ring = ring
        ready = asyncio.Event()
        with listen(control.settings) as listening:
            app = with_dashboard(control) if dashboard else create_app(control, routers=routers)
            running = asyncio.create_task(serve(app, control, listening, when_ready=ready.set))
            plane = Plane(control=control, port=listening.getsockname()[1], operate=operate, view=view)
            try:
                async with asyncio.timeout(20):
                    await asyncio.wait({running, asyncio.create_task(ready.wait())}, return_when="FIRST_COMPLETED")
                if running.done():
                    await running
                async with httpx.AsyncClient(base_url=plane.url, timeout=20) as plane.client:
                    yield plane
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await bus.close()

    return start


def with_dashboard(control):
    """As the command line puts it together."""
    from crossfade.migrations.cli.control import _application

    application, missing = _application(control)
    assert not missing
    return application


@pytest.fixture
async def plane(serving, nats_server):
    """One on the shared broker, with quick signs of life."""
    from crossfade.proxy.control.stream import StreamLimits

    async with serving(nats_server.url, limits=StreamLimits(heartbeat=0.3, send_timeout=1.0)) as found:
        yield found
