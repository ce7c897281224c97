"""``--stop-with-stdin``: a process that ends with the one that started it, however that one ends."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

StdinOption = Annotated[
    bool, typer.Option("--stop-with-stdin", help="Stop when standard input ends: with the process that holds it.")
]


def stop_with_stdin(stop: Callable[[], object]) -> None:
    """Call ``stop``, on a thread of its own, when standard input ends."""
    threading.Thread(target=_wait, args=(stop,), name="stdin", daemon=True).start()


def _wait(stop: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone has ended as well
        while os.read(0, 4096):  # not sys.stdin: a lock that its reader holds aborts the interpreter's exit
            pass
    stop()
