"""wrk as the callers: a window of requests over so many connections, and what came back."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .environments import PeerUnavailableError
from .processes import on_core

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_PATIENCE: Final = 30  # seconds for one answer; the slowest proxy has 256 requests at once


class LoadError(PeerUnavailableError):
    """Requests went wrong, so that what the others took means nothing."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for, and how.

    ``size``: bytes of the answer's body. ``pause``: mean milliseconds that a connection waits before each request, at
    random; 0: as fast as it goes. ``same``: the same request to the byte, again and again.
    """

    target: str
    size: int
    connections: int
    pause: float = 0.0
    same: bool = False


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one run of wrk saw: answers, those in part counted in part; seconds, those of ``p50`` and ``p99`` too."""

    answers: float
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def find() -> str:
    """Where wrk is. Raises ``PeerUnavailableError``."""
    path = shutil.which("wrk")
    if path is None:
        raise PeerUnavailableError("wrk is missing, which sends the requests: apt-get install wrk, or brew install wrk")
    return path


def window(load: Load, *, port: int, core: int, seconds: int) -> Window:
    """Ask 127.0.0.1:``port`` for whole ``seconds``, from ``core``. Raises ``LoadError`` when any request went wrong."""
    command = [find(), "--threads", "1", "--connections", str(load.connections), "--duration", f"{seconds}s"]
    where = ["--timeout", f"{_PATIENCE}s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}", "--"]
    told = [load.target, str(load.pause), "same" if load.same else "different"]
    with on_core(core):
        done = subprocess.run(  # noqa: S603 - ours
            [*command, *where, *told], capture_output=True, text=True, check=False, timeout=seconds + 2 * _PATIENCE
        )
    if done.returncode:
        raise LoadError(f"wrk failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return parse(done.stdout, load)


def parse(printed: str, load: Load) -> Window:
    """What ``wrk.lua`` printed last. Raises ``LoadError``.

    At the window's end large answers are under way. Counting their bytes counts what was done for them.
    """
    seen: dict[str, Any] = json.loads(printed.strip().rpartition("\n")[2])
    if seen["failed"] or not seen["requests"]:
        raise LoadError(f"{seen['failed']} requests failed or timed out, {seen['requests']} were answered")
    answers = max(seen["requests"], seen["bytes"] / load.size) if load.size > _LARGE else seen["requests"]
    return Window(answers=answers, seconds=seen["seconds"], p50=seen["p50"], p99=seen["p99"])


_LARGE: Final = 1 << 20  # bytes, where an answer's head no longer counts
