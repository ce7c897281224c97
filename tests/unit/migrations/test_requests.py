"""A proxy whose breaker opened asks for a rollback, and the controller hears it once, where it still matters."""

from __future__ import annotations

import pytest

from crossfade.migrations.operating import Act, Operating
from crossfade.shim.events import Event
from crossfade.shim.rollbacks import RollbackRequest, RollbackRequests
from crossfade.shim.stages import Stage
from unit.migrations.test_controller import PLAYBOOK, World


@pytest.fixture
async def world(bus, traffic):
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply()
    return world


async def ask(world, *, revision=None):
    """What the proxy's breaker does when it opens."""
    current = (await world.traffic.stage())[1] if revision is None else revision
    asking = RollbackRequests(world.bus, world.traffic.subjects, instance="proxy_1")
    counts = {"deadline": 4}
    await asking.ask(
        RollbackRequest(seam="web.search", revision=current, failing="calls", reason="deadline", counts=counts)
    )


async def test_a_request_takes_the_seam_back(world):
    """And says who asked, and why; afterwards it is of an old policy, and heard no more."""
    await world.to_canary()
    await ask(world)
    assert await world.tick() == (Stage.SHADOW, "rolled-back")
    progress = (await world.migrations.find("tools")).seams["web.search"]
    assert progress.reason == "proxy_1 asks for a rollback: the bus fails its calls (deadline)"
    await Operating(world.bus, world.traffic.policies).resume("web.search", Act(actor="ann"))
    assert await world.tick() == (Stage.SHADOW, "holding")


async def test_a_request_of_an_earlier_policy_is_not_heard(world):
    """It was late, or its proxy had not followed: the policy in force has not failed it."""
    await world.to_canary()
    await ask(world, revision=2)
    assert await world.tick() == (Stage.CANARY, "holding")


async def test_a_request_from_before_a_person_s_go_ahead_is_not_heard(world):
    """Whoever says advance knows of it, also when the controller that heard it is gone."""
    await world.to_canary()
    operating = Operating(world.bus, world.traffic.policies)
    await operating.pause("web.search", Act(actor="ann"))
    await ask(world)
    assert await world.tick() == (Stage.CANARY, "paused")
    await operating.resume("web.search", Act(actor="ann"))
    await world.controller._let_go()
    assert await world.tick(controller=world.another("two")) == (Stage.CANARY, "holding")
    await ask(world)
    assert await world.tick(times=2, controller=world.another("two")) == (Stage.SHADOW, "rolled-back")


async def test_a_playbook_may_say_to_ignore_them(world):
    """Then the proxy's own fallback is all there is."""
    await world.apply(f"breaker: ignore\n{PLAYBOOK}")
    await world.to_canary()
    await ask(world)
    assert await world.tick() == (Stage.CANARY, "holding")


async def test_what_is_no_request_is_counted_and_passed_over(world, counts):
    """One broken event takes nobody back, and hides none that follows."""
    await world.to_canary()
    broken = Event(type="seam.rollback.requested", source="urn:test", data=b'{"seam": "web.search"}')
    await world.bus.publish(world.traffic.subjects.fact(broken.type), broken)
    assert await world.tick() == (Stage.CANARY, "holding")
    assert counts.get("skipped", reason="request-KeyError") == 1
    await ask(world)
    assert await world.tick() == (Stage.SHADOW, "rolled-back")
