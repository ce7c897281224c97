"""``crossfade bench shim``: what a decorator, an observation and a call over the bus cost beside their floors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import wrapt
from pydantic_core import to_json

from crossfade.shim import connect

from . import seams
from .brokers import embedded
from .calls import calls
from .measuring import Side, batched, in_turns, row
from .question import QUESTION
from .worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .measuring import Row


def run() -> Iterator[Row]:
    """Every row as it is measured, on an embedded broker of its own (``sync_interval: always``)."""
    yield legacy()
    with embedded() as broker, connect(broker.url, required=True, wait=20):
        yield observe()
        yield worker(broker)
        with calls(broker) as calling:
            yield from calling.reads()
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
