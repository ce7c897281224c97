"""A foreign client of a Kafka broker: what it may do, our own adapter must cope with."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

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
    """Where the oldest go, they go by segments, which Kafka lets be small for its own tests only."""
    configs = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "retention.bytes": str(max_bytes)}
    if family in (prefix + "o", prefix + "ui"):
        configs["internal.segment.bytes"] = str(max_bytes // 4)
    topic = topic_names(prefix)[family]
    async with admin(server) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        for _ in range(500):  # until the broker has heard of it from the controller
            found = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            if configs["retention.bytes"] in str(found):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{topic} did not take {configs}")


async def clean(server: str, prefix: str) -> None:
    async with admin(server) as client:
        await client.delete_topics(all_topics(prefix))
