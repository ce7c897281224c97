"""How fast recorded calls are begun again: as fast as they can be, or in the time they had, quicker or cut short."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from crossfade.shim.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """When the next call begins.

    Attributes:
        factor: Times as fast as recorded; ``None``: pauses are not kept.
        max_gap: Seconds that a recorded pause counts at most, before ``factor``.
        rate: Calls a second at most.
    """

    factor: float | None = None
    max_gap: float | None = None
    rate: float | None = None

    def pause(self, gap: float) -> float:
        """Seconds between the begin of two calls that began ``gap`` seconds apart."""
        kept = 0.0
        if self.factor is not None:
            kept = max(0.0, gap if self.max_gap is None else min(gap, self.max_gap)) / self.factor
        return kept if self.rate is None else max(kept, 1 / self.rate)


def parse_speed(text: str) -> float | None:
    """``max``, or times as fast as recorded: ``1x``, ``2.5x``. Raises ``ConfigurationError``."""
    if text == "max":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if not found or not float(found[1]):
        raise ConfigurationError(f"{text!r} is no speed: use max, or 1x (as recorded), 10x, 0.5x", where="--speed")
    return float(found[1])


class Pacer:
    """Waits between calls, never more than they are behind: a slow call does not stretch the whole replay."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._last: float | None = None
        self._due = asyncio.get_running_loop().time()

    async def wait(self, begun: float) -> None:
        """Return when the call that was ``begun`` then is due."""
        loop = asyncio.get_running_loop()
        if self._last is not None:
            self._due += self._pace.pause(begun - self._last)
        self._last = begun
        await asyncio.sleep(max(0.0, self._due - loop.time()))
