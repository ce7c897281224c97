"""Killing a worker while it is in the middle of a call, which is the only kill that proves something."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Final

from .verdict import Kill

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

_TRY: Final = 15.0  # seconds; a search takes milliseconds, so most looks find the worker between two calls


def kill_in_mid_call(workers: list[subprocess.Popen[str]], in_flight: Callable[[int], str]) -> tuple[Kill | None, str]:
    """Stop workers in turn until one is in the middle of what ``in_flight`` names by its pid, then kill that one.

    Returns the kill and what was in flight, or ``None`` when nothing could be caught (all live on); the worker that
    died is taken out of ``workers``.
    """
    end = time.monotonic() + _TRY
    for worker in itertools.cycle(workers):
        if time.monotonic() > end:
            break
        os.kill(worker.pid, signal.SIGSTOP)
        caught = in_flight(worker.pid)
        if caught:
            at = time.monotonic()
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            workers.remove(worker)
            return Kill(pid=worker.pid, at=at), caught
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - where in a call we look must not be regular
    return None, ""


def open_call(journal: Path, tool: str, *, pid: int | None = None, request: str = "") -> str:
    """The last call of ``tool`` that was begun and not ended, by ``pid`` where one is named, for a ``request...``.

    A line that is still being written does not count.
    """
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
        lines = file.read().split(b"\n")[1:-1]
    open_calls: dict[tuple[int, str], None] = {}
    for line in lines:
        if f'"{tool}"'.encode() not in line:
            continue
        entry = json.loads(line)
        call = entry["pid"], entry["request"]
        if pid not in (None, entry["pid"]) or not entry["request"].startswith(request):
            continue
        if entry["phase"] == "begin" and entry["role"] != "shadow":
            open_calls[call] = None
        else:
            open_calls.pop(call, None)
    return next(reversed(open_calls), (0, ""))[1]
