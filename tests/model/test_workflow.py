"""Engines that die at every operation, against the reducer that never does: same states, same events, each once."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossfade.workflows import Engine
from crossfade.workflows.inputs import Answered, Arrived, Fired, Signalled, Started
from crossfade.workflows.reducer import instance_id, reduce
from crossfade.workflows.store import Store
from crossfade.workflows.workflow import Workflow, Workflows, registry
from model.workflow_bus import Crash, World

ID = instance_id("model.trip", "t1")
WORDS = ("approve", "reject", "cancel")


def trip() -> Workflow:
    """Every kind of step: two bookings side by side, one unsafe and undone, a person or a time, an event, an end."""
    registry.clear()
    flow = Workflow("model.trip", on="trip.asked", key="data.trip")

    @flow.tool("look.up", effects="none", attempts=3, backoff=5, timeout=60)
    def offer(event):
        return {"to": event["to"]}

    @flow.tool("book.seat", timeout=60, attempts=2, backoff=5)
    def seat(event):
        return {"to": event["to"]}

    @flow.undo("seat", tool="free.seat", timeout=60, attempts=2, backoff=5)
    def free(seat):
        return {"seat": seat}

    @flow.approval(timeout=300)
    def approved(offer):
        return {"offer": offer}

    @flow.timer()
    def patience(offer):
        return 200

    @flow.emit("trip.decided", join="any")
    def decided(approved, patience):
        return {"approved": approved is not None}

    @flow.wait("trip.paid", timeout=600, if_fails={"late": True})
    def paid(seat, decided):
        return None

    @flow.wait("trip.paid", needs=["paid"], timeout=600)
    def paid_rest():
        return None

    @flow.result
    def told(paid, paid_rest, seat):
        return [paid, paid_rest, seat]

    registry.clear()
    return flow


class Machine(RuleBasedStateMachine):
    """Inputs reach engines that may die; each input is delivered again until it is taken, or given up."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.workflows = Workflows()
        flow = trip()
        self.workflows.add(flow)
        self.definition = flow.definition
        self.run(self.world.bus.open())
        self.engines = [self.engine(0), self.engine(1)]
        self.model: Any = None
        self.sent: list[dict[str, Any]] = []
        self.inputs: list[Any] = []
        self.numbers = 0

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def engine(self, at: int) -> Engine:
        async def make() -> Engine:
            return Engine(self.world.runtime(f"engine{at}"), self.workflows)

        return self.run(make())

    # -- what happens ------------------------------------------------------------------------------------------

    fates: ClassVar = {
        "who": st.integers(0, 1),
        "after": st.integers(-1, 12),
        "moment": st.sampled_from(["before", "after"]),
        "again": st.booleans(),
    }

    @initialize(early=st.integers(0, 2), **fates)
    def start(self, early, who, after, moment, again) -> None:
        """The event that starts it, perhaps after some that wait for nobody yet."""
        for _ in range(early):
            self.event_comes(who=who, after=after, moment=moment, again=again)
        kept = self.run(Store(self.world.bus).early(ID))
        event = {"id": "e0", "type": "trip.asked", "run": "r", "user": None, "data": {"trip": "t1", "to": "Rome"}}
        started = Started(event=event, key="t1", correlation={"correlationid": "r"})
        self.give(started, who, after, moment, again=True)
        for found in kept:
            self.apply_to_model(Arrived(event=found))

    @rule(step=st.sampled_from(["offer", "seat"]), kind=st.sampled_from(["value", "error", "unknown"]), **fates)
    def call_ends(self, step, kind, **fate):
        undone = self.model.undos.get(step)
        state = undone if undone is not None else self.model.steps[step]
        if state.callid:
            error = {} if kind == "value" else {"type": kind, "message": "no"}
            self.give(Answered(callid=state.callid, kind=kind, value=state.callid[:4], error=error), **fate)

    @rule(**fates)
    def event_comes(self, **fate):
        self.numbers += 1
        event = {"id": f"p{self.numbers}", "type": "trip.paid", "run": "r", "data": {"n": self.numbers}}
        self.give(Arrived(event=event), **fate)

    @rule(word=st.sampled_from(WORDS), **fates)
    def person_speaks(self, word, **fate):
        self.numbers += 1
        self.give(Signalled(id=f"s{self.numbers}", action=word, step="approved", by="ann"), **fate)

    @rule(seconds=st.sampled_from([1, 6, 40, 150, 700]), **fates)
    def time_passes(self, seconds, **fate):
        self.world.fate.now += timedelta(seconds=seconds)
        self.give(Fired(), **fate)

    @precondition(lambda self: self.inputs)
    @rule(data=st.data(), **fates)
    def old_input_comes_again(self, data, **fate):
        self.give(data.draw(st.sampled_from(self.inputs)), **fate)

    @rule(who=st.integers(0, 1))
    def engine_rests(self, who):
        self.run(self.engines[who]._tidy(ID))

    @rule(who=st.integers(0, 1))
    def engine_starts_anew(self, who):
        self.engines[who] = self.engine(who)
        self.run(self.engines[who].recover())

    @rule(data=st.data())
    def two_at_once(self, data):
        """Both engines take an input at the same time; either order is right."""
        self.numbers += 2
        events = [
            {"id": f"p{number}", "type": "trip.paid", "run": "r", "data": {"n": number}}
            for number in (self.numbers - 1, self.numbers)
        ]
        inputs = [Arrived(event=event) for event in events]

        async def both() -> None:
            await asyncio.gather(*(engine.apply(ID, given) for engine, given in zip(self.engines, inputs, strict=True)))

        before = self.model
        self.run(both())
        stored = self.stored()
        for order in (inputs, inputs[::-1]):
            self.model, sent = before, len(self.sent)
            for given in order:
                self.apply_to_model(given)
            if stored is None or _comparable(self.model) == _comparable(stored):
                break
            del self.sent[sent:]
        self.inputs += inputs

    def give(self, given, who, after, moment, *, again):
        """Deliver; after a crash to a new engine, as long as it takes, or, without ``again``, never."""
        self.inputs.append(given)
        fate, revision = self.world.fate, self.model.revision if self.model else 0
        fate.countdown, fate.moment = after, moment
        taken = False
        while not taken:
            try:
                self.run(self.engines[who].apply(ID, given))
                taken = True
            except Crash:
                fate.countdown = -1
                self.engines[who] = self.engine(who)
                if not again:
                    break
        fate.countdown = -1
        stored = self.stored()
        if taken or (stored is not None and stored.revision > revision):
            self.apply_to_model(given)

    def apply_to_model(self, given):
        if self.model is not None or isinstance(given, Started):
            turn = reduce(self.definition, self.model, given, now=self.world.fate.now.timestamp())
            if not turn.ignored:
                self.model = turn.instance
                self.sent += turn.instance.outbox

    # -- what must hold ----------------------------------------------------------------------------------------

    def stored(self):
        return self.run(Store(self.world.bus).find(ID))

    @invariant()
    def the_state_is_the_models(self):
        if self.model is not None:
            assert _comparable(self.stored()) == _comparable(self.model)

    @invariant()
    def nothing_is_sent_that_the_model_does_not_send(self):
        assert set(self.on_bus()) <= {item.get("id") or item["callid"] for item in self.sent}

    def on_bus(self):
        async def collect():
            found = []
            for pattern in ("cfe.>", "cfui.>", "cf.>"):
                found += [stored async for stored in self.world.bus.read(pattern)]
            return found

        return [stored.event.id for stored in self.run(collect()) if not stored.subject.endswith((".own", ".result"))]

    def teardown(self):
        try:
            if self.model is not None:
                self.engines[0] = self.engine(0)
                self.run(self.engines[0].recover())
                ids = self.on_bus()
                assert len(ids) == len(set(ids)), "something is there twice"
                missing = [item for item in self.sent if (item.get("id") or item["callid"]) not in ids]
                assert [item for item in missing if item["do"] != "call"] == []
                # Only a call whose time was over before anybody could send it may be missing.
                assert all(item["deadline"] <= self.world.fate.now.timestamp() for item in missing)
        finally:
            for engine in self.engines:
                for handle in engine._resting.values():
                    handle.cancel()
            self.run(self.world.bus.close())
            self.loop.close()


def _comparable(instance):
    """Everything but whether the outbox is marked as sent."""
    found = json.loads(instance.encode())
    del found["outbox"]
    return found


class TestWorkflow(Machine.TestCase):
    """A few seconds of it."""

    settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestWorkflowForLong(Machine.TestCase):
    """Minutes of it."""

    settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
