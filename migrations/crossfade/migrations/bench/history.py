"""``crossfade bench history``: what looking back costs once much lies on the bus.

Traces: the commands run as processes of their own, whose time and greatest memory the system tells; a tenth of the
events first, then all of them, so that what grows with their number shows. Results: calls by their exact subject, as a
caller that waits looks, and by their id alone, as ``shim.outcome`` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crossfade.migrations.bench.brokers import one_nats
from crossfade.migrations.traces.critical import critical_path
from crossfade.migrations.traces.index import TraceIndex
from crossfade.shim.buses import open_bus
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.events import Event
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import CallKind

SHOWN_GOAL: Final = 100.0
"""Milliseconds until one run is there, by the index."""

_SEAMS: Final = ("agent.research", "web.search", "web.fetch", "web.parse")
_CAUSES: Final = (0, 0, 0, 2)  # which of them calls each
_ENDED: Final = {"outcome": "value", "value": 1, "handler": "self", "timings": {"handler_ms": 1.0, "queue_ms": 0.5}}
_EVENTS_OF_RUN: Final = len(_SEAMS) * 3  # observed on the old path; invoked and answered on the new
_LOOKED_UP: Final = 500
_AT_ONCE: Final = 500  # events between two looks at whether the broker follows


@dataclass(frozen=True, kw_only=True)
class Command:
    """One ``crossfade traces`` command over ``events``: ``seconds`` in all, ``megabytes`` at most."""

    command: str
    events: int
    seconds: float
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class LookUp:
    """One kind of question among ``stored`` events or calls; milliseconds."""

    what: str
    stored: int
    p50: float
    p99: float


def traces(events: int = 100_000) -> tuple[list[Command], list[LookUp]]:
    """Fill a bus of its own with runs, a tenth and then all, and run every command over them."""
    commands, looks = list[Command](), list[LookUp]()

    async def measure(folder: Path, url: str, bus: Bus) -> None:
        runs = max(2, events // _EVENTS_OF_RUN)
        for first, last in ((0, runs // 10), (runs // 10, runs)):
            await _emit(bus, _runs(first, last))
            stored, index = last * _EVENTS_OF_RUN, folder / f"index-{last}.sqlite"
            for words in _commands(last):
                commands.append(await asyncio.to_thread(_run, words, url, index, stored, folder))
            looks.append(await asyncio.to_thread(_shown, index, url, last))

    _on_a_bus(measure)
    return commands, looks


def results(calls: int = 1_000_000) -> list[LookUp]:
    """Fill a bus of its own with so many calls' results, and look some up."""
    looks = list[LookUp]()

    async def measure(_folder: Path, _url: str, bus: Bus) -> None:
        await _emit(bus, map(_result, range(calls)))
        dice = random.Random(1)  # noqa: S311 - a choice, no secret
        chosen = [dice.randrange(calls) for _ in range(_LOOKED_UP)]
        for what, filters in (
            ("a result by its subject", [_subject("result", _SEAMS[0], f"run{n}", f"call{n}") for n in chosen]),
            ("a result by its call's id", [Subjects().of_call(f"call{n}") for n in chosen]),
        ):
            times = list[float]()
            for each in filters:
                begun = time.perf_counter()
                if await bus.last(each) is None:
                    raise CrossfadeError(f"{each}: what was published is not there")
                times.append(time.perf_counter() - begun)
            looks.append(_look_up(what, calls, times))

    _on_a_bus(measure)
    return looks


# -- filling ---------------------------------------------------------------------------------------------------------


def _on_a_bus(measure: Callable[[Path, str, Bus], Coroutine[Any, Any, None]]) -> None:
    """On a nats-server that need not see each of a million events on disk before it takes the next."""

    async def run(folder: Path, url: str) -> None:
        async with _opened(url) as bus:
            await measure(folder, url, bus)

    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as name, one_nats() as broker:
        asyncio.run(run(Path(name), broker.url))


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Bus]:
    bus = open_bus(url, BusSettings(client_name="crossfade bench"), report)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


