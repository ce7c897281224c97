"""Who watches is told of changes, not of counts."""

from __future__ import annotations

from crossfade.migrations.overview import overview
from crossfade.migrations.watching import news
from unit.migrations.seen import verdict
from unit.migrations.test_controller import World


async def test_a_seam_is_news_once_and_whenever_it_changes(bus, traffic):
    """First sight, a stage, what holds it; not a number that grows."""
    await traffic.declare()
    world, seen = World(bus, traffic), {}
    await world.apply()

    async def told():
        views = (await overview(bus, traffic.subjects, traffic.policies)).seams
        found = news(seen, views)
        seen.update({sight.seam: sight for sight in found})
        return [(sight.stage, sight.step, sight.status, sight.holding) for sight in found]

    assert await told() == [("legacy", "0 of 4", "waiting", ())]
    assert await told() == []
    await world.tick(times=3)
    assert await told() == [("shadow", "2 of 4", "holding", ("calls missing", "match missing"))]
    await world.tick(*[verdict("match")] * 5)
    assert await told() == [("shadow", "2 of 4", "holding", ("calls missing", "match unmet"))]
    await world.tick(*[verdict("match")] * 5)
    assert await told() == []
    await traffic.move("observe")
    assert await told() == [("observe", "1 of 4", "paused", ())]
