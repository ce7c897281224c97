"""Three servers: leaders die and are elected again, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim.errors import BusAmbiguousError, BusUnavailableError
from crossfade.shim.ports import ConsumeOptions
from plugins.nats import api, until
from support.nats_server import NatsCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with NatsCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def cluster_bus(opened, cluster):
    return await opened(cluster.url, connect_timeout=30)


async def leader(bus, stream):
    """The name of the server that leads ``stream``, or none."""
    try:
        info = await api(bus._connection.client(), f"STREAM.INFO.{stream}")
    except Exception:
        return None
    return info["cluster"].get("leader")


async def test_three_replicas(cluster_bus):
    """replicas=3 in the URL is what the streams are made with; other numbers of streams found are warned of."""
    info = await cluster_bus.info()
    assert info.replicas == 3
    assert info.warnings == ()


async def test_never_stale(cluster_bus, opened, cluster, command, event):
    """What one client was told is stored or set, another on another server reads at once: leader reads."""
    other = await opened(cluster.url, connect_timeout=30)
    mine, theirs = cluster_bus.state("policy"), other.state("policy")
    await mine.create("a", b"start")
    for n in range(100):
        await cluster_bus.publish(command, event(data=b"%d" % n))
        await mine.put("a", b"%d" % n)
        assert (await other.last(command)).event.data == b"%d" % n
        assert (await theirs.get("a")).value == b"%d" % n


async def publish_surely(bus, subject, sent):
    """Repeat the same event until the answer is clean."""
    while True:
        try:
            return await bus.publish(subject, sent, timeout=5)
        except (BusAmbiguousError, BusUnavailableError):
            await asyncio.sleep(0.05)


async def consume_surely(deliveries, count):
    """The ids of ``count`` events whose acknowledgement was confirmed."""
    seen = set()
    async with asyncio.timeout(60):
        while len(seen) < count:
            if (delivery := await deliveries.next(timeout=5)) is None:
                continue
            try:
                await delivery.ack()
            except BusAmbiguousError:
                continue
            seen.add(delivery.stored.event.id)
    return seen


async def test_the_leader_dies_while_events_flow(cluster_bus, cluster, prefix, command, event):
    """kill -9 of the stream's leader: publishes are repeated under the same id, each event is stored and acked once."""
    stored = []

    async def publish():
        for n in range(300):
            sent = event(data=b"%d" % n)
            await publish_surely(cluster_bus, command, sent)
            stored.append(sent.id)

    async with cluster_bus.consume("workers", [command], ConsumeOptions(ack_wait=10)) as deliveries:
        publishing = asyncio.create_task(publish())
        await until(lambda: len(stored) > 50)
        victim = cluster.named(await leader(cluster_bus, f"{prefix.upper()}_CMD"))
        victim.kill()
        seen = await consume_surely(deliveries, 300)
        await publishing
    victim.start()
    assert seen == set(stored)

    async def read_all():
        try:
            return [found.event.id async for found in cluster_bus.read(command)]
        except BusUnavailableError:
            return None

    assert await until(read_all, 30) == stored
