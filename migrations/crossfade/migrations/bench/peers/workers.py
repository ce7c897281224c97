"""A peer's worker: its own command, in this environment and this folder."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def running(module: str, *arguments: str) -> Generator[None]:
    """``python -m MODULE ARGUMENTS``, ended with the block; what it prints goes where our stderr goes."""
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parent,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
