"""A foreign client of a Kafka broker: what it may do, our own adapter must cope with."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from crossfade.adapters.kafka._topics import all_topics, topic_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@asynccontextmanager
async def admin(server: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=server)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def store(server: str, prefix: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
    """A record with ``headers`` as NATS writes them: their values travel in Kafka as the bytes they stand for."""
    topic = topic_names(prefix)[subject.partition(".")[0]]
    written = [(_name(name), unquote_to_bytes(value)) for name, value in headers.items()]
    async with AIOKafkaProducer(bootstrap_servers=server, acks="all") as producer:
        await producer.send_and_wait(topic, value=data, headers=[*written, ("cf_subject", subject.encode())])


def _name(name: str) -> str:
    lower = name.lower()
    return f"ce_{lower[3:]}" if lower.startswith("ce-") else lower


async def limit(server: str, prefix: str, family: str, max_bytes: int) -> None:
    """Bound a topic. Where the oldest go, they go by segments, which Kafka lets be small for its own tests only."""
    topic = topic_names(prefix)[family]
    wanted = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "retention.bytes": str(max_bytes)}
    async with admin(server) as client:
        if family not in (prefix + "o", prefix + "ui"):
            assert await _altered(client, topic, wanted)
            return
        await _check_discards_soon(client)
        small = str(max_bytes // 4)
        assert (  # by the name of Kafka 4.1, or before
            await _altered(client, topic, {**wanted, "internal.segment.bytes": small})
            or await _altered(client, topic, {**wanted, "segment.bytes": small})
        ), f"{topic} did not take segments of {small} bytes"


async def _altered(client: AIOKafkaAdminClient, topic: str, configs: dict[str, str]) -> bool:
    """Whether the brokers took the settings; returns when they have heard of them from the controller."""
    answers = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    if any(resource[0] for answer in answers for resource in answer.resources):
        return False
    async with asyncio.timeout(5):
        wanted = configs["retention.bytes"]
        while await _setting(client, ConfigResourceType.TOPIC, topic, "retention.bytes") != wanted:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    return True


async def _check_discards_soon(client: AIOKafkaAdminClient) -> None:
    """A broker as it comes looks every five minutes for what is too much; a test cannot wait for that."""
    node = str(client._client.cluster.brokers().pop().nodeId)
    pause = int(await _setting(client, ConfigResourceType.BROKER, node, "log.retention.check.interval.ms"))
    if pause > 1000:
        pytest.skip(f"the broker discards every {pause} ms: set its log.retention.check.interval.ms to 200")


async def _setting(client: AIOKafkaAdminClient, kind: ConfigResourceType, name: str, setting: str) -> str:
    (answer,) = await client.describe_configs([ConfigResource(kind, name, configs={setting: None})])
    ((code, detail, _, _, entries),) = answer.resources
    assert not code, detail
    return next(entry[1] for entry in entries if entry[0] == setting)


async def clean(server: str, prefix: str) -> None:
    async with admin(server) as client:
        await client.delete_topics(all_topics(prefix))
