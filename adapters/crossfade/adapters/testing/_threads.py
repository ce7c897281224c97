"""No thread of ours outlives a test."""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_PREFIX: Final = "crossfade"
_PATIENCE: Final = 2.0  # seconds
_STDLIB: Final = sysconfig.get_path("stdlib")


def left_behind(before: Collection[threading.Thread]) -> list[str]:
    """The threads of crossfade's that were not there ``before`` and do not end: each with where it is."""
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith(_PREFIX)]
    end = time.monotonic() + _PATIENCE
    for thread in ours:
        thread.join(max(0.0, end - time.monotonic()))
    return [f"{thread.name}{_place(thread)}" for thread in ours if thread.is_alive()]


def _place(thread: threading.Thread) -> str:
    """The innermost line of the user's own code, else of any."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
    stack: list[traceback.FrameSummary] = list(traceback.extract_stack(frame)) if frame else []
    own = [entry for entry in stack if not entry.filename.startswith(_STDLIB)]
    innermost = (own or stack)[-1:]
    return "".join(f", in {entry.name} at {entry.filename}:{entry.lineno}" for entry in innermost)
