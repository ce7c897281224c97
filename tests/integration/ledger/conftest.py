"""Every test of the ledger runs on one server and on three with three replicas, and those marked slow on Kafka."""

from __future__ import annotations

import pytest

from crossfade.shim import _calls, claims, hooks, reaping
from integration.ledger.world import GRACE, World
from plugins.kafka import NEEDED
from support.kafka_broker import KafkaBroker
from support.nats_server import NatsCluster, NatsServer

KINDS = {
    "R1": lambda folder: NatsServer(folder, sync_always=True),
    "R3": NatsCluster,
    "kafka": KafkaBroker,
}


@pytest.fixture(scope="session", params=["R1", "R3", pytest.param("kafka", marks=[pytest.mark.slow, *NEEDED])])
def brokers(request, tmp_path_factory):
    """The running server or servers."""
    with KINDS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What was counted during the test, by all its sides."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    for module in (claims, _calls, reaping):
        monkeypatch.setattr(module, "GRACE", GRACE)
    return counters


@pytest.fixture
def world(brokers, tmp_path):
    """A seam of the test's own on the shared brokers."""
    url = brokers.url if "?" in brokers.url else f"{brokers.url}?sync=always"
    with World(url, "led", tmp_path) as made:
        yield made
