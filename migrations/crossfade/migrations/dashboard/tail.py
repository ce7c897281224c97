"""The latest events as lines of text: a taste of what travels, bounded however much that is.

Seam news are shown whole. Of calls, observations and verdicts a few a second are, and a line says that there were more:
reading every one of thousands a second would cost the bus what the page is worth.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Bus, Position, Stored
    from crossfade.shim.subjects import Subjects

LATEST: Final = 60  # lines kept
_AT_ONCE: Final = 8  # events of one family at one look
_FIRST: Final = timedelta(seconds=60)  # how far back the first look goes
_TEXT: Final = 300  # characters of what somebody wrote


class Tail:
    """Reads what is new at each look."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        prefix = subjects.prefix
        self._news = f"{prefix}e.>"
        self._families = (self._news, f"{prefix}v.>", f"{prefix}o.>", subjects.call_filter("result"))
        self._positions: dict[str, Position] = {}
        self.latest: deque[dict[str, Any]] = deque(maxlen=LATEST)

    async def news(self) -> list[dict[str, Any]]:
        """Lines of what came since the last look, oldest first. Raises ``BusError``."""
        found = [line for family in self._families for line in await self._of(family)]
        found.sort(key=lambda line: line["at"])
        self.latest.extend(found)
        return found

    async def _of(self, family: str) -> list[dict[str, Any]]:
        newest = await self._bus.last(family)
        if newest is None or newest.position == self._positions.get(family):
            return []
        after = self._positions.get(family)
        since = self._bus.now() - _FIRST if after is None else None
        lines: list[dict[str, Any]] = []
        events = cast("AsyncGenerator[Stored]", self._bus.read(family, after=after, since=since))
        async with aclosing(events) as stored:
            async for each in stored:
                lines.append(line_of(each))
                if family != self._news and len(lines) == _AT_ONCE:
                    break
        self._positions[family] = newest.position
        if lines and len(lines) == _AT_ONCE and family != self._news:
            lines[-1]["more"] = True
        return lines


def line_of(stored: Stored) -> dict[str, Any]:
    """An event as a line: names and outcomes, never an argument or a value. Every text in it is somebody's."""
    event = stored.event
    return {
        "at": stored.time.isoformat(),
        "type": event.type,
        "seam": event.get("seam") or "",
        "run": event.get("correlationid") or "",
        "said": _said(event)[:_TEXT],
        "more": False,
    }


def _said(event: Event) -> str:
    try:
        payload: Any = json.loads(event.data or b"{}")
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(payload, dict):
        return "not an object"
    fields = cast("dict[str, Any]", payload)
    if event.type == "seam.stage.changed":
        return f"{fields.get('from')} → {fields.get('to')} by {fields.get('actor') or 'nobody'}: {fields.get('reason')}"
    if event.type == "seam.compared":
        return " ".join(str(fields[name]) for name in ("verdict", "reason", "signature") if fields.get(name))
    parts = [str(fields.get("outcome") or fields.get("reason") or "")]
    if isinstance(duration := fields.get("duration_ms"), (int, float)):
        parts.append(f"{duration:.1f} ms")
    timings = fields.get("timings")
    if isinstance(timings, dict) and isinstance(handler := cast("Any", timings).get("handler_ms"), (int, float)):
        parts.append(f"{handler:.1f} ms")
    return ", ".join(filter(None, parts))
