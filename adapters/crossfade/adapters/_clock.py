"""The broker's time: what it said at the last measurement, plus what this machine's monotonic clock has run since.

The wall clock decides nothing: an operator or NTP may step it at any moment. It is only listened to: when wall and
monotonic clock part, one of them was stepped or stood still (a machine that slept), so the time is in doubt until it is
measured again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crossfade.shim.hooks import Hooks

_EVERY: Final = 10.0  # seconds between measurements
_SAMPLES: Final = 3  # the one with the shortest round trip is kept
_DRIFT: Final = 0.0005  # seconds per second: what NTP may slew a clock, and more than a quartz drifts
_PARTED: Final = 0.5  # seconds by which wall and monotonic clock part when one was stepped or stood still
_UNKNOWN: Final = timedelta(days=365)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """``there`` was the broker's time at ``monotonic`` here (seconds), within ``half`` the round trip."""

    half: timedelta
    there: datetime
    monotonic: float
    wall: float


class BrokerClock:
    """The broker's clock. ``ask`` asks what it shows; which of its exceptions mean "not now" ``passing`` says."""

    def __init__(
        self, ask: Callable[[], Awaitable[datetime]], hooks: Hooks, *, passing: tuple[type[Exception], ...]
    ) -> None:
        self._ask = ask
        self._hooks = hooks
        self._passing = passing
        self._last: _Measured | None = None

    def now(self) -> datetime:
        """The broker's time; this machine's until it was measured."""
        if self._last is None:
            return datetime.now(UTC)
        return self._last.there + timedelta(seconds=time.monotonic() - self._last.monotonic)

    @property
    def error(self) -> timedelta:
        """How far ``now`` may be off: half the round trip, drift since then, and by how much our clocks have parted."""
        if self._last is None:
            return _UNKNOWN
        ran = time.monotonic() - self._last.monotonic
        parted = abs(time.time() - self._last.wall - ran)
        return self._last.half + timedelta(seconds=ran * _DRIFT + (parted if parted > _PARTED else 0.0))

    @property
    def offset(self) -> timedelta:
        """How far this machine's wall clock is ahead of the broker's."""
        return datetime.now(UTC) - self.now()

    async def measure(self) -> None:
        """Take the best of three round trips; the true time lies within half of it."""
        samples = [await self._sample() for _ in range(_SAMPLES)]
        self._last = min(samples, key=lambda sample: sample.half)

    async def _sample(self) -> _Measured:
        began, wall = time.monotonic(), time.time()
        there = await self._ask()
        half = (time.monotonic() - began) / 2
        return _Measured(half=timedelta(seconds=half), there=there, monotonic=began + half, wall=wall + half)

    async def run(self) -> None:
        """Measure again now and then; a failure keeps what is known, and is counted."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.refresh()

    async def refresh(self) -> None:
        """Measure, or keep what is known."""
        try:
            await self.measure()
        except self._passing as error:
            self._hooks.count("retried", reason=f"clock-{type(error).__name__}")
