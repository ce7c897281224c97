"""Who is there: every connected process reports itself, and which revision of each policy it has applied."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from .errors import BusRefusedError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .ports import Bus, Entry

BUCKET: Final = "instances"
REPORT_EVERY: Final = 3.0  # seconds; a change is reported at once as well
ALIVE: Final = timedelta(seconds=10)
"""A process that has not reported for so long is taken for gone: three reports missed."""

_FORGET: Final = timedelta(hours=1)


class Served(Protocol):
    """What a data plane has answered since it began; asked in another thread than it is counted in."""

    def counts(self) -> Mapping[str, int]:
        """See ``Instance.requests``."""
        ...

    def seconds(self) -> Mapping[str, Mapping[str, float]]:
        """See ``Instance.seconds``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One process. ``seams`` maps each seam it declares to the revision applied; ``seen`` is the broker's time.

    ``remotes`` are those of them that have no body here (``shim.remote``). ``legacy_hits`` counts, per seam, the calls
    that the legacy body served although commands were the rule; it only grows while the process lives. ``breakers``
    are the seams for which it does not ask the bus now: ``open``, or ``half-open`` while it tries. ``ended``: this is
    the last report of a process that has ended and had hits to tell. ``build``: of which build of the application it
    is, as somebody named it; empty when nobody did. ``requests`` and ``seconds`` are a data plane's: how many it has
    answered, by ``seam path class``, and by path how many took at most so many seconds, with their ``sum``.
    ``workflows`` are an engine's: the versions of each that it runs.
    """

    instance: str
    role: str
    seen: datetime
    seams: Mapping[str, int] = field(default_factory=dict[str, int])
    remotes: Sequence[str] = ()
    legacy_hits: Mapping[str, int] = field(default_factory=dict[str, int])
    breakers: Mapping[str, str] = field(default_factory=dict[str, str])
    ended: bool = False
    build: str = ""
    requests: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, "Mapping[str, float]"])
    workflows: Mapping[str, Sequence[int]] = field(default_factory=dict[str, "Sequence[int]"])

    def encode(self) -> bytes:
        """The value of the bucket ``instances``."""
        return json.dumps(
            {
                "role": self.role,
                "seen": self.seen.isoformat(),
                "seams": dict(self.seams),
                "remotes": list(self.remotes),
                "legacy_hits": dict(self.legacy_hits),
                "breakers": dict(self.breakers),
                "ended": self.ended,
                "build": self.build,
                "requests": dict(self.requests),
                "seconds": {path: dict(counted) for path, counted in self.seconds.items()},
                "workflows": {name: list(versions) for name, versions in self.workflows.items()},
            }
        ).encode()


def build_name(build: str) -> str:
    """``build`` as people read it."""
    return f"build {build}" if build else "unknown build"


class Instances:
    """Reads and writes the reports over a connected bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state = bus.state(BUCKET)

    async def report(self, instance: Instance) -> None:
        """Say that ``instance`` is alive."""
        await self._state.put(instance.instance, instance.encode())

    async def leave(self, last: Instance) -> None:
        """Say goodbye: nobody waits for this process any more. Its legacy hits stay for an hour, to be read."""
        if last.legacy_hits:
            await self._state.put(last.instance, replace(last, ended=True).encode())
        else:
            await self._state.delete(last.instance)

    async def live(self) -> list[Instance]:
        """Every process that has reported within ten seconds."""
        return [instance for instance in await self.known() if self.is_live(instance)]

    async def known(self) -> list[Instance]:
        """Every process that has reported within an hour and said no goodbye, or left hits; older ones are cleared."""
        found: list[Instance] = []
        for entry in await self._state.entries():
            instance = _read(entry)
            if self._bus.now() - instance.seen > _FORGET:
                await self._clear(entry.key)
            else:
                found.append(instance)
        return found

    async def _clear(self, key: str) -> None:
        try:
            await self._state.delete(key)
        except BusRefusedError:
            report.count("skipped", reason="may-not-clear")  # who only looks leaves it to who may

    def is_live(self, instance: Instance) -> bool:
        """Whether it has reported within ten seconds, and has not ended."""
        return not instance.ended and self._bus.now() - instance.seen <= ALIVE


def _read(entry: Entry) -> Instance:
    stored = json.loads(entry.value)
    return Instance(
        instance=entry.key,
        role=stored["role"],
        seen=datetime.fromisoformat(stored["seen"]),
        seams=stored["seams"],
        remotes=stored.get("remotes", ()),
        legacy_hits=stored.get("legacy_hits", {}),
        breakers=stored.get("breakers", {}),
        ended=stored.get("ended", False),
        build=stored.get("build", ""),
        requests=stored.get("requests", {}),
        seconds=stored.get("seconds", {}),
        workflows=stored.get("workflows", {}),
    )
