"""taskiq on JetStream: its pulling broker and its object store for results; the worker is taskiq's own command."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator

taskiq_nats: Any = importlib.import_module("taskiq_nats")
workers: Any = importlib.import_module("workers")
LOOK: Final = 0.001  # seconds between looks at the result: it has no other way to wait, and 0.2 by default
SETTING = f"1 process, looks for the result every {LOOK * 1000:g} ms"


async def _plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - as ours
    return limit


_url = os.environ["BENCH_URL"]
broker = taskiq_nats.PullBasedJetStreamBroker(_url).with_result_backend(taskiq_nats.NATSObjectStoreResultBackend(_url))
task = broker.register_task(_plain, task_name="bench.plain")


@contextmanager
def opened(runner: asyncio.Runner, question: dict[str, Any]) -> Generator[Callable[[], Awaitable[object]]]:
    """Send the task and wait for its result."""

    async def call() -> object:
        sent = await task.kiq(question)
        result = await sent.wait_result(check_interval=LOOK, timeout=30)
        return result.return_value

    with workers.running("taskiq", "worker", "with_taskiq:broker", "--workers", "1", "--log-level", "WARNING"):
        runner.run(broker.startup())
        try:
            yield call
        finally:
            runner.run(broker.shutdown())
