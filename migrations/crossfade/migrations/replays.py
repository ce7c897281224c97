"""Which replays of seams have passed, in the bucket ``replays`` by seam: a gate may ask for one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.hooks import report

from .gates import ReplayPassed
from .replay.building import UNKNOWN

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus

BUCKET: Final = "replays"


class Replays:
    """Reads and writes which replay of a seam last passed, over a connected bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)

    async def passed(self, seam: str, *, digest: str, compared: int, handler: str, build: str) -> None:
        """Record that a replay of ``compared`` calls has passed now. Raises ``BusError``.

        ``digest`` names calls and verdicts, ``handler`` what ran: ``self``, or ``module:qualname[@version]``; ``build``
        which build of the application that was.
        """
        value = {
            "passed": self._bus.now().isoformat(),
            "digest": digest,
            "compared": compared,
            "handler": handler,
            "build": build,
        }
        await self._state.put(seam, json.dumps(value).encode())

    async def last(self, seam: str) -> ReplayPassed | None:
        """The one that passed last, by the broker's time; an entry that cannot be read is counted, and is none.

        Until `handler` was told apart from it, `build` held that: which build it was is not known.
        """
        entry = await self._state.get(seam)
        if entry is None:
            return None
        try:
            stored: dict[str, Any] = json.loads(entry.value)
            at, build = datetime.fromisoformat(stored["passed"]), stored["build"] if "handler" in stored else UNKNOWN
            return ReplayPassed(at=at, build=str(build)) if int(stored["compared"]) > 0 else None
        except (ValueError, KeyError, TypeError) as error:
            report.count("skipped", seam=seam, reason=f"replay-{type(error).__name__}")
            return None
