"""Schedules over a real broker, with a clock of the test's own, and a short one by the broker's."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.adapters.triggers.cron import MOST, Times
from crossfade.adapters.triggers.schedule import Schedule, Ticker
from plugins.nats import until

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """The time is what the test says."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def due(world):
    """When each fact was due, in the order they were published."""
    return [(await world.data(fact))["due"] for fact in await world.facts("schedule.fired")]


def ticker(world, clock, **settings):
    times = Times(**{"cron": "*/10 * * * *", **settings.pop("times", {})})
    return Ticker(Schedule(times=times, **settings), world.intake("nightly"), clock=clock)


async def test_it_fires_when_it_is_due_and_once(world, clock, counts):
    """Nothing at the first look, one fact at each due time however often it is looked, and the pause in between."""
    ticking = ticker(world, clock, tenant="acme")

    assert await ticking.tick() == 30.0  # no sleep is longer
    clock.now = NOON + timedelta(minutes=9, seconds=55)
    assert await ticking.tick() == 5.0
    for _ in range(3):
        clock.now = NOON + timedelta(minutes=10, seconds=1)
        await ticking.tick()

    (fact,) = await world.facts("schedule.fired", tenant="acme")
    assert (fact.time, fact.subject) == (NOON + timedelta(minutes=10), "nightly")
    assert await world.data(fact) == {"schedule": "nightly", "due": "2026-06-01T12:10:00+00:00", "late": 1.0}
    assert counts.get("trigger-duplicate") == 0  # noted, not left to what the bus remembers for ten minutes


async def test_two_processes_fire_once(world, clock, counts):
    """At the same moment or one long after the other: every due time is one fact."""
    one, other = ticker(world, clock), ticker(world, clock)
    await one.tick()
    for minutes in (10, 20, 30):
        clock.now = NOON + timedelta(minutes=minutes)
        await asyncio.gather(one.tick(), other.tick())
    clock.now = NOON + timedelta(minutes=40)
    await one.tick()
    clock.now += timedelta(minutes=5)
    await other.tick()

    assert [text[11:16] for text in await due(world)] == ["12:10", "12:20", "12:30", "12:40"]


@pytest.mark.parametrize(
    ("policy", "fired"),
    [("none", []), ("last", ["15:00"]), ("all", [f"{n // 6}:{n % 6}0" for n in range(73, 91)])],
)
async def test_what_was_missed_is_caught_up_with_by_policy(world, clock, counts, policy, fired):
    """After three hours without a process: nothing, the last one, or each; what does not fire is counted."""
    await ticker(world, clock, catch_up=policy).tick()
    clock.now = NOON + timedelta(hours=3, minutes=5)

    await ticker(world, clock, catch_up=policy).tick()

    assert [text[11:16] for text in await due(world)] == fired
    assert counts.get("schedule-missed", seam="nightly") == 18 - len(fired)


async def test_catching_up_is_bounded(world, clock, counts):
    """A schedule of every second that slept for a week fires a hundred times, not 600,000."""
    await ticker(world, clock, catch_up="all", times={"cron": "* * * * * *"}).tick()
    clock.now = NOON + timedelta(days=7)

    # The last thirty seconds are on time, so they always fire; what is older is bounded.
    await ticker(world, clock, catch_up="all", times={"cron": "* * * * * *"}).tick()

    assert len(await due(world)) == MOST + 1


async def test_a_process_that_dies_after_firing_fires_no_second_time(world, clock, monkeypatch):
    """Killed between the fact and the note of it: the next process publishes the same event, a duplicate."""
    ticking = ticker(world, clock)
    await ticking.tick()
    clock.now = NOON + timedelta(minutes=10)

    async def die(*_args, **_kwargs):
        raise RuntimeError("killed")

    monkeypatch.setattr(ticking._state, "update", die)
    with pytest.raises(RuntimeError):
        await ticking.tick()
    await ticker(world, clock).tick()

    assert len(await due(world)) == 1


async def test_a_single_time_fires_once_in_its_life(world, clock):
    """Also when it was past at the first start, unless what was missed is not wanted."""
    moment = NOON - timedelta(hours=1)
    for _ in range(2):
        assert await ticker(world, clock, times={"cron": None, "at": moment}).tick() is None

    assert await due(world) == [moment.isoformat()]


async def test_a_real_schedule_by_the_brokers_clock(world):
    """Every second means every second, until it is stopped."""
    ticking = Ticker(Schedule(times=Times(cron="* * * * * *")), world.intake("often"))
    async with world.running(ticking) as where:
        assert where["often"] == "* * * * * * UTC"
        found = await until(lambda: _enough(world))

    seconds = [datetime.fromisoformat(text).timestamp() for text in found]
    assert [after - before for before, after in itertools.pairwise(seconds)] == [1.0] * (len(seconds) - 1)


async def _enough(world):
    found = await due(world)
    return found if len(found) >= 3 else None


async def test_a_broker_that_is_away_delays_and_loses_nothing(worlds, broker, counts):
    """What fell due meanwhile fires after its return, each time once."""
    world = await worlds(broker.url)
    ticking = Ticker(Schedule(times=Times(cron="* * * * * *"), catch_up="all"), world.intake("often"))
    async with world.running(ticking):
        await until(lambda: _enough(world))
        broker.stop()
        await until(lambda: counts.get("schedule-delayed", seam="often"))
        broker.start()
        before = datetime.now(UTC)
        found = await until(lambda: _past(world, before), 20)

    seconds = [datetime.fromisoformat(text).timestamp() for text in found]
    assert [after - before for before, after in itertools.pairwise(seconds)] == [1.0] * (len(seconds) - 1)


async def _past(world, moment):
    found = await due(world) if world.bus.connected else []
    return found if found and datetime.fromisoformat(found[-1]) > moment else None
