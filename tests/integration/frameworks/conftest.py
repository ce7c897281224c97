"""Frameworks' own objects over a real nats-server, at each stage."""

from __future__ import annotations

import pytest

from crossfade.shim import connection, hooks
from crossfade.shim.config import Config
from crossfade.shim.seam import registry
from integration.shim import kit

STAGES = ("legacy", "shadow", "canary", "bus")


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test; what the test declares ends with it."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(registry, "_seams", dict(registry._seams))
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    yield counters
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture
def put(nats_server, prefix, tmp_path):
    """Puts seams at a stage of the real server, with a worker: ``put("bus", "web.search")`` -> the connection."""
    closing = []

    def start(stage: str, *names: str, serve: bool = True, **settings) -> connection.Connection:
        start_at = {"stage": stage, **({"percent": 100} if stage == "canary" else {}), **settings}
        config = Config(prefix=prefix, seams=dict.fromkeys(names, start_at))
        connected = connection.connect(nats_server.url, config=config, required=True)
        closing.append(connected.close)
        if serve:
            workers = kit.Workers(tmp_path / "spool")
            worker = workers.start(connected, only=names)
            closing.append(workers.__exit__)
            kit.until(lambda: worker.ready)
        return connected

    yield start
    for close in reversed(closing):
        close()
