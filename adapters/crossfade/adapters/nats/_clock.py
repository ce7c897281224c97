"""The broker's time: this machine's clock plus an offset measured now and then."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError

from ._errors import ApiError, NoRespondersError
from ._wire import timestamp

if TYPE_CHECKING:
    from ._connection import Connection

_EVERY: Final = 60.0  # seconds between measurements
_SAMPLES: Final = 3  # the one with the shortest round trip is kept


class BrokerClock:
    """Offset and its bound, from the ``ts`` in STREAM.INFO answers (the stream leader's clock)."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._offset = timedelta()
        self.error = timedelta.max  # unknown until measured

    def now(self) -> datetime:
        """The broker's time."""
        return datetime.now(UTC) + self._offset

    async def measure(self) -> None:
        """Take the best of three round trips; the true offset lies within half of it."""
        samples = [await self._sample() for _ in range(_SAMPLES)]
        self.error, self._offset = min(samples)

    async def _sample(self) -> tuple[timedelta, timedelta]:
        loop = asyncio.get_running_loop()
        before, began = datetime.now(UTC), loop.time()
        there = timestamp((await self._connection.api(f"STREAM.INFO.{self._stream}"))["ts"])
        half = timedelta(seconds=(loop.time() - began) / 2)
        return half, there - (before + half)

    async def run(self) -> None:
        """Measure again each minute; a failure keeps the last offset and is counted."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.refresh()

    async def refresh(self) -> None:
        """Measure, or keep what is known."""
        try:
            await self.measure()
        except (BusError, ApiError, NoRespondersError) as error:
            self._connection.hooks.count("retried", reason=f"clock-{type(error).__name__}")
