"""The floor of a call over Kafka: bare aiokafka doing what must be done, no more.

Three acknowledged records, one after the other (the command, that it was taken, its result), a fetch at each side, and
one more record behind the answer (that it has ended); ``python -m support.kafka_floor SERVER TOPICS [--claim]`` is the
responder, a process of its own as a worker is. With ``--claim`` there is a record more before the result. Records are
appended by idempotent producers with ``acks=all``, and fetched at once.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

COMMANDS, RESULTS, JOURNAL = "cmd", "res", "grp"


class End:
    """One side: a producer, and a consumer of one topic from its end."""

    def __init__(self, server: str, topics: str, hears: str) -> None:
        self._topics = topics
        self._hears = TopicPartition(f"{topics}.{hears}", 0)
        self._producer = AIOKafkaProducer(bootstrap_servers=server, acks="all", enable_idempotence=True)
        self.consumer = AIOKafkaConsumer(bootstrap_servers=server, fetch_max_wait_ms=5000, enable_auto_commit=False)

    async def open(self) -> None:
        """Connect, and hear what is stored from now on."""
        await self._producer.start()
        await self.consumer.start()
        self.consumer.assign([self._hears])
        await self.consumer.seek_to_end()
        await self.consumer.position(self._hears)

    async def close(self) -> None:
        """Disconnect."""
        await self._producer.stop()
        await self.consumer.stop()

    async def store(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Append a record; returns when every replica in sync has it."""
        await self._producer.send_and_wait(f"{self._topics}.{topic}", value, key=key, headers=headers)


class Floor:
    """The caller's side."""

    def __init__(self, server: str, headers: list[tuple[str, bytes]], *, synced: bool) -> None:
        self.topics = f"floor-{uuid.uuid4().hex}"
        self._server = server
        self._headers = headers
        self._synced = synced
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._number = 0

    async def prepare(self) -> None:
        """Make the topics, and listen for results."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._server)
        await admin.start()
        settings = {"flush.messages": "1"} if self._synced else {}
        await admin.create_topics(
            [NewTopic(f"{self.topics}.{name}", 1, 1, topic_configs=settings) for name in (COMMANDS, RESULTS, JOURNAL)]
        )
        await admin.close()
        self._end = End(self._server, self.topics, RESULTS)
        await self._end.open()
        self._hearing = asyncio.create_task(self._hear())

    async def close(self) -> None:
        """Disconnect."""
        self._hearing.cancel()
        await self._end.close()

    async def _hear(self) -> None:
        async for record in self._end.consumer:
            if record.value and (waiting := self._waiting.pop(record.key, None)):
                waiting.set_result(None)

    async def call(self, payload: bytes) -> None:
        """One call."""
        self._number += 1
        key = str(self._number).encode()
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        await self._end.store(COMMANDS, key, payload, self._headers)
        await future


async def respond(server: str, topics: str, *, claim: bool) -> None:
    """Answer commands until the process is ended."""
    end = End(server, topics, COMMANDS)
    await end.open()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    under_way: set[asyncio.Task[None]] = set()
    async for command in end.consumer:
        task = asyncio.create_task(_answer(end, command.key, list(command.headers), claim=claim))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


async def _answer(end: End, key: bytes, headers: list[tuple[str, bytes]], *, claim: bool) -> None:
    await end.store(JOURNAL, key, b"", [("cf_op", b"{}" * 40)])
    if claim:
        await end.store(RESULTS, key, b"", headers)
    await end.store(RESULTS, key, b'{"value":5}', headers)
    await end.store(JOURNAL, key, b"", [("cf_op", b"{}" * 40)])


if __name__ == "__main__":
    asyncio.run(respond(sys.argv[1], sys.argv[2], claim="--claim" in sys.argv))
