"""``crossfade bench workflows``: how many instances one engine carries, in what memory, how soon its timers fire."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crossfade.migrations.bench.brokers import one_nats
from crossfade.shim.buses import open_bus
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.events import Event
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from crossfade.workflows import naming
from crossfade.workflows.reducer import instance_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from crossfade.shim.ports import Bus

_FLOW: Final = """
from crossfade.workflows import Workflow

flow = Workflow("bench.waiting", on="bench.begun", key="data.n")

@flow.approval()
def asked(event):
    return {"n": event["n"], "text": "x" * 500}

@flow.timer()
def rested(asked):
    return asked["data"]

@flow.emit("bench.rested")
def told(asked, rested):
    return {"due": asked["data"], "rang": rested}
"""
_AT_ONCE: Final = 100  # events being published
_SPREAD: Final = 0.03  # seconds between two timers that fall due
_LEAD: Final = 0.003  # seconds per instance until the first does: all are answered by then


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowFigures:
    """What was measured. Seconds; ``kilobytes`` of the engine's memory per instance that waits; ``late``: of timers.

    ``cpu_ms``: the engine's, per instance from its start to its end, three transitions and four writes.
    ``restarted``: until an engine that starts anew takes events; it looks at all instances beside.
    """

    instances: int
    started: float
    kilobytes: float
    restarted: float
    late_p50: float
    late_p99: float
    cpu_ms: float


def run(instances: int = 2000) -> WorkflowFigures:
    """Start so many instances on one engine, start it anew, let everybody answer, and measure."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, one_nats() as broker:
        (Path(folder) / "bench_flow.py").write_text(_FLOW)
        return asyncio.run(_measure(Path(folder), broker.url, instances))


async def _measure(folder: Path, url: str, instances: int) -> WorkflowFigures:
    bus, subjects = open_bus(url, BusSettings(), report), Subjects()
    await bus.open()
    try:
        with _engine(folder, url) as first:
            before = _memory(first)
            began = time.perf_counter()
            begun = subjects.fact("bench.begun")
            await _publish(bus, ((begun, _event("bench.begun", {"n": n})) for n in range(instances)))
            await _count(bus, subjects, "workflow.advanced", instances)
            started = time.perf_counter() - began
            kilobytes = (_memory(first) - before) / instances
            cpu = _cpu(first)
        began = time.perf_counter()
        with _engine(folder, url) as second:
            restarted = time.perf_counter() - began
            base = datetime.now(UTC) + timedelta(seconds=1 + instances * _LEAD)
            signals = naming.signals(subjects, "bench.waiting")
            await _publish(bus, ((signals, _approval(n, base)) for n in range(instances)))
            late = await _late(bus, subjects, instances)
            cpu += _cpu(second)
    finally:
        await bus.close()
    return WorkflowFigures(
        instances=instances,
        started=started,
        kilobytes=kilobytes,
        restarted=restarted,
        late_p50=late[len(late) // 2],
        late_p99=late[len(late) * 99 // 100],
        cpu_ms=cpu / instances * 1000,
    )


@contextmanager
def _engine(folder: Path, url: str) -> Generator[int]:
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-m", "crossfade", "workflow", "run", "bench_flow", "--json", "--bus", url],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if not (process.stdout and process.stdout.readline()):
            raise CrossfadeError("the engine did not start: try crossfade workflow run by itself")
        yield process.pid
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _event(kind: str, data: Any) -> Event:
    return Event(type=kind, source="urn:crossfade:bench", data=json.dumps(data).encode())


def _approval(n: int, base: datetime) -> Event:
    due = (base + timedelta(seconds=n * _SPREAD)).isoformat()
    instance = instance_id("bench.waiting", str(n))
    said = {"instance": instance, "action": "approve", "step": "asked", "by": "bench", "comment": "", "data": due}
    return _event(naming.SIGNALLED, said)


async def _publish(bus: Bus, events: Iterable[tuple[str, Event]]) -> None:
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(subject: str, event: Event) -> None:
        async with places:
            await bus.publish(subject, event, timeout=30)

    await asyncio.gather(*(one(subject, event) for subject, event in events))


async def _count(bus: Bus, subjects: Subjects, kind: str, n: int) -> list[Event]:
    """The facts of this type, once there are ``n``."""
    found: list[Event] = []
    async with asyncio.timeout(600):
        async for stored in bus.read(subjects.fact(kind), follow=True):
            found.append(stored.event)
            if len(found) >= n:
                break
    return found


async def _late(bus: Bus, subjects: Subjects, n: int) -> list[float]:
    told = [json.loads(event.data or b"{}") for event in await _count(bus, subjects, "bench.rested", n)]
    times = [(datetime.fromisoformat(each["rang"]), datetime.fromisoformat(each["due"])) for each in told]
    return sorted((rang - due).total_seconds() for rang, due in times)


def _memory(pid: int) -> float:
    """KB that are a process's own and resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1])
    raise CrossfadeError(f"the system does not tell the memory of process {pid}")


def _cpu(pid: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
