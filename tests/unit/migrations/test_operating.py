"""What people may do to a seam under a playbook by other ways than the playbook's."""

from __future__ import annotations

import pytest

from crossfade.migrations.operating import check_not_led
from crossfade.shim.errors import StageChangeRefusedError
from crossfade.shim.policies import Move
from crossfade.shim.stages import Stage
from crossfade.shim.standing import standings
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
