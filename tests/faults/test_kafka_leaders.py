"""Three Kafka brokers, replication factor 3: one that dies costs a pause, two that are dead cost an error."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from crossfade.shim import _calls, claims, hooks, reaping
from crossfade.shim.errors import BusAmbiguousError, BusUnavailableError
from crossfade.shim.events import Event
from faults.storm import Storm
from integration.ledger.world import GRACE, World, until
from plugins.kafka import NEEDED
from support.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), *NEEDED]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with KafkaCluster(tmp_path_factory.mktemp("three")) as running:
        yield running


@pytest.fixture
def storm(cluster, tmp_path, monkeypatch, request):
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    for module in (claims, _calls, reaping):
        monkeypatch.setattr(module, "GRACE", GRACE)
    with World(cluster.url, f"c{abs(hash(request.node.name)) % 10**6}", tmp_path) as world:
        yield Storm(cluster, world, 1, "run")


def values(storm):
    return sum(told == "value" for told in list(storm.toll.told.values()))


def leader(storm, topic="cmd"):
    """The node that leads a topic, once all three have it."""
    bus = storm.callers[0].bus

    def whole():
        storm.callers[0].run(bus._cluster.refresh())
        found = bus._cluster.topics[f"{storm.world.prefix}.{topic}"]
        return found.leaders[0] if len(bus._cluster._nodes) == 3 else 0

    return until(whole, timeout=60)


def refusals(side, address, *, seconds):
    """What publishing comes to, again and again; it must not succeed, nor be told later than it asked for."""
    told = Counter()
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        event = Event(type="webhook.received", source="urn:t", data=b"1")
        with pytest.raises((BusUnavailableError, BusAmbiguousError)) as refused:
            side.run(side.bus.publish(address, event, timeout=1))
        told[f"{type(refused.value).__name__}: {refused.value}"] += 1
        assert time.monotonic() - began < 5
        time.sleep(0.1)
    return told


def test_a_leader_that_is_killed(storm, cluster, note):
    """Calls go on while it is dead, and after it came back; three times, and nothing is lost or doubled."""
    pauses = []
    with storm.calling():
        until(lambda: values(storm) > 50, timeout=60)
        for _ in range(3):
            node = leader(storm)
            cluster.brokers[node].kill()
            killed, seen = time.monotonic(), values(storm)
            until(lambda seen=seen: values(storm) > seen + 16, timeout=60)  # more than were under way
            pauses.append(time.monotonic() - killed)
            until(lambda seen=seen: values(storm) > seen + 100, timeout=60)
            cluster.brokers[node].start()
            seen = values(storm)
            until(lambda seen=seen: values(storm) > seen + 100, timeout=60)
    toll = storm.judge()
    note(f"kafka, three brokers, leaders killed: {toll}; calls again after {[round(pause, 1) for pause in pauses]} s")
    assert toll.wrong == {}


def test_two_of_three_are_dead(storm, cluster, note):
    """A write is told who cannot be reached, in its time; with them back everything goes on, and nothing is doubled."""
    with storm.calling():
        until(lambda: values(storm) > 50, timeout=60)
        node = leader(storm)
        dead = [number for number in cluster.brokers if number != node]
        for number in dead:
            cluster.brokers[number].kill()
        told = refusals(storm.callers[0], f"{storm.world.prefix}e.-.-.webhook-received", seconds=10)
        for number in dead:
            cluster.brokers[number].start()
        back = time.monotonic()
        seen = values(storm)
        until(lambda: values(storm) > seen + 100, timeout=90)
        back = time.monotonic() - back
    assert any("cannot be reached" in each for each in told), told
    toll = storm.judge()
    note(f"kafka, two of three dead: {toll}; publishing: {dict(told)}; calls again after {back:.1f} s")
    assert toll.wrong == {}
