"""The time as code should ask for it that is to be replayed: now, or when the recorded call was made.

Only who asks here is told another time. Python's own clocks are left alone: patched, they would lie to timeouts,
caches and TLS in the same process, and ``datetime`` cannot be patched for one call and not for the next.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

telling: ContextVar[Callable[[], datetime] | None] = ContextVar("crossfade_clock", default=None)


def now() -> datetime:
    """The time in UTC; while a recorded call is replayed, that call's."""
    told = telling.get()
    return datetime.now(UTC) if told is None else told()


def frozen(at: datetime) -> Callable[[], datetime]:
    """A clock that stands at ``at``."""
    return lambda: at


def shifted(at: datetime) -> Callable[[], datetime]:
    """A clock that shows ``at`` now and goes on from there."""
    began = time.monotonic()
    return lambda: at + timedelta(seconds=time.monotonic() - began)
