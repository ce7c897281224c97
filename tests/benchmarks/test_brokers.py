"""The brokers of the bench are what their rows say of them."""

from __future__ import annotations

import os

import pytest

from crossfade.migrations.bench.brokers import one_nats, redis, three_nats
from crossfade.migrations.bench.calls import calls, connected
from crossfade.shim.connection import current
from crossfade.shim.errors import ConfigurationError
from support.needs import needs


@needs("redis-server")
@pytest.mark.parametrize(
    ("synced", "said"), [(False, "(its default, appendonly no)"), (True, "(appendonly yes, appendfsync always)")]
)
def test_redis_says_how_durable_it_is(synced, said):
    """The text is what the running server answers, and the server is gone afterwards."""
    with redis(synced=synced) as broker:
        assert said in broker.durability
    with pytest.raises(ProcessLookupError):
        os.kill(broker.pids[0], 0)


def test_a_users_settings_do_not_reach_the_bench(tmp_path, monkeypatch):
    """A crossfade.toml where the bench is run neither moves its seams nor its subjects."""
    (tmp_path / "crossfade.toml").write_text('prefix = "mine"\n[seams."bench.bus"]\nstage = "legacy"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_PREFIX", "mine")

    with one_nats() as broker, calls(broker) as calling:
        assert current().runtime.subjects.prefix == "cf"
        assert len(calling.sync_reads().run(3)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["crossfade.toml"]


def test_nothing_is_measured_while_everything_is_switched_off(monkeypatch):
    """Else a body in this process would be shown as a call over the bus."""
    monkeypatch.setenv("CROSSFADE_OFF", "1")

    with pytest.raises(ConfigurationError, match="CROSSFADE_OFF"), one_nats() as broker, connected(broker):
        pass


@pytest.mark.slow
def test_the_cluster_keeps_three_copies():
    """Unsafe calls go over three servers, without being told that a claim could be lost."""
    with three_nats() as broker, calls(broker) as calling:
        runtime = current().runtime
        assert runtime.thread.run(runtime.bus.info()).replicas == 3
        rows = list(calling.unsafe())
    assert [row.what for row in rows] == [
        "unsafe call, async (R3, sync default)",
        "unsafe calls, 64 in flight (R3, sync default)",
    ]
