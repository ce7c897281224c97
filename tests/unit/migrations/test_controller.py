"""The controller moves seams on evidence, takes them back, and leaves alone what a person has moved."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.controller import Controller
from crossfade.migrations.gathering import Gatherer
from crossfade.migrations.operating import Act, Operating
from crossfade.migrations.overview import overview
from crossfade.shim import ConfigurationError
from crossfade.shim.errors import BusUnavailableError
from crossfade.shim.stages import Stage
from unit.migrations.seen import observed, result, verdict

PLAYBOOK = """
seams: [web.search]
steps:
  - {to: shadow, gate: {match: '>= 0.9', calls: 40}, abort: {match: '< 0.5'}}
  - {to: canary 10%, gate: {errors: '<= legacy + 5%'}, abort: {errors: '> legacy + 5%'}}
  - {to: bus, approve: anyone, abort: {errors: '> 10%'}}
"""


@pytest.fixture
async def world(bus, traffic):
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply()
    return world


class World:
    """One playbook, some controllers."""

    def __init__(self, bus, traffic):
        self.bus, self.traffic, self.migrations = bus, traffic, Migrations(bus)
        self.controller = self.another("one")

    def another(self, name):
        return Controller(self.bus, self.traffic.subjects, instance=name)

    async def apply(self, text=PLAYBOOK, name="tools"):
        applied = Applied(name=name, text=text, actor="ann", applied=datetime.now(UTC).isoformat())
        return await self.migrations.apply(applied)

    async def tick(self, *events, times=1, controller=None):
        """Tell what calls left, look, and say where the seam is."""
        await self.traffic.tell(*events)
        for _ in range(times):
            await (controller or self.controller).tick()
        progress = (await self.migrations.find("tools")).seams["web.search"]
        return (await self.traffic.stage())[0], progress.status

    async def approve(self, step):
        def say_yes(applied):
            return applied.with_progress(replace(applied.seams["web.search"], approved={step: "ann"}))

        await self.migrations.change("tools", say_yes)

    async def to_canary(self):
        await self.tick(times=2)
        assert await self.tick(*[verdict("match")] * 60) == (Stage.CANARY, "holding")


async def test_a_seam_goes_all_the_way_on_evidence(world):
    """One step at a time, each when its gate allows it, the last when somebody has said yes."""
    assert await world.tick() == (Stage.OBSERVE, "holding")
    assert await world.tick() == (Stage.SHADOW, "holding")
    assert await world.tick(*[verdict("match")] * 20) == (Stage.SHADOW, "holding")
    assert await world.tick(*[verdict("match")] * 40) == (Stage.CANARY, "holding")
    assert await world.tick(*[observed()] * 200, *[result()] * 30) == (Stage.CANARY, "holding")
    assert await world.tick(*[result()] * 200) == (Stage.CANARY, "awaiting-approval")

    await world.approve(3)
    assert await world.tick() == (Stage.BUS, "holding")
    assert await world.tick() == (Stage.BUS, "done")


async def test_a_regression_is_taken_back_and_stays_back(world):
    """By itself, saying why; and the gate that would be open again does not matter."""
    await world.to_canary()
    found = await world.tick(*[observed()] * 100, *[result()] * 20, *[result("error")] * 20)
    assert found == (Stage.SHADOW, "rolled-back")
    assert await world.tick(*[verdict("match")] * 60) == (Stage.SHADOW, "rolled-back")
    progress = (await world.migrations.find("tools")).seams["web.search"]
    assert "errors 50 % of 40 calls" in progress.reason


async def test_a_rollback_keeps_the_evidence_of_then(world, traffic):
    """That of now begins anew with it: who looks in the morning still sees what was found, with samples."""
    await world.tick(times=2)
    difference = {"path": "$.price", "kind": "changed", "legacy": "1", "bus": "2"}
    wrong = [verdict("mismatch", signature="price", differences=[difference], build="7")] * 40
    assert await world.tick(*wrong) == (Stage.OBSERVE, "rolled-back")
    seen = await overview(world.bus, traffic.subjects, traffic.policies)
    row = seen.seams[0].to_json()
    assert row["evidence"]["mismatches"] == []
    back = row["rolled_back"]
    assert (back["from"], back["build"], len(back["digest"])) == ("shadow", "7", 16)
    assert back["findings"][0]["text"].startswith("match 0 % of 40 compared")
    assert [(kind["signature"], kind["count"]) for kind in back["mismatches"]] == [("price", 40)]
    assert back["mismatches"][0]["samples"][0]["differences"] == [difference]
    await Operating(world.bus, traffic.policies).resume("web.search", Act(actor="ann"))
    assert (await overview(world.bus, traffic.subjects, traffic.policies)).seams[0].to_json()["rolled_back"] is None


async def test_a_decision_is_an_event_that_says_what_it_rests_on(world, traffic):
    """Actor, reason, findings and the digest of the evidence."""
    await world.to_canary()
    told = [
        json.loads(stored.event.data) async for stored in traffic.bus.read(traffic.subjects.fact("seam.stage.changed"))
    ]
    assert [(each["to"], each["actor"]) for each in told] == [
        ("observe", "controller"),
        ("shadow", "controller"),
        ("canary", "controller"),
    ]
    evidence = told[-1]["evidence"]
    assert (evidence["playbook"], evidence["ruling"], len(evidence["digest"])) == ("tools", "allow", 16)
    assert {finding["metric"]: finding["state"] for finding in evidence["findings"]} == {"calls": "met", "match": "met"}
    assert "match 100 % of 60 compared" in told[-1]["reason"]


async def test_what_a_person_moved_stays_where_it_is(world, traffic):
    """Until somebody resumes it."""
    await world.tick(times=2)
    await traffic.move("observe")
    assert await world.tick(*[verdict("match")] * 60) == (Stage.OBSERVE, "paused")


async def test_of_two_controllers_one_works_and_the_other_takes_over(world):
    """The second does nothing while the first leads, and goes on where it was."""
    second = world.another("two")
    await world.tick(times=2)
    assert not await second.tick()
    await world.tick(*[verdict("match")] * 30)
    await world.controller._let_go()
    assert await world.tick(*[verdict("match")] * 30, controller=second) == (Stage.CANARY, "holding")
    assert second.views["web.search"].gathered.evidence.compared == 60


async def test_a_controller_that_dies_between_move_and_memory_leaves_nothing_half_done(world, monkeypatch):
    """The next one finds the seam where it is."""
    await world.tick(times=2)

    async def die(applied):
        raise BusUnavailableError

    monkeypatch.setattr(world.controller._migrations, "save", die)
    with pytest.raises(BusUnavailableError):
        await world.tick(*[verdict("match")] * 60)
    assert (await world.traffic.stage())[0] is Stage.CANARY
    await world.controller._lease.release()
    assert await world.tick(controller=world.another("two")) == (Stage.CANARY, "holding")


async def test_a_move_that_is_refused_holds_with_the_reason(bus, traffic):
    """An unsafe seam on storage that forgets: it stays, and says what to do."""
    await traffic.declare(effects="unsafe")
    world = World(bus, traffic)
    await world.apply("seams: [web.search]\nsteps: [{to: canary 5%}]")
    assert await world.tick(times=3) == (Stage.SHADOW, "holding")
    progress = (await world.migrations.find("tools")).seams["web.search"]
    assert "sync_interval: always" in progress.reason


async def test_a_seam_is_one_playbooks(world):
    """A second one is told whose it is; a new text of the first keeps its progress."""
    with pytest.raises(ConfigurationError, match=r"playbook tools moves web\.search: end it first"):
        await world.apply(name="others")
    await world.tick(times=2)
    await world.apply(PLAYBOOK.replace("0.9", "0.8"))
    assert (await world.migrations.find("tools")).seams["web.search"].step == 1
    await world.migrations.end("tools")
    await world.apply(name="others")
    with pytest.raises(ConfigurationError, match="no playbook 'tools' is in force; there are: others"):
        await world.migrations.find("tools")


async def test_a_new_text_keeps_where_a_seam_is_and_what_was_approved(world):
    """Steps put in before do not make it stand elsewhere, and a yes was said to a stage and not to a number."""
    await world.to_canary()
    await world.approve(3)
    more = PLAYBOOK.replace("  - {to: canary 10%", "  - {to: canary 1%}\n  - {to: canary 10%")
    more = more.replace("  - {to: bus", "  - {to: canary 50%, approve: anyone}\n  - {to: bus")
    progress = (await world.apply(more)).seams["web.search"]
    assert (progress.step, progress.approved) == (3, {5: "ann"})
    assert await world.tick(*[observed()] * 200, *[result()] * 230) == (Stage.CANARY, "awaiting-approval")
    progress = (await world.apply(more.replace("bus, approve: anyone", "bus, approve: owner"))).seams["web.search"]
    assert (progress.step, progress.approved) == (3, {})


async def test_a_playbook_that_cannot_be_read_is_not_everybody_s(world, counts):
    """Another version wrote it: the others' seams are looked after, it is counted, and a new text mends it."""
    await world.to_canary()
    await world.bus.state("migrations").put("newer", b'{"text": "steps: 3"}')
    assert await world.tick(*[observed()] * 100, *[result("error")] * 40) == (Stage.SHADOW, "rolled-back")
    assert counts.get("controller-failed", reason="playbook-newer")


