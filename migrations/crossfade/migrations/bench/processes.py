"""Processes of a benchmark: ours that say when they are ready, and the CPU time that they and their children used."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from crossfade.adapters._embedded.binary import VARIABLE
from crossfade.shim.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_STARTING: Final = 20.0  # seconds


@contextmanager
def ours(*arguments: str) -> Generator[int]:
    """The pid of a process of this Python that has printed a line, which says that it is ready.

    It runs in a folder that goes with it, and sees no setting of the user's but which nats-server is used.
    """
    command = [sys.executable, *arguments]
    environ = {name: text for name, text in os.environ.items() if name == VARIABLE or not name.startswith("CROSSFADE_")}
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, cwd=folder, env=environ)  # noqa: S603
        try:
            if not (process.stdout and process.stdout.readline()):
                said.seek(0)
                words = said.read().decode(errors="replace")
                raise CrossfadeError(f"{' '.join(arguments)} did not start:\n{words[-2000:]}")
            yield process.pid
        finally:
            process.terminate()
            process.communicate(timeout=30)


def cpu_of(*roots: int, this_process: bool = True) -> Callable[[], float]:
    """A function that tells CPU seconds (user+sys) used so far by this process and by ``roots`` with their children.

    Who the children are is seen now. It tells nan where there is no Linux to ask.
    """
    pids = with_children(roots) if sys.platform == "linux" else []
    known = sys.platform == "linux" or not roots

    def told() -> float:
        if not known:
            return math.nan
        # clock_getcpuclockid(3) by hand: the kernel's clock of another process, in nanoseconds.
        others = sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)
        return others + (time.process_time() if this_process else 0.0)

    return told


@contextmanager
def on_core(core: int) -> Generator[None]:
    """What is started within runs on ``core`` alone, and so do its children. Linux only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def accepts(port: int) -> bool:
    """Whether somebody listens on ``port`` of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def server(command: list[str], port: int, folder: Path) -> Generator[int]:
    """The pid of somebody's server once it accepts connections on ``port``; its output is ``folder``'s ``log``."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)  # noqa: S603
        try:
            end = time.monotonic() + _STARTING
            while not accepts(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise CrossfadeError(f"{command[0]} did not start: {(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            process.wait(_STARTING)


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def with_children(roots: Sequence[int]) -> list[int]:
    """``roots`` and all processes below them, from Linux's process table."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):  # it has ended since
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = list(roots)
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found
