"""The call that a handler is serving right now."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentCall:
    """What a handler may know of its call.

    ``callid`` is the idempotency key to hand to anything the handler changes. ``deadline`` is the broker's
    time, after which nobody waits any more. ``attempt`` is 1 unless the broker delivered again.
    """

    callid: str
    seam: str
    attempt: int
    deadline: datetime


serving: ContextVar[CurrentCall | None] = ContextVar("crossfade_serving", default=None)


def current_call() -> CurrentCall | None:
    """The call this code runs for on the bus side, or ``None`` when it runs as plain legacy code."""
    return serving.get()