async def _emit(bus: Bus, events: Iterator[tuple[str, Event]]) -> None:
    """In portions, the last of each acknowledged: a broker that cannot keep up drops what nobody waits for."""
    while some := list(islice(events, _AT_ONCE)):
        for subject, event in some[:-1]:
            bus.emit(subject, event)
        await bus.publish(*some[-1], timeout=30)


def _runs(first: int, last: int) -> Iterator[tuple[str, Event]]:
    """Runs of a research: an agent that searches and fetches, which parses; each on the old path and on the new."""
    for number in range(first, last):
        for path in ("legacy", "bus"):
            run = f"{path}-{number:07d}"
            for depth, seam in enumerate(_SEAMS):
                callid, cause = f"{run}-{depth}", f"{run}-{_CAUSES[depth]}" if depth else ""
                about = {"seam": seam, "callid": callid, "correlationid": run, "causationid": cause, "path": path}
                yield from _call(path, seam, run, callid, {name: value for name, value in about.items() if value})


def _call(path: str, seam: str, run: str, callid: str, about: dict[str, str]) -> Iterator[tuple[str, Event]]:
    if path == "legacy":
        said = {"started": datetime.now(UTC).isoformat(), "duration_ms": 2.0, "outcome": "value", "value": 1}
        yield Subjects().observation(seam), _event("tool.observed", said, about)
        return
    yield _subject("invoke", seam, run, callid), _event("tool.invoke", {"arguments": {}}, about)
    yield _subject("result", seam, run, callid), _event("tool.result", _ENDED, {**about, "causationid": callid})


def _result(number: int) -> tuple[str, Event]:
    run, callid = f"run{number}", f"call{number}"
    about = {"seam": _SEAMS[0], "callid": callid, "correlationid": run}
    return _subject("result", _SEAMS[0], run, callid), _event("tool.result", _ENDED, about)


def _event(kind: str, said: object, about: dict[str, str]) -> Event:
    return Event(type=kind, source="urn:crossfade:bench", extensions=about, data=json.dumps(said).encode())


def _subject(kind: CallKind, seam: str, run: str, callid: str) -> str:
    return Subjects().call(kind, domain="tool", seam=seam, run=run, callid=callid)


# -- asking ----------------------------------------------------------------------------------------------------------


def _commands(runs: int) -> list[list[str]]:
    """What is asked of so many runs; the first of them makes the index."""
    some = runs // 2
    return [
        ["list"],
        ["show", f"bus-{some:07d}"],
        ["diff", "path=legacy", "path=bus"],
        ["report", "path=bus", "-o", "report.html"],
        ["export", "path=bus"],
    ]


def _run(words: list[str], url: str, index: Path, events: int, folder: Path) -> Command:
    command = [sys.executable, "-m", "crossfade", "traces", *words, "--bus", url, "--index", str(index)]
    begun = time.perf_counter()
    with (folder / "said").open("wb") as said:
        child = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603 - ours
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if child.returncode not in (0, 1):  # 1: two sides differ
        raise CrossfadeError(f"traces {words[0]} failed: {(folder / 'said').read_text()[-500:]}")
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return Command(command=words[0], events=events, seconds=seconds, megabytes=used.ru_maxrss / scale)


def _shown(index: Path, url: str, runs: int) -> LookUp:
    """One run after the other, as `show` asks for it, without the start of a process."""
    times, dice = list[float](), random.Random(1)  # noqa: S311 - a choice, no secret
    with closing(TraceIndex(index, source=f"{url} prefix {Subjects().prefix}")) as traces:
        for _ in range(_LOOKED_UP):
            run = f"bus-{dice.randrange(runs):07d}"
            begun = time.perf_counter()
            found = traces.run(run)
            calls = len(list(found.walk())) if found and critical_path(found) else 0
            times.append(time.perf_counter() - begun)
            if calls != len(_SEAMS):
                raise CrossfadeError(f"{run}: {calls} calls are in the index, {len(_SEAMS)} were published")
    return _look_up("one run in the index", runs * _EVENTS_OF_RUN, times)


def _look_up(what: str, stored: int, times: list[float]) -> LookUp:
    ordered = sorted(each * 1000 for each in times)
    return LookUp(what=what, stored=stored, p50=ordered[len(ordered) // 2], p99=ordered[int(len(ordered) * 0.99)])
