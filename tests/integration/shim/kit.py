"""Short words for tests of the whole shim: workers in threads, processes of their own, everything on the bus."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crossfade.shim.worker import Worker, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossfade.shim.connection import Connection
    from crossfade.shim.events import Event

SOON = 10.0  # seconds in which something that must happen has happened, on a busy machine
_revisions = itertools.count(1)
_SLOW_CALLBACK = re.compile(r"Executing <.*> took [0-9.]+ seconds\n")  # asyncio's debug mode on a busy machine
ROOT = Path(__file__).parents[3]


class Workers:
    """Workers in threads of this process."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._running: list[tuple[Worker, threading.Thread]] = []

    def start(self, connection: Connection, *functions: Any, only: Sequence[str] = (), **options: Any) -> Worker:
        names = [function.__crossfade_seam__.name for function in functions] + list(only)
        chosen = WorkerOptions(**{"spool": self._spool, "grace": 5.0, **options})
        worker = Worker(connection.runtime, chosen, only=names)
        thread = threading.Thread(target=worker.run, name="worker under test")
        thread.start()
        self._running.append((worker, thread))
        on_loop(connection, asyncio.sleep(0))  # seams that were just declared have their policies then
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker, thread in self._running:
            if thread.is_alive():
                worker.stop()
        for _, thread in self._running:
            thread.join(SOON)
            assert not thread.is_alive(), "a worker did not stop"


def own_threads() -> list[str]:
    """Threads of crossfade's that run in this process."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("crossfade")]


def until(condition: Callable[[], Any], *, timeout: float = SOON, what: str = "") -> Any:
    """The first true result of ``condition``, for what offers no event."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, what or f"not within {timeout} s"
        time.sleep(0.01)
    return result


def read(connection: Connection, pattern: str) -> list[Event]:
    """Every event under ``pattern`` (``{p}`` is the prefix) on the connection's bus."""
    bus, prefix = connection.runtime.bus, connection.runtime.config.prefix

    async def collect() -> list[Event]:
        return [stored.event async for stored in bus.read(pattern.replace("{p}", prefix))]

    return connection.runtime.thread.run(collect(), timeout=SOON)


def payload(event: Event) -> Any:
    """What is inside it."""
    return json.loads(event.data or b"{}")


def dead_letters(connection: Connection) -> list[Any]:
    """Everything in the dead letters."""
    bus = connection.runtime.bus

    async def collect() -> list[Any]:
        return [letter async for letter in bus.dead_letters()]

    return connection.runtime.thread.run(collect(), timeout=SOON)


def on_loop(connection: Connection, coroutine: Any) -> Any:
    """Run ``coroutine`` where the bus lives."""
    return connection.runtime.thread.run(coroutine, timeout=SOON)


def observed(connection: Connection, n: int = 1) -> list[Event]:
    """The observations, once there are ``n``."""
    return until(lambda: len(found := read(connection, "{p}o.>")) >= n and found, what=f"no {n} observations")


def python(code: str, *arguments: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that runs ``code`` (also importable there as ``program``)."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, "-X", "dev", str(program), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, timeout: float = 30.0) -> tuple[str, str]:
    """What it said; it must have ended well."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the process did not end:\n{out}\n{err}") from None
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    return out, _SLOW_CALLBACK.sub("", err)


async def gather(*coroutines: Any) -> list[Any]:
    """All results; errors in their places."""
    return await asyncio.gather(*coroutines, return_exceptions=True)


def set_live(connection: Connection, seam: str, value: Any) -> None:
    """Put a live policy: settings, or raw bytes."""
    data = value if isinstance(value, bytes) else json.dumps({"policy": value, "revision": next(_revisions)}).encode()
    on_loop(connection, connection.runtime.bus.state("policy").put(seam, data))
