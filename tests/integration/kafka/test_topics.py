"""Topics: made right, and refused with the remedy where somebody made them wrong."""

from __future__ import annotations

import pytest
from aiokafka.admin import NewPartitions, NewTopic

from contract.kafka_raw import admin, clean
from crossfade.adapters.kafka import open_bus
from crossfade.adapters.kafka._topics import all_topics
from crossfade.shim.errors import StreamMisconfiguredError
from crossfade.shim.ports import BusSettings
from plugins.nats import until


@pytest.fixture
async def made(kafka_broker, subjects):
    """Makes a topic behind the adapter's back."""

    async def make(suffix, partitions=1, **configs):
        topic = NewTopic(f"{subjects.prefix}.{suffix}", partitions, 1, topic_configs=configs)
        async with admin(kafka_broker.server) as client:
            await client.create_topics([topic])

    yield make
    await clean(kafka_broker.server, subjects.prefix)


RIGHT = {"message.timestamp.type": "LogAppendTime"}


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        (("cmd", 3, RIGHT), "3 partitions, must have 1"),
        (("cmd", 1, {**RIGHT, "cleanup.policy": "compact"}), "--add-config cleanup.policy=delete"),
        (("cmd", 1, {}), "--add-config message.timestamp.type=LogAppendTime"),
        (("kv", 1, {**RIGHT, "retention.ms": "3600000"}), "retention.ms is 3600000, must be -1"),
    ],
    ids=["partitions", "compacted", "times", "age"],
)
async def test_a_topic_that_would_lose_events_is_refused(made, opened, kafka_broker, topic, says):
    """Open names the topic, what is wrong with it and the command that mends it."""
    suffix, partitions, configs = topic
    await made(suffix, partitions, **configs)
    with pytest.raises(StreamMisconfiguredError, match=says):
        await opened(kafka_broker.url)


async def test_partitions_that_were_added_are_noticed(bus, hooks, kafka_broker, subjects):
    """Somebody adds a partition: the next start is refused, before anything is written where nobody reads."""
    async with admin(kafka_broker.server) as client:
        await client.create_partitions({f"{subjects.prefix}.cmd": NewPartitions(2)})

    async def known():
        await bus._cluster.refresh()
        return len(bus._cluster.topics[f"{subjects.prefix}.cmd"].leaders) == 2

    await until(known)
    with pytest.raises(StreamMisconfiguredError, match="2 partitions"):
        await open_bus(kafka_broker.url, BusSettings(prefix=subjects.prefix), hooks).open()


async def test_every_topic_has_one_partition(bus, subjects):
    """And one epoch each, by which an old position is recognised."""
    topics = [bus._cluster.topics[name] for name in all_topics(subjects.prefix)]
    assert {len(topic.leaders) for topic in topics} == {1}
    assert len({topic.id for topic in topics}) == len(topics)


async def test_what_is_unsafe_is_said(opened, kafka_broker, subjects):
    """One replica is a warning, and no promise that a write is on disk."""
    info = await (await opened(kafka_broker.url + "?replicas=1")).info()
    await clean(kafka_broker.server, subjects.prefix)
    assert (info.scheme, info.synced, info.replicas) == ("kafka", None, 1)
    assert "one replica" in info.warnings[0]


async def test_topics_made_with_sync_always(opened, kafka_broker, subjects):
    """Their settings say so, also to a client that did not ask for it."""
    await opened(kafka_broker.url + "?sync=always")
    assert (await (await opened(kafka_broker.url)).info()).synced is True
    await clean(kafka_broker.server, subjects.prefix)
