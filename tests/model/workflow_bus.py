"""What an engine runs on in the stateful test: a bus at whose chosen operation it dies, and a clock that is set."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from crossfade.adapters.memory import MemoryBroker, MemoryBus
from crossfade.shim._calls import Calls
from crossfade.shim.claims import Nonces
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.routing import Pins
from crossfade.shim.subjects import Subjects


class Crash(BaseException):
    """The process died."""


class Mortal:
    """Forwards to ``inner``; the operation at which the countdown ends kills, before it happens or after."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("get", "create", "update", "put", "delete", "entries", "publish", "append", "last"):
            return found

        async def operation(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)  # others may come in between
            kills = self._fate.strikes()
            if kills == "before":
                raise Crash
            result = await found(*args, **kwargs)
            if kills == "after":
                raise Crash
            await asyncio.sleep(0)
            return result

        return operation

    def state(self, bucket: str) -> Mortal:
        return Mortal(self._inner.state(bucket), self._fate)

    def now(self) -> datetime:
        return self._fate.now

    @property
    def clock_error(self) -> timedelta:
        return timedelta(0)


class Fate:
    """When the process dies next, and what time it is."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.countdown = -1
        self.moment = ""

    def strikes(self) -> str:
        if self.countdown < 0:
            return ""
        self.countdown -= 1
        return self.moment if self.countdown < 0 else ""


class World:
    """A broker, and runtimes of processes on it."""

    def __init__(self) -> None:
        self.fate = Fate()
        self.bus = MemoryBus(BusSettings(), report, broker=MemoryBroker())
        self.subjects = Subjects("cf")

    def runtime(self, name: str) -> Any:
        """What an engine needs of a connection."""
        runtime = SimpleNamespace(
            bus=Mortal(self.bus, self.fate),
            subjects=self.subjects,
            instance=name,
            pins=Pins(),
            nonces=Nonces(),
            sure_of_time=True,
            policy=lambda _name, base: base,
            refuse_clear_secrets=lambda _data: None,
            run_workflows=lambda _versions: None,
            deadline=lambda seconds: self.fate.now + timedelta(seconds=seconds),
        )
        runtime.calls = Calls(runtime)
        return runtime
