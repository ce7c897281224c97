"""A peer that is a proxy: a process on the core it is given, which has answered one request before it counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_STARTING = 60.0  # seconds


@contextmanager
def running(command: list[str], asked: dict[str, Any], *, folder: Path | None = None) -> Generator[Callable[[], int]]:
    """Run ``command`` of this environment; what is yielded asks it for ``probe``. Its output is its access log."""
    os.sched_setaffinity(0, {asked["core"]})
    # uv may put the packages' programs into a folder beside this environment's.
    program = shutil.which(command[0], path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    here = Path.cwd()
    with (here / "output.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - ours
            [program or command[0], *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder or here,
        )
        try:
            url = f"http://127.0.0.1:{asked['port']}{asked['probe']}"
            yield lambda: _ask(url, process, here / "output.log")
        finally:
            process.terminate()
            process.wait(30)


def _ask(url: str, process: subprocess.Popen[bytes], output: Path) -> int:
    """The length of the answer, once there is one."""
    end = time.monotonic() + _STARTING
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
                return len(answer.read())
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"it does not answer: {output.read_text()[-400:]}")
            time.sleep(0.05)
