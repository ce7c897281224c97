"""A gate that asks for a replay opens when one has passed, and not long ago."""

from __future__ import annotations

import pytest

from crossfade.migrations.replays import BUCKET, Replays
from crossfade.shim.stages import Stage
from unit.migrations.test_controller import World

PLAYBOOK = """
seams: [web.search]
steps:
  - {to: shadow, gate: {replay: 1h}}
  - {to: canary 10%}
"""


async def test_a_gate_waits_for_a_replay(bus, traffic):
    """Whatever the live traffic says."""
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply(PLAYBOOK)
    assert await world.tick(times=4) == (Stage.SHADOW, "holding")
    assert (await world.migrations.find("tools")).seams["web.search"].reason == "no replay has passed"
    await Replays(bus).passed("web.search", digest="d", compared=40, build="self")
    assert (await world.tick())[0] is Stage.CANARY


@pytest.mark.parametrize(
    "value", [b'{"compared": 0, "passed": "2026-01-01T00:00:00+00:00"}', b"{}", b"nonsense", b'{"compared": "x"}']
)
async def test_a_replay_of_nothing_has_not_passed(bus, value):
    """Nor has one that cannot be read."""
    await bus.state(BUCKET).put("web.search", value)
    assert await Replays(bus).last("web.search") is None
