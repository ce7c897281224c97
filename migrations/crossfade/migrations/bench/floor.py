"""The floor of a call over the bus: bare nats-py doing what must be done, no more.

Two acknowledged publishes (command and result), one pull delivery, one core message back; ``python -m
crossfade.migrations.bench.floor URL [--claim]`` is the responder, which a process of its own runs as a worker would:
as many commands at once as a worker takes by default, each pulled by itself. With ``--claim`` a third publish goes
before the result.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final

import nats

from crossfade.shim.worker import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAM: Final = "BENCH_FLOOR"
COMMAND: Final = "crossfade-bench.command"
CLAIM: Final = "crossfade-bench.claim"
RESULT: Final = "crossfade-bench.result"
REPLY: Final = "crossfade-bench-reply"
_nats: Final[Any] = nats  # partly annotated


class Floor:
    """The caller's side."""

    def __init__(self, client: Any, headers: Mapping[str, str], *, replicas: int = 1) -> None:
        self._client = client
        self._replicas = replicas
        self._stream = client.jetstream()
        self._headers = headers
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._run = uuid.uuid4().hex  # a broker drops a message whose id it has seen
        self._number = 0

    async def prepare(self) -> None:
        """Make the stream, unless there is one, and listen for replies."""
        await self._stream.add_stream(
            name=STREAM, subjects=["crossfade-bench.>"], max_age=600, num_replicas=self._replicas
        )
        await self._client.subscribe(REPLY, cb=self._receive)

    async def call(self, payload: bytes) -> None:
        """One call."""
        self._number += 1
        key = f"{self._run}-{self._number}"
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        await self._stream.publish(COMMAND, payload, headers={**self._headers, "Nats-Msg-Id": f"c{key}", "key": key})
        await future

    async def _receive(self, message: Any) -> None:
        if waiting := self._waiting.pop(message.headers["key"], None):
            waiting.set_result(None)


async def respond(url: str, *, claim: bool) -> None:
    """Answer commands until the process is ended."""
    client: Any = await _nats.connect(url)
    stream = client.jetstream()
    subscriptions = [
        await stream.pull_subscribe(COMMAND, durable="bench", stream=STREAM) for _ in range(WorkerOptions().concurrency)
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(_answer(client, subscription, claim=claim) for subscription in subscriptions))


async def _answer(client: Any, subscription: Any, *, claim: bool) -> None:
    stream = client.jetstream()
    while True:
        try:
            for message in await subscription.fetch(1, timeout=5):
                headers = dict(message.headers or {})
                key = headers["key"]
                if claim:
                    await stream.publish(CLAIM, b"{}", headers={**headers, "Nats-Msg-Id": f"o{key}"})
                await stream.publish(RESULT, b'{"value":5}', headers={**headers, "Nats-Msg-Id": f"r{key}"})
                await client.publish(REPLY, b'{"value":5}', headers=headers)
                await message.ack()
        except TimeoutError:
            continue


if __name__ == "__main__":
    asyncio.run(respond(sys.argv[1], claim="--claim" in sys.argv))
