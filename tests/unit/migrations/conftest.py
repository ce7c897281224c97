"""A bus in memory, and a seam on it whose traffic a test makes up."""

from __future__ import annotations

import pytest

from crossfade.adapters import memory
from crossfade.shim import hooks
from crossfade.shim.policies import Move, Policies
from crossfade.shim.policy import Policy
from crossfade.shim.ports import BusSettings
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects
from unit.migrations import seen


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture
async def bus(counts):
    bus = memory.MemoryBus(BusSettings(), counts, broker=memory.MemoryBroker())
    await bus.open()
    yield bus
    await bus.close()


@pytest.fixture
def traffic(bus):
    return Traffic(bus)


class Traffic:
    """``web.search`` on a bus, and what its calls leave there."""

    def __init__(self, bus):
        self.bus = bus
        self.subjects = Subjects()
        self.policies = Policies(bus, self.subjects)

    async def declare(self, name="web.search", effects="none"):
        def search(q: str) -> str:
            return q

        seam = Seam(name, search, domain="tool", policy=Policy(effects=effects), secret=frozenset())
        await self.policies.announce(seam, seam.policy)

    async def stage(self, name="web.search"):
        live = (await self.policies.live()).get(name)
        return (Stage(live.settings["stage"]), live.revision, live.actor) if live else (Stage.LEGACY, 0, "")

    async def move(self, stage, *, actor="ann", **settings):
        move = Move(target=Stage(stage), actor=actor, force=True, settings=settings)
        return await self.policies.set_stage("web.search", move, wait=0)

    async def tell(self, *events, revision=None, seam="web.search"):
        """Publish what calls left behind, under the revision in force unless one is named."""
        current = str((await self.stage(seam))[1] if revision is None else revision)
        for stored in events:
            event = seen.again(stored.event, policyrev=current)
            await self.bus.publish(self._subject(event, seam), event)

    def _subject(self, event, seam):
        if event.type == "seam.compared":
            return self.subjects.verdict(seam)
        if event.type.endswith("observed"):
            return self.subjects.observation(seam, shadow=False)
        return self.subjects.call("result", domain="tool", seam=seam, run="run", callid=event.id)
