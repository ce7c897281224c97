"""Dramatiq with Redis as broker and result backend; the worker is Dramatiq's own command."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

dramatiq: Any = importlib.import_module("dramatiq")
brokers: Any = importlib.import_module("dramatiq.brokers.redis")
results: Any = importlib.import_module("dramatiq.results")
backends: Any = importlib.import_module("dramatiq.results.backends")
workers: Any = importlib.import_module("workers")
SETTING = "1 process, 8 threads"


def _plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - as ours
    return limit


broker = brokers.RedisBroker(url=os.environ["BENCH_URL"])
broker.add_middleware(results.Results(backend=backends.RedisBackend(url=os.environ["BENCH_URL"])))
dramatiq.set_broker(broker)
actor = dramatiq.actor(_plain, actor_name="plain", store_results=True)


@contextmanager
def opened(_runner: object, question: dict[str, Any]) -> Generator[Callable[[], object]]:
    """Send the message and wait for its result."""
    with workers.running("dramatiq", "with_dramatiq", "--processes", "1", "--threads", "8"):
        yield lambda: actor.send(question).get_result(block=True, timeout=30_000)
