"""Schedules: ``schedule.fired`` when a cron expression or a time of day is due, once for all processes.

How it stays once: the fact's id follows from schedule and due time, and how far a schedule got is a key of the state
bucket ``triggers`` (``schedule.NAME``), read before and moved on after each firing. Two processes that fire in the
same moment publish one event; one that slept through finds that the other has fired. Nobody leads, so nobody must be
elected.

Time is the broker's (``bus.now``): machines whose clocks differ agree on it. JetStream's own scheduler (nats-server
2.14) is not used: it needs a stream made for it, and what it publishes carries no id of the due time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError, WrongRevisionError
from crossfade.shim.hooks import report

from .cron import CatchUp, Times, choose
from .intake import BUCKET, Arrival

if TYPE_CHECKING:
    from collections.abc import Callable

    from .intake import Intake

_LONGEST_SLEEP: Final = 30.0  # seconds: after a suspend, or a clock that was set, it looks again
_AGAIN: Final = 1.0  # seconds until it looks again while the bus is away
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When, and what to do about what was missed while nobody could fire: ``none``, the ``last``, or ``all``."""

    times: Times
    catch_up: CatchUp = "last"
    tenant: str | None = None
    user: str | None = None


class Ticker:
    """Fires one schedule."""

    def __init__(self, settings: Schedule, intake: Intake, *, clock: Callable[[], datetime] | None = None) -> None:
        self.name = intake.trigger
        self._settings = settings
        self._intake = intake
        self._state = intake.bus.state(BUCKET)
        self._clock = clock or intake.bus.now

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``."""
        ready(str(self._settings.times))
        while not stopping.is_set():
            try:
                pause = await self.tick()
            except BusError as error:
                report.count("schedule-delayed", seam=self.name, reason=type(error).__name__)
                pause = _AGAIN
            if pause is None:  # nothing is due any more
                pause = _LONGEST_SLEEP
            try:
                await asyncio.wait_for(stopping.wait(), pause)
            except TimeoutError:
                continue

    async def tick(self) -> float | None:
        """Fire what is due now; the seconds until the next look, ``None`` when nothing will be due any more.

        Raises ``BusError``: what did not fire is due still.
        """
        key = f"schedule.{self.name}"
        entry = await self._state.get(key)
        if entry is None:
            revision, last = await self._begin(key)
        else:
            revision, last = entry.revision, _read(entry.value)
        now = self._clock()
        due = self._settings.times.between(last, now)
        if due:
            await self._fire(due, now)
            try:
                await self._state.update(key, _written(due[-1]), revision=revision)
            except WrongRevisionError:
                report.count("schedule-shared", seam=self.name)  # another process fired the same
            last = due[-1]
        following = self._settings.times.after(max(last, now))
        return None if following is None else min(max((following - self._clock()).total_seconds(), 0), _LONGEST_SLEEP)

    async def _begin(self, key: str) -> tuple[int, datetime]:
        """A schedule that is new here has missed nothing; a single time that is past, it has."""
        last = self._clock() if self._settings.times.at is None else _NEVER
        try:
            return await self._state.create(key, _written(last)), last
        except WrongRevisionError:
            entry = await self._state.get(key)
            if entry is None:
                raise
            return entry.revision, _read(entry.value)

    async def _fire(self, due: list[datetime], now: datetime) -> None:
        chosen = choose(due, now, self._settings.catch_up)
        for one in chosen:
            payload = {"schedule": self.name, "due": one.isoformat(), "late": max((now - one).total_seconds(), 0.0)}
            arrival = Arrival(
                type="schedule.fired",
                parts=(_moment(one),),
                data=json.dumps(payload).encode(),
                subject=self.name,
                time=one,
                tenant=self._settings.tenant,
                user=self._settings.user,
            )
            await self._intake.take(arrival)
        if len(chosen) < len(due):
            report.count("schedule-missed", seam=self.name, reason=self._settings.catch_up, n=len(due) - len(chosen))


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat() if time != _NEVER else ""


def _written(last: datetime) -> bytes:
    return json.dumps({"last": _moment(last)}).encode()


def _read(value: bytes) -> datetime:
    text = json.loads(value)["last"]
    return datetime.fromisoformat(text) if text else _NEVER
