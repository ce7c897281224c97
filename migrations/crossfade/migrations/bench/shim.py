"""``crossfade bench shim``: what a decorator, an observation and a call over the bus cost beside their floors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import wrapt
from pydantic_core import to_json

from . import against, seams
from .brokers import embedded, one_nats, three_nats
from .calls import calls, connected
from .measuring import Side, batched, in_turns, row
from .question import QUESTION
from .worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .measuring import Row, Unmeasured


def run(*, peers: bool = False, cluster: bool = False) -> Iterator[Row | Unmeasured]:
    """Every row as it is measured, on brokers of its own.

    ``peers``: against others' tools as well, each in an environment that uv makes. ``cluster``: unsafe calls on three
    servers with three replicas as well.
    """
    yield legacy()
    if peers:
        yield from against.decorators()
    with embedded() as broker:
        with connected(broker):
            yield observe()
        yield worker(broker)
        with calls(broker) as calling:
            yield from calling.reads()
            yield from calling.unsafe()
            if peers:
                yield from against.task_queues(calling, broker)
    with one_nats() as broker, calls(broker) as calling:
        yield from calling.reads()
        if peers:
            yield from against.task_queues(calling, broker)
    if cluster:
        with three_nats() as broker, calls(broker) as calling:
            yield from calling.unsafe()


def legacy() -> Row:
    """The decorator at legacy beside wrapt's own wrapper that does nothing."""
    wrapper: Any = wrapt.FunctionWrapper
    bare = wrapper(seams.plain, _pass)
    taken = in_turns(_here(lambda: seams.legacy(QUESTION)), _here(lambda: bare(QUESTION)), rounds=60, batch=5000)
    return row("decorator at legacy", "bare wrapt no-op", taken, unit="ns", goal=2.0)


def observe() -> Row:
    """A call at observe, its serialising before and after included, beside one serialisation of its arguments."""
    taken = in_turns(_here(lambda: seams.observed(QUESTION)), _here(lambda: to_json(QUESTION)), rounds=400, batch=10)
    return row("observe, per call", "one to_json of its arguments", taken, unit="us", goal=1.5)


def _here(call: Callable[[], object]) -> Side:
    """A side that this process runs alone."""
    return Side(run=batched(call), cpu=time.process_time)


def _pass(wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs)
