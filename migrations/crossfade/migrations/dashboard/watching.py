"""One look at the bus a second for all viewers of this process together, and none while nobody looks.

A viewer hears which seams changed and fetches the page again; what it is told is a few hundred bytes whatever the
traffic. A viewer that is slow loses lines of the tail, counted for it, never its place.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from crossfade.migrations.gathering import Gatherer
from crossfade.migrations.overview import overview
from crossfade.proxy.control.following import Item
from crossfade.shim.errors import BusError, CrossfadeError
from crossfade.shim.hooks import report

from .tail import Tail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from datetime import datetime

    from crossfade.migrations.overview import Overview
    from crossfade.proxy.control.hub import Waiter
    from crossfade.shim.policies import Policies
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

EVERY: Final = 1.0  # seconds
LIFE: Final = 600.0
"""Seconds after which a viewer comes back and shows its session again: one that ended is cut off by then."""

_LINES: Final = 60  # of the tail, for a viewer that has just come or is slow
_SILENCE: Final = 5 * EVERY  # the watcher says something each second, good or bad

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen, when (the broker's time)."""

    overview: Overview
    at: datetime


@dataclass(slots=True, eq=False)
class _Viewer:
    """What one viewer has not been sent yet."""

    waiter: Waiter
    changed: set[str] = field(default_factory=set[str])
    lines: deque[dict[str, Any]] = field(default_factory=lambda: deque[dict[str, Any]](maxlen=_LINES))
    missed: int = 0
    state: bytes = b""

    def tell(self, state: bytes, changed: set[str], lines: list[dict[str, Any]]) -> None:
        self.missed += max(0, len(self.lines) + len(lines) - _LINES)
        self.lines.extend(lines)
        self.changed |= changed
        self.state = state
        self.waiter.wake()

    def take(self) -> list[Item]:
        said = json.dumps({"changed": sorted(self.changed), "lines": list(self.lines), "missed": self.missed})
        items = [Item(id="-", kind="state", data=self.state), Item(id="-", kind="news", data=said.encode())]
        self.changed.clear()
        self.lines.clear()
        self.missed = 0
        return items


class Watch:
    """Looks at every seam, and tells viewers what changed."""

    def __init__(self, bus: Bus, subjects: Subjects, policies: Policies) -> None:
        self._bus = bus
        self._subjects = subjects
        self._policies = policies
        self._gatherer = Gatherer(bus, subjects)
        self._tail = Tail(bus, subjects)
        self._looking = asyncio.Lock()
        self._look: Look | None = None
        self._looked = 0.0
        self._seen: dict[str, str] = {}
        self._viewers: set[_Viewer] = set()
        self._watching: asyncio.Task[None] | None = None

    async def look(self, *, fresh: bool = False) -> Look:
        """What there is to see, a second old at most; ``fresh``: as it is from now on. Raises ``BusError``."""
        asked = asyncio.get_running_loop().time()
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if self._look is None or self._looked < (asked if fresh else now - EVERY):
                found = await overview(self._bus, self._subjects, self._policies, gatherer=self._gatherer)
                self._look = Look(overview=found, at=self._bus.now())
                self._looked = now
            return self._look

    async def news(self, waiter: Waiter) -> AsyncGenerator[list[Item]]:
        """What a viewer is sent, in batches, until the waiter is closed or ``LIFE`` is over."""
        ends = asyncio.get_running_loop().time() + LIFE
        with self._viewing(waiter) as viewer:
            while not waiter.closed and asyncio.get_running_loop().time() < ends:
                if await waiter.wait(_SILENCE) and viewer.state and not waiter.closed:
                    yield viewer.take()

    @contextmanager
    def _viewing(self, waiter: Waiter) -> Generator[_Viewer]:
        viewer = _Viewer(waiter)
        viewer.lines.extend(self._tail.latest)
        self._viewers.add(viewer)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)
            if not self._viewers:
                self._rest()

    def _rest(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self) -> None:
        while True:
            changed, lines = set[str](), list[dict[str, Any]]()
            try:
                look = await self.look(fresh=True)
                changed, lines = self._changed(look), await self._tail.news()
                state = {"bus": True, "at": look.at.isoformat(), "leader": look.overview.leader}
            except CrossfadeError as error:  # said on every page, and tried again
                report.count("dashboard-interrupted", reason=type(error).__name__)
                if not isinstance(error, BusError):
                    _log.warning("the dashboard could not look at the seams, and tries again: %s", error)
                state = {"bus": False, "at": self._look.at.isoformat() if self._look else None, "leader": ""}
            said = json.dumps(state).encode()
            for viewer in self._viewers:
                viewer.tell(said, changed, lines)
            await asyncio.sleep(EVERY)

    def _changed(self, look: Look) -> set[str]:
        """The seams of which there is something else to see than at the last look; ``""``: which ones there are."""
        now = {view.progress.seam: _digest(view.to_json()) for view in look.overview.seams}
        now |= {other.seam: _digest([other.policy.stage, other.workers]) for other in look.overview.others}
        was, self._seen = self._seen, now
        changed = {seam for seam, digest in now.items() if was.get(seam) != digest}
        return changed | ({""} if was.keys() != now.keys() else set())


def _digest(shown: Any) -> str:
    return hashlib.blake2b(json.dumps(shown, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
