"""Processes of a benchmark: ours that say when they are ready, and the CPU time that they and their children used."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crossfade.shim.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


@contextmanager
def ours(*arguments: str) -> Generator[int]:
    """The pid of a process of this Python that has printed a line, which says that it is ready."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        if not (process.stdout and process.stdout.readline()):
            said = process.stderr.read()[-2000:] if process.stderr else ""
            raise CrossfadeError(f"{' '.join(arguments)} did not start:\n{said}")
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
