"""Workflows over a connection to memory, or to the real server where a test says so."""

from __future__ import annotations

import threading

import pytest

from crossfade.adapters import memory
from crossfade.shim import connection, hooks, seam
from crossfade.shim.config import Config
from crossfade.workflows import Engine, EngineOptions
from crossfade.workflows.workflow import Workflows
from integration.shim import kit
from integration.workflows import desk


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test; seams and workflows declared elsewhere are out of sight meanwhile."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(seam.registry, "_seams", {})
    yield counters
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture
def known(monkeypatch):
    """The workflows declared in this test."""
    fresh = Workflows()
    monkeypatch.setattr("crossfade.workflows.workflow.registry", fresh)
    return fresh


@pytest.fixture
def broker(prefix):
    yield memory.broker(prefix)
    memory.forget(prefix)


@pytest.fixture
def connect(prefix, broker):
    def connect(url: str | None = None):
        return connection.connect(url or f"memory://{prefix}", config=Config(prefix=prefix), required=True)

    yield connect
    if connection._current is not None:
        connection._current.close()


@pytest.fixture
def work(tmp_path, connect):
    with kit.Workers(tmp_path / "spool") as workers:
        yield workers.start


@pytest.fixture
def run(known, connect):
    """Runs the declared workflows until the test ends; returns the engine's desk."""
    running = []

    def run(opened, **options) -> desk.Desk:
        engine = Engine(opened.runtime, known, EngineOptions(**options))
        ready = threading.Event()
        thread = threading.Thread(target=lambda: engine.run(when_ready=ready.set), name="engine under test")
        thread.start()
        running.append((engine, thread))
        assert ready.wait(kit.SOON)
        return desk.Desk(opened, engine)

    yield run
    for engine, thread in running:
        engine.stop()
        thread.join(kit.SOON)
        assert not thread.is_alive(), "an engine did not stop"
