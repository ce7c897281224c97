"""Consume and acknowledge: the bus as the worker drives it beside a bare nats-py pull loop, over the same backlog."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import nats

from crossfade.shim.buses import open_bus
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings, ConsumeOptions
from crossfade.shim.worker import WorkerOptions

from .measuring import Row, Side, in_turns, row
from .processes import cpu_of
from .question import event

if TYPE_CHECKING:
    from crossfade.shim.ports import Deliveries

    from .brokers import Broker

_PREFIX: Final = "bench"  # not the seams' own, so no worker consumes it
_STREAM: Final = "BENCH_CMD"
_SUBJECT: Final = "bench.0.-.-.tool.backlog.run.call.invoke"
_ROUNDS, _BATCH = 8, 250
_AT_ONCE: Final = WorkerOptions().concurrency
_nats: Final[Any] = nats  # partly annotated


def worker(broker: Broker) -> Row:
    """Commands per second that are consumed and acknowledged, as many at once as a worker takes by default.

    Ours has each ack confirmed by the broker, the bare loop
    none: it fetches as many as ours holds, acknowledges them all, fetches again, and flushes at the end.
    """
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        ours, client, bare = runner.run(_prepare(stack, broker))
        cpu = cpu_of(*broker.pids)
        try:
            taken = in_turns(
                Side(run=lambda n: runner.run(_ours(ours, n)), cpu=cpu),
                Side(run=lambda n: runner.run(_bare(client, bare, n)), cpu=cpu),
                rounds=_ROUNDS,
                batch=_BATCH,
            )
        finally:
            runner.run(stack.aclose())
    return row("worker: consume and ack", f"bare nats-py: fetch({_AT_ONCE}), ack", taken, unit="/s", goal=0.6)


async def _prepare(stack: AsyncExitStack, broker: Broker) -> tuple[Deliveries, Any, Any]:
    bus = open_bus(broker.url, BusSettings(prefix=_PREFIX, client_name="crossfade bench"), report)
    stack.push_async_callback(bus.close)
    await bus.open()
    for _ in range(0, (_ROUNDS + 1) * _BATCH, _BATCH):
        await asyncio.gather(*(bus.publish(_SUBJECT, event()) for _ in range(_BATCH)))
    client: Any = await _nats.connect(broker.server)
    stack.push_async_callback(client.close)
    subscription = await client.jetstream().pull_subscribe(_SUBJECT, durable="bare", stream=_STREAM)
    deliveries = await stack.enter_async_context(bus.consume("ours", [_SUBJECT], ConsumeOptions(max_in_flight=1000)))
    deliveries.want(_AT_ONCE)
    return deliveries, client, subscription


async def _ours(deliveries: Deliveries, n: int) -> list[float]:
    """As ``Worker`` takes them: a task for each, never more than there are places."""
    free = asyncio.Semaphore(_AT_ONCE)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            await free.acquire()
            delivery = await deliveries.next()
            if delivery is not None:
                group.create_task(delivery.ack()).add_done_callback(lambda _: free.release())
    return [(time.perf_counter() - began) / n]


async def _bare(client: Any, subscription: Any, n: int) -> list[float]:
    began = time.perf_counter()
    left = n
    while left:
        messages = await subscription.fetch(min(_AT_ONCE, left))
        left -= len(messages)
        for message in messages:
            await message.ack()
    await client.flush()
    return [(time.perf_counter() - began) / n]
