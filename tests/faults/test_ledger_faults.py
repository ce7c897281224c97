"""Hundreds of unsafe calls while workers are killed and stopped and the broker is killed and stopped."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

from crossfade.shim import _calls, claims, hooks, reaping
from faults.storm import Storm
from integration.ledger.world import GRACE, World
from plugins.kafka import NEEDED
from support.kafka_broker import KafkaBroker
from support.kafka_cluster import KafkaCluster
from support.nats_server import NatsServer

KINDS = {"nats": lambda folder: NatsServer(folder, sync_always=True), "kafka": KafkaBroker, "kafka-R3": KafkaCluster}
ON_KAFKA = [pytest.mark.slow, pytest.mark.timeout(900), *NEEDED]


ALL = ["nats", *(pytest.param(kind, marks=ON_KAFKA) for kind in ("kafka", "kafka-R3"))]


@pytest.fixture(params=ALL)
def storm(request, tmp_path, monkeypatch):
    """Makes a storm over a server of its own."""
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    for module in (claims, _calls, reaping):
        monkeypatch.setattr(module, "GRACE", GRACE)
    with contextlib.ExitStack() as stack:

        def make(seed, mode="run"):
            server = stack.enter_context(KINDS[request.param](tmp_path / request.param))
            world = stack.enter_context(World(f"{server.url}?sync=always", "storm", tmp_path))
            return Storm(server, world, seed, mode)

        yield make


def test_nothing_starts_twice_and_everything_ends(storm, note):
    """20 faults on workers and broker: no double start, no false "not executed", no call without an end."""
    played = storm(seed=7)
    played.play(20)
    toll = played.judge()
    note(f"ledger under faults (seed 7): {toll}")
    assert toll.wrong == {}
    assert len(toll.told) > 100
    assert Counter(toll.told.values())["value"] > 50
    assert min(toll.faults.values()) >= 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds(storm, note, seed):
    """The same with other seeds, longer."""
    played = storm(seed=seed)
    played.play(60)
    toll = played.judge()
    note(f"ledger under faults (seed {seed}): {toll}")
    assert toll.wrong == {}


@pytest.mark.parametrize("storm", ALL[:2], indirect=True)  # three brokers are too slow to keep a worker busy
def test_without_the_nonce_it_is_noticed(storm, note):
    """Vacuity guard: with workers that take every claim for their own, stopped ones start calls a second time."""
    played = storm(seed=3, mode="no-nonce")
    for _ in range(4):
        played.stop_a_busy_worker()
        if "started twice" in played.judge().wrong:
            break
    note(f"ledger under faults without nonces: {played.toll}")
    assert "started twice" in played.toll.wrong
