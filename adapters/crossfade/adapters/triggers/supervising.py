"""Several triggers in one process: each goes on whatever becomes of its neighbours, and all end together.

A trigger that fails is started again after a pause that grows to ``_LONGEST``; the failure is logged, counted
(``trigger-failed``) and shown by the health page. What is wrong before it ever ran (an address that is taken, a
certificate that cannot be read) ends the whole process: somebody must act.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossfade.shim.ports import Bus

_FIRST: Final = 0.5  # seconds before a trigger that failed is started again
_LONGEST: Final = 30.0
_STEADY: Final = 60.0  # seconds without a failure after which the pause is short again

TriggerState = Literal["starting", "running", "failing"]
Status = Literal["serving", "starting", "failing", "no-bus", "stopping"]

_log = logging.getLogger("crossfade")


class Trigger(Protocol):
    """A way in. ``name`` is the user's for it, or where it listens."""

    @property
    def name(self) -> str:
        """What logs, counters and the health page call it."""
        ...

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Take in until ``stopping`` is set, then finish what is in hand and return.

        ``ready`` is told, at each start, where it listens or what it watches. Raises ``ConfigurationError`` for what
        cannot work as it is set.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggersHealth:
    """How the triggers of a process are, for ``HealthServer``. ``where``: each one's address, or what it watches."""

    status: Status
    triggers: dict[str, TriggerState]
    where: dict[str, str]
    failures: dict[str, str]
    connected: bool


class Triggers:
    """Runs triggers. Its coroutines run on the bus's loop.

    ``first`` must be ready before any other begins: what is started by facts, or the first of them would start nothing.
    """

    def __init__(self, triggers: Sequence[Trigger], bus: Bus, *, first: Sequence[Trigger] = ()) -> None:
        self._first = first
        self._prepared = asyncio.Event()
        self._triggers = [*first, *triggers]
        self._bus = bus
        self._stopping = asyncio.Event()
        self._states: dict[str, TriggerState] = {trigger.name: "starting" for trigger in self._triggers}
        self._failures: dict[str, str] = {}
        self.where: dict[str, str] = {}

    async def run(self, when_ready: Callable[[dict[str, str]], None]) -> None:
        """Run all of them until ``stop``; ``when_ready`` is told once where each of them listens.

        Raises ``ConfigurationError`` for one that could not begin.
        """
        if not self._first:
            self._prepared.set()
        keeping = [asyncio.create_task(self._keep(trigger, when_ready)) for trigger in self._triggers]
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    def stop(self) -> None:
        """Have every trigger finish what it has in hand; ``run`` returns then."""
        self._stopping.set()
        self._prepared.set()

    async def health(self) -> TriggersHealth:
        """How they are."""
        connected, states = self._bus.connected, set(self._states.values())
        status: Status = "failing" if "failing" in states else "starting" if "starting" in states else "serving"
        return TriggersHealth(
            status="stopping" if self._stopping.is_set() else status if connected else "no-bus",
            triggers=dict(self._states),
            where=dict(self.where),
            failures=dict(self._failures),
            connected=connected,
        )

    async def _keep(self, trigger: Trigger, when_ready: Callable[[dict[str, str]], None]) -> None:
        loop, pause = asyncio.get_running_loop(), _FIRST

        def ready(where: str) -> None:
            self._states[trigger.name] = "running"
            first = trigger.name not in self.where
            self.where[trigger.name] = where
            if all(one.name in self.where for one in self._first):
                self._prepared.set()
            if first and len(self.where) == len(self._triggers):
                when_ready(self.where)

        if trigger not in self._first:
            await self._prepared.wait()
        while not self._stopping.is_set():
            began = loop.time()
            try:
                await trigger.run(self._stopping, ready)
            except Exception as error:
                if isinstance(error, ConfigurationError) and trigger.name not in self.where:
                    raise
                self._failed(trigger.name, error)
                pause = _FIRST if loop.time() - began > _STEADY else min(pause * 2, _LONGEST)
                await self._stopped_within(pause)

    def _failed(self, name: str, error: Exception) -> None:
        self._states[name] = "failing"
        self._failures[name] = type(error).__name__
        report.count("trigger-failed", seam=name, reason=type(error).__name__)
        _log.error("trigger %s failed and is started again", name, exc_info=error)

    async def _stopped_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
