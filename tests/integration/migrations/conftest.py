"""Real seams in this process, on the real server and in memory."""

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
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture(params=["memory", "nats"])
def url(request, prefix):
    if request.param == "nats":
        yield request.getfixturevalue("nats_server").url
    else:
        yield f"memory://{prefix}"
        memory.forget(prefix)


@pytest.fixture
def connected(url, prefix):
    """This process on the bus."""
    with connection.connect(url, config=Config(prefix=prefix), required=True) as made:
        yield made


@pytest.fixture
def work(tmp_path, connected):
    """Serves functions until the test ends."""
    with kit.Workers(tmp_path / "spool") as workers:
        yield lambda *functions, **options: workers.start(connected, *functions, **options)