async def test_a_person_who_pauses_while_it_decides_is_heard(world, monkeypatch):
    """Its look began before they said so: it moves nothing any more."""
    await world.tick(times=2)
    keep = Gatherer.keep

    async def paused_meanwhile(gatherer, seam):
        await Operating(world.bus, world.traffic.policies).pause(seam, Act(actor="ann", reason="wait"))
        await keep(gatherer, seam)

    monkeypatch.setattr(Gatherer, "keep", paused_meanwhile)
    assert await world.tick(*[verdict("match")] * 60) == (Stage.SHADOW, "paused")


async def test_a_leader_that_was_held_up_does_not_act_on_what_it_knew(world, monkeypatch):
    """Stopped for longer than its lease between judging and moving, and another leads since."""
    await world.tick(times=2)
    keep, second = Gatherer.keep, world.another("two")

    async def held_up(gatherer, seam):
        await keep(gatherer, seam)
        await world.bus.state("leases").put(
            "controller", json.dumps({"holder": "two", "until": "2999-01-01T00:00:00+00:00"}).encode()
        )

    monkeypatch.setattr(Gatherer, "keep", held_up)
    assert (await world.tick(*[verdict("match")] * 60))[0] == Stage.SHADOW
    monkeypatch.undo()
    assert (await world.tick(controller=second))[0] == Stage.CANARY


async def test_nothing_is_decided_without_news(world):
    """No traffic: it holds, for as long as it takes."""
    await world.tick(times=2)
    assert await world.tick(times=30) == (Stage.SHADOW, "holding")
