"""A gate that asks for a replay opens when one has passed, and not long ago."""

from __future__ import annotations

import json

import pytest

from crossfade.migrations.replays import BUCKET, Replays
from crossfade.shim.stages import Stage
from unit.migrations.test_controller import World

PLAYBOOK = """
seams: [web.search]
steps:
  - {to: shadow, gate: {replay: {within: 1h, build: "1.5"}}}
  - {to: canary 10%}
"""


async def test_a_gate_waits_for_a_replay_of_its_build(bus, traffic):
    """Whatever the live traffic says; it tells of the one that passed with older code."""
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply(PLAYBOOK)
    passed = {"digest": "d", "compared": 40, "handler": "self"}

    async def said(*, times=1):
        at = await world.tick(times=times)
        return (*at, (await world.migrations.find("tools")).seams["web.search"].reason)

    assert await said(times=4) == (Stage.SHADOW, "holding", "no replay has passed")
    await Replays(bus).passed("web.search", **passed, build="1.4")
    assert "it proves nothing of build 1.5" in (await said())[2]
    await Replays(bus).passed("web.search", **passed, build="1.5")
    assert (await world.tick())[0] is Stage.CANARY


async def test_of_a_pass_from_before_builds_were_told_none_is_known(bus):
    """What stood in its place was the handler's name."""
    old = {"passed": "2026-01-01T00:00:00+00:00", "digest": "d", "compared": 3, "build": "shop:price"}
    await bus.state(BUCKET).put("web.search", json.dumps(old).encode())
    assert (await Replays(bus).last("web.search")).build == "unknown"


@pytest.mark.parametrize(
    "value", [b'{"compared": 0, "passed": "2026-01-01T00:00:00+00:00"}', b"{}", b"nonsense", b'{"compared": "x"}']
)
async def test_a_replay_of_nothing_has_not_passed(bus, value):
    """Nor has one that cannot be read."""
    await bus.state(BUCKET).put("web.search", value)
    assert await Replays(bus).last("web.search") is None
