"""Killing a worker while it is in the middle of a call, which is the only kill that proves something."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

_TRY: Final = 15.0  # seconds; a search takes milliseconds, so most looks find the worker between two calls


def kill_in_mid_call(
    workers: Sequence[subprocess.Popen[str]], journal: Path, tool: str
) -> tuple[subprocess.Popen[str] | None, str]:
    """Stop workers in turn until the journal shows a call of ``tool`` begun by one and not ended, then kill that one.

    Returns the worker and the request it was serving, or ``None`` when no call could be caught (all live on).
    """
    end = time.monotonic() + _TRY
    for worker in itertools.cycle(workers):
        if time.monotonic() > end:
            break
        os.kill(worker.pid, signal.SIGSTOP)
        caught = _open_call(journal, worker.pid, tool)
        if caught:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            return worker, caught
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - where in a call we look must not be regular
    return None, ""


def _open_call(journal: Path, pid: int, tool: str) -> str:
    """The last request that ``pid`` has begun and not ended; a line it was still writing does not count."""
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
        lines = file.read().split(b"\n")[1:-1]
    open_calls: dict[str, None] = {}
    for line in lines:
        if f'"pid": {pid}'.encode() not in line:
            continue
        entry = json.loads(line)
        if entry["tool"] == tool and entry["phase"] == "begin" and entry["role"] != "shadow":
            open_calls[entry["request"]] = None
        else:
            open_calls.pop(entry["request"], None)
    return next(reversed(open_calls), "")
