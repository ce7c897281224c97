"""Every test declares its own seams, counts for itself and leaves no connection behind."""

from __future__ import annotations

import pytest

from crossfade.adapters import memory
from crossfade.shim import connection, hooks, seam
from crossfade.shim.config import Config
from integration.shim import kit


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test; seams declared elsewhere are out of sight meanwhile."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(seam.registry, "_seams", {})
    yield counters
    if connection._current is not None:
        connection._current.close()
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

    return connect


@pytest.fixture
def work(tmp_path):
    """Serves functions over a connection until the test ends; returns the worker."""
    with kit.Workers(tmp_path / "spool") as workers:
        yield workers.start
