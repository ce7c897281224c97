"""The call that a handler, or a body that owns its call, is serving right now, and what it may say about it."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .slots import Slot


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of a call: ``fraction`` 0 to 1 or ``None``, a text for people, JSON for programs."""

    fraction: float | None
    message: str
    data: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentCall:
    """What a handler may know of its call.

    ``callid`` is the idempotency key to hand to anything the handler changes, ``fence`` the position of its claim:
    it grows with every claim, so a store can refuse an owner that was paused and came back late. ``deadline`` is
    the broker's time, after which nobody waits any more. ``attempt`` is 1 unless the broker delivered again.
    ``shadow``: the answer is only compared, nobody gets it.
    """

    callid: str
    seam: str
    attempt: int
    deadline: datetime
    fence: str | None = None
    shadow: bool = False
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _tell: Callable[[Progress], None] | None = None
    _slot: Slot | None = None
    _depth: int = 0

    @property
    def slot(self) -> Slot | None:
        """What a worker lends to others while the handler waits for a nested call; none outside workers."""
        return self._slot

    @property
    def depth(self) -> int:
        """How many handlers wait for this call, one within the other."""
        return self._depth

    @property
    def cancelled(self) -> bool:
        """Whether the caller gave up: a plain function that works for long should look now and then."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Mark the call as given up."""
        self._cancelled.set()

    def tell(self, progress: Progress) -> None:
        """Pass ``progress`` on to whoever follows the call."""
        if self._tell is not None:
            self._tell(progress)


serving: ContextVar[CurrentCall | None] = ContextVar("crossfade_serving", default=None)


def current_call() -> CurrentCall | None:
    """The call this code runs for, on a worker or here under a claim; ``None`` when it runs as plain legacy code."""
    return serving.get()


def report_progress(fraction: float | None = None, message: str = "", data: Any = None) -> None:
    """Say how far the current call is; outside a call it does nothing.

    ``fraction`` is 0 to 1, ``message`` a text for people, ``data`` JSON for programs. It is sent fail-open and
    never delays the handler. Raises ``ConfigurationError`` for a fraction outside 0 to 1.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ConfigurationError(f"{fraction!r} is not between 0 and 1", where="fraction")
    call = serving.get()
    if call is not None:
        call.tell(Progress(fraction=fraction, message=message, data=data))
