"""Tokens that are taken back before they end: on the bus, so that every control process knows within moments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError, WrongRevisionError
from crossfade.shim.hooks import report

from .tokens import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.shim.ports import Bus

BUCKET: Final = "revoked"

_PAUSE: Final = 0.5  # seconds before the bus is asked again


class Revocations:
    """The ids of revoked tokens; run ``run`` as a task. ``on_revoked`` is called with each new one."""

    def __init__(self, bus: Bus, on_revoked: Callable[[str], None]) -> None:
        self._state = bus.state(BUCKET)
        self._on_revoked = on_revoked
        self._known: set[str] = set()

    def __contains__(self, token: object) -> bool:
        return token in self._known

    async def revoke(self, token: str) -> None:
        """From now on nobody comes in with it; kept until any token has ended. Raises ``BusError``."""
        try:
            await self._state.create(token, b"1", ttl=LONGEST.total_seconds())
        except WrongRevisionError:
            return  # somebody did already

    async def run(self) -> None:
        """Follow the bus until cancelled."""
        while True:
            try:
                async for change in self._state.watch():
                    self._take(change.key, revoked=change.value is not None)
            except BusError as error:
                report.count("watch-failed", reason=type(error).__name__)
            await asyncio.sleep(_PAUSE)

    def _take(self, token: str, *, revoked: bool) -> None:
        if not revoked:
            self._known.discard(token)
        elif token not in self._known:
            self._known.add(token)
            self._on_revoked(token)
