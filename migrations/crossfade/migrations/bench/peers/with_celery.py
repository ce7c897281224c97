"""Celery with Redis as broker and result backend; the worker is Celery's own command."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

celery: Any = importlib.import_module("celery")
workers: Any = importlib.import_module("workers")
POOL = os.environ["BENCH_POOL"]
SETTING = f"{POOL} pool"


def _plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - as ours
    return limit


app = celery.Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])
task = app.task(name="bench.plain")(_plain)


@contextmanager
def opened(_runner: object, question: dict[str, Any]) -> Generator[Callable[[], object]]:
    """Send the task and wait for its result."""
    with workers.running("celery", "-A", "with_celery", "worker", f"--pool={POOL}", "--loglevel=ERROR"):
        yield lambda: task.delay(question).get(timeout=30)
