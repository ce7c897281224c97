"""Every test declares its own seams, counts for itself and leaves no connection behind."""

from __future__ import annotations

import pytest

from crossfade.adapters import memory
from crossfade.shim import connection, hooks, seam
from crossfade.shim.config import Config
from integration.shim import kit
from support.nats_server import NatsServer


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test; seams declared elsewhere are out of sight meanwhile."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(seam.registry, "_seams", {})
    yield counters
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture
def broker(prefix):
    """The handle of ``memory://PREFIX``: stop, start, fail_next, lose_replies."""
    yield memory.broker(prefix)
    memory.forget(prefix)


@pytest.fixture
def connect(prefix, broker):
    """Connects this process, to memory unless a URL is given; ``seams`` are the file's overrides."""

    def connect(url: str | None = None, **seams):
        overrides = {name.replace("__", "."): changes for name, changes in seams.items()}
        return connection.connect(
            url or f"memory://{prefix}", config=Config(prefix=prefix, seams=overrides), required=True
        )

    yield connect
    if connection._current is not None:
        connection._current.close()


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may stop; ask for it before ``connect``, so that it outlives the connection."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def work(tmp_path, connect):
    """Serves functions over a connection until the test ends; returns the worker."""
    with kit.Workers(tmp_path / "spool") as workers:
        yield workers.start
