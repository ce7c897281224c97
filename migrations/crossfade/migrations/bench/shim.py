"""``crossfade bench shim``: what a decorator, an observation and a call over the bus cost beside their floors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats
import wrapt
from pydantic_core import to_json

from crossfade.adapters.embedded import ensure_server, stop
from crossfade.shim import connect
from crossfade.shim.bindings import to_nats
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.events import Event

from . import seams
from .floor import Floor
from .measuring import Row, in_turns, row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator


# About 0.8 KB as JSON, as in the design's notes.
QUESTION: Final[dict[str, Any]] = {
    "text": "How do I copy a list?" * 8,
    "tags": [f"tag-{n}" for n in range(30)],
    "weights": {f"w{n}": n / 7 for n in range(12)},
}
_CALLS: Final = 400
_nats: Final[Any] = nats  # partly annotated


def run() -> list[Row]:
    """Every row, on an embedded broker of its own (``sync_interval: always``)."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        path = Path(folder) / "bus"
        try:
            return list(_rows(path))
        finally:
            stop(path)


def _rows(path: Path) -> Iterator[Row]:
    yield legacy()
    url = f"embedded://{path}?idle=60"
    with ExitStack() as stack:
        stack.enter_context(connect(url, required=True, wait=20))
        yield observe()
        stack.enter_context(_process("-m", "crossfade", "worker", "crossfade.migrations.bench.seams", "--bus", url))
        server = ensure_server(path).url
        yield from asyncio.run(_over_bus(server))


def legacy() -> Row:
    """The decorator at legacy beside wrapt's own wrapper that does nothing."""
    wrapper: Any = wrapt.FunctionWrapper
    bare = wrapper(seams.plain, _pass)
    taken = in_turns(lambda: seams.legacy(QUESTION), lambda: bare(QUESTION), rounds=60, batch=5000)
    return row("decorator at legacy", "bare wrapt no-op", taken, unit="ns", goal=2.0)


def observe() -> Row:
    """A call at observe, its serialising before and after included, beside one serialisation of its arguments."""
    seams.observed(QUESTION)
    taken = in_turns(lambda: seams.observed(QUESTION), lambda: to_json(QUESTION), rounds=400, batch=10)
    return row("observe, per call", "one to_json of its arguments", taken, unit="us", goal=1.5)


async def _over_bus(server: str) -> list[Row]:
    headers = to_nats(
        Event(type="tool.invoke", source="urn:crossfade:bench", extensions=dict.fromkeys(_ATTRIBUTES, "x" * 32))
    )
    client: Any = await _nats.connect(server)
    rows: list[Row] = []
    try:
        floor = Floor(client, headers)
        await floor.prepare()
        payload = to_json({"arguments": {"question": QUESTION}})
        with _process("-m", "crossfade.migrations.bench.floor", server):
            rows.append(await _beside("bus call, async", lambda: seams.abus(QUESTION), floor, payload, goal=1.3))
            rows.append(await _beside("bus call, sync in a thread", _in_a_thread, floor, payload, goal=1.5))
        with _process("-m", "crossfade.migrations.bench.floor", server, "--claim"):
            rows.append(await _beside("unsafe call, async", lambda: seams.unsafe(QUESTION), floor, payload, goal=1.2))
    finally:
        await client.close()
    return rows


async def _beside(what: str, ours: Callable[[], Awaitable[Any]], floor: Floor, payload: bytes, *, goal: float) -> Row:
    taken: list[list[float]] = [[], []]
    for number in range(_CALLS):
        rivals: tuple[Callable[[], Awaitable[Any]], ...] = (ours, lambda: floor.call(payload))
        for which, call in enumerate(rivals):
            began = time.perf_counter()
            await call()
            if number >= _CALLS // 10:
                taken[which].append(time.perf_counter() - began)
    publishes = "three" if "unsafe" in what else "two"
    return row(what, f"{publishes} acked publishes, a pull, a core message", taken, unit="ms", goal=goal)


async def _in_a_thread() -> None:
    await asyncio.to_thread(seams.bus, QUESTION)


_ATTRIBUTES: Final = ("correlationid", "seam", "callid", "path", "policyrev", "expirytime", "partitionkey", "replyto")


def _pass(wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs)


@contextmanager
def _process(*arguments: str) -> Generator[None]:
    """A process of ours that prints a line when it is ready."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        if not (process.stdout and process.stdout.readline()):
            said = process.stderr.read()[-2000:] if process.stderr else ""
            raise CrossfadeError(f"{' '.join(arguments)} did not start:\n{said}")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)
