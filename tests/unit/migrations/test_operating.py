"""What people may do to a seam under a playbook by other ways than the playbook's."""

from __future__ import annotations

import pytest

from crossfade.migrations.operating import Act, Operating, check_not_led
from crossfade.shim.errors import StageChangeRefusedError
from crossfade.shim.policies import Move
from crossfade.shim.stages import Stage
from crossfade.shim.standing import standings
from unit.migrations.seen import observed, result
from unit.migrations.test_controller import World


@pytest.fixture
async def world(bus, traffic):
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply()
    await world.to_canary()
    return world


async def checked(world, target, **more):
    (standing,) = await standings(world.traffic.policies, world.bus)
    await check_not_led(world.bus, standing, Move(target=target, actor="ann", **more))


@pytest.mark.parametrize(
    ("target", "settings"), [(Stage.BUS, {}), (Stage.LEGACY, {}), (Stage.CANARY, {"percent": 50.0})]
)
async def test_a_move_without_force_is_refused(world, target, settings):
    """Forward, back, or another share; it says whose the seam is, and what to say instead."""
    said = r"playbook tools moves web\.search \(applied by ann at .* now holding\): say `crossfade migrate"
    with pytest.raises(StageChangeRefusedError, match=said):
        await checked(world, target, settings=settings)


async def test_what_is_no_move_or_forced_or_of_nobody_s_playbook_passes(world):
    """A timeout may be changed, and a person may decide."""
    await checked(world, Stage.CANARY, settings={"timeout": 3.0, "percent": 10.0})
    await checked(world, Stage.LEGACY, force=True)
    await world.migrations.end("tools")
    await checked(world, Stage.LEGACY)


def operating(world):
    return Operating(world.bus, world.traffic.policies)


@pytest.mark.parametrize("to", [Stage.BUS, Stage.RETIRED])
async def test_a_rollback_never_goes_forward(world, to):
    """It is forced past whatever would hold it up, so a slip of the tongue would skip every gate."""
    with pytest.raises(StageChangeRefusedError, match=f"is at canary, so {to} is not back"):
        await operating(world).roll_back("web.search", Act(actor="ann"), to=to)
    assert (await world.traffic.stage())[0] is Stage.CANARY


async def test_a_rollback_to_where_it_stands_keeps_the_controller_off(world):
    """It stays, whatever its gate says, until somebody resumes it."""
    await operating(world).roll_back("web.search", Act(actor="ann"), to=Stage.CANARY)
    stage, status = await world.tick(*[observed()] * 200, *[result()] * 300)
    assert (stage, status in ("paused", "rolled-back")) == (Stage.CANARY, True)


async def test_a_retired_seam_is_not_rolled_back(world):
    """Its legacy code may be deleted: every call would fail. Who knows better says so with force."""
    for target in (Stage.BUS, Stage.RETIRED):
        await world.traffic.move(target)
    with pytest.raises(StageChangeRefusedError, match=r"crossfade stage set web\.search bus --force"):
        await operating(world).roll_back("web.search", Act(actor="ann"))
    assert (await world.traffic.stage())[0] is Stage.RETIRED
