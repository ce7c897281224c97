"""Real controllers that all believe they lead, that die at any await, beside people: one step at a time, with proof."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crossfade.adapters import memory
from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.controller import Controller
from crossfade.migrations.gathering import Gatherer, OutrunError
from crossfade.migrations.operating import Act, Operating
from crossfade.migrations.progress import CONTROLLER
from crossfade.migrations.ruling import live_of
from crossfade.shim.errors import BusAmbiguousError, BusError, StageChangeRefusedError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.stages import ORDER, Stage
from crossfade.shim.standing import standings
from unit.migrations.conftest import Traffic
from unit.migrations.seen import result, verdict

SEAM = "web.search"
CALLS = {"shadow": 4, "canary": 3}
PLAYBOOK = """
seams: [web.search]
steps:
  - {to: shadow, gate: {calls: 4}, abort: {match: '< 0.5'}}
  - {to: canary 10%, gate: {calls: 3}, abort: {errors: '> 50%'}}
  - {to: canary 50%, gate: {calls: 3}, abort: {errors: '> 50%'}}
  - {to: bus, approve: anyone, abort: {errors: '> 50%'}}
"""
PLACED = [Stage.LEGACY, Stage.OBSERVE, Stage.SHADOW, Stage.BUS]  # where people move it
_WORK = ("get", "create", "update", "put", "delete", "entries", "publish", "last")


class Fault:
    """Fails the call number ``at``, before or after it has worked; ``dies``: and every call from then on."""

    def __init__(self, at, *, after, dies):
        self._left, self._after, self._dies = at, after, dies

    @classmethod
    def none(cls):
        return cls(0, after=False, dies=False)

    async def around(self, call):
        await asyncio.sleep(0)  # the other one's turn
        self._left -= 1
        if self._left > 0 or (self._left < 0 and not self._dies):
            return await call()
        if self._left == 0 and self._after:
            await call()
        raise BusAmbiguousError("the test's fault")


class Overtaken(Fault):
    """Lets somebody do ``first`` before the call number ``at``; a look of the controller takes some thirty calls."""

    def __init__(self, at, first):
        super().__init__(0, after=False, dies=False)
        self._calls, self._at, self._first = 0, at, first

    async def around(self, call):
        self._calls += 1
        if self._calls == self._at:
            await self._first()
        return await call()


class Faulty:
    """A bus or a state of it, whose every call passes by a fault."""

    def __init__(self, real, fault):
        self._real, self._fault = real, fault

    def __getattr__(self, name):
        found = getattr(self._real, name)
        if name == "state":
            return lambda bucket: Faulty(found(bucket), self._fault)
        if name not in _WORK:
            return found
        return lambda *args, **kwargs: self._fault[0].around(lambda: found(*args, **kwargs))


class AlwaysLeads:
    """A lease that keeps nobody from anything: what it guards must hold without it."""

    async def held(self):
        return True


class Together(RuleBasedStateMachine):
    """Two controllers, a person, and calls that leave evidence, on one broker."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.told = Counter()  # (revision, what) -> events of calls
        self.handed_over = False  # a person has moved it, and nobody gave it back
        self.checked = 0  # moves that were looked at

    def do(self, work):
        return self.runner.run(work)

    def teardown(self):
        self.do(self.bus.close())
        self.runner.close()

    @initialize()
    def begin(self):
        async def begin():
            self.bus = memory.MemoryBus(BusSettings(), Counters(), broker=memory.MemoryBroker())
            await self.bus.open()
            self.traffic = Traffic(self.bus)
            self.operating = Operating(self.bus, self.traffic.policies)
            await self.traffic.declare()
            applied = Applied(name="p", text=PLAYBOOK, actor="ann", applied=datetime.now(UTC).isoformat())
            await Migrations(self.bus).apply(applied)
            self.faults = [[Fault.none()] for _ in range(2)]
            self.controllers = [self.controller(who) for who in range(2)]
            for _ in range(2):
                await self.controllers[0].tick()

        self.do(begin())

    def controller(self, who):
        made = Controller(Faulty(self.bus, self.faults[who]), self.traffic.subjects, instance=str(who))
        made._lease = AlwaysLeads()
        return made

    async def tick(self, who, fault):
        self.faults[who][0] = fault
        try:
            await self.controllers[who].tick()
        except (BusError, OutrunError):
            if fault._dies:
                self.controllers[who] = self.controller(who)
        self.faults[who][0] = Fault.none()

    faults_drawn = st.builds(Fault, st.integers(0, 30), after=st.booleans(), dies=st.booleans()) | st.builds(Fault.none)

    @rule(who=st.integers(0, 1), fault=faults_drawn)
    def one_looks(self, who, fault):
        self.do(self.tick(who, fault))

    @rule(first=faults_drawn, second=faults_drawn)
    def both_look_at_once(self, first, second):
        async def both():
            await asyncio.gather(self.tick(0, first), self.tick(1, second))

        self.do(both())

    @rule(at=st.integers(1, 30), by=st.sampled_from([*PLACED, "controller"]))
    def somebody_is_faster(self, at, by):
        """A controller has its proof, and while it works on it the other one, or a person, moves the seam."""

        async def race():
            await self.tell(4, good=True)
            if by == "controller":
                await self.tick(0, Overtaken(at, lambda: self.tick(1, Fault.none())))
            else:
                moved = []
                await self.tick(0, Overtaken(at, lambda: self.by_hand(by, moved)))
                await self.check()
                self.handed_over = self.handed_over or bool(moved)

        self.do(race())

    @rule()
    def all_is_well_for_a_while(self):
        async def ticks():
            for who in (0, 1, 0):
                await self.tick(who, Fault.none())

        self.do(ticks())

    @rule(n=st.sampled_from([1, 2, 4, 4]), good=st.sampled_from([True, True, False]))
    def calls(self, n, good):
        self.do(self.tell(n, good=good))

    async def tell(self, n, *, good):
        stage, revision, _ = await self.traffic.stage()
        if stage is Stage.SHADOW:
            await self.traffic.tell(*[verdict("match" if good else "mismatch")] * n)
            self.told[revision, "shadow"] += n
        elif ORDER.index(stage) > ORDER.index(Stage.SHADOW):
            await self.traffic.tell(*[result("value" if good else "error")] * n)
            self.told[revision, "bus"] += n

    async def by_hand(self, to, moved):
        if (await self.traffic.stage())[0] is not to:
            await self.traffic.move(to)
            moved.append(to)

    @rule(to=st.sampled_from(PLACED), meanwhile=st.booleans())
    def a_person_moves_it(self, to, meanwhile):
        async def move():
            moved = []
            quiet = self.tick(0, Fault.none()) if meanwhile else asyncio.sleep(0)
            await asyncio.gather(self.by_hand(to, moved), quiet)
            await self.check()
            self.handed_over = self.handed_over or bool(moved)

        self.do(move())

    @rule()
    def somebody_says_go_on(self):
        async def go_on():
            status = (await Migrations(self.bus).find("p")).seams[SEAM].status
            try:
                if status in ("paused", "rolled-back"):
                    await self.operating.resume(SEAM, Act(actor="ann"))
                    self.handed_over = False
                elif status == "awaiting-approval":
                    await self.operating.approve(SEAM, Act(actor="ann"))
            except StageChangeRefusedError:
                pass  # it had moved on

        self.do(go_on())

    async def check(self):
        """Every move that was made: its revision, its step, its proof."""
        filter_ = self.traffic.subjects.fact("seam.stage.changed")
        moves = [json.loads(stored.event.data) async for stored in self.bus.read(filter_)]
        for move in moves[self.checked :]:
            if move["actor"] != CONTROLLER:
                continue
            assert not self.handed_over, f"moved although a person had it: {move}"
            evidence = move["evidence"]
            assert evidence["revision"] == move["revision"] - 1, f"decided on a policy that was no more: {move}"
            was, now = ORDER.index(Stage(move["from"])), ORDER.index(Stage(move["to"]))
            before = move["revision"] - 1
            told = {"shadow": self.told[before, "shadow"], "canary": self.told[before, "bus"]}
            for finding in evidence["findings"]:
                if finding["metric"] == "calls":
                    assert finding["seen"] <= told[move["from"]], f"counted twice: {move}"
            if evidence["ruling"] == "rollback":
                assert now < was
            else:
                assert now in (was, was + 1)
                assert told.get(move["from"], 0) >= CALLS.get(move["from"], 0), f"without proof: {move}"
        assert len({move["revision"] for move in moves}) == len(moves)
        self.checked = len(moves)

    @invariant()
    def every_move_was_one_step_with_proof(self):
        if hasattr(self, "bus"):
            self.do(self.check())

    @invariant()
    def evidence_is_what_was_told(self):
        """Whoever takes over from the last checkpoint comes to the same count."""
        if not hasattr(self, "bus"):
            return

        async def count():
            (standing,) = await standings(self.traffic.policies, self.bus)
            live = live_of(standing)
            found = (await Gatherer(self.bus, self.traffic.subjects).gather(SEAM, "tool", live)).evidence
            assert found.compared == self.told[live.revision, "shadow"]
            assert found.paths["bus"].calls == self.told[live.revision, "bus"]

        self.do(count())


TestTogether = Together.TestCase
TestTogether.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
