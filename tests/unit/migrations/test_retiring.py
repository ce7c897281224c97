"""Legacy code goes in two quiet periods and an acknowledgement, and never while it still answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crossfade.migrations.controller import LOOK
from crossfade.migrations.hits import History, Reported
from crossfade.migrations.operating import Act
from crossfade.migrations.retirements import Asked, Retirements
from crossfade.migrations.retiring import deletion, judge_retirement
from crossfade.shim.errors import StageChangeRefusedError
from crossfade.shim.instances import Instance
from crossfade.shim.policies import Declared
from crossfade.shim.policy import Policy
from crossfade.shim.stages import Stage
from unit.migrations.seen import BEGAN, result
from unit.migrations.test_controller import World

WEEK = timedelta(days=7)
NOW = BEGAN + timedelta(days=8)
SEARCH = Declared(seam="web.search", domain="tool", policy=Policy(), place="tools.py:4")


def history(stage=Stage.BUS, *, since=BEGAN, silent=False, processes=1, acknowledged=""):
    reported = {f"p{number}": Reported(0, NOW, silent) for number in range(processes)}
    return History(
        seam="web.search",
        stage=stage,
        since=since,
        why="it came to bus",
        watched=NOW,
        processes=reported,
        acknowledged=acknowledged,
    )


def judged(found, stage=Stage.BUS, handlers=("new:search",)):
    return judge_retirement("web.search", stage, found, handlers=handlers, period=WEEK, now=NOW)


@pytest.mark.parametrize(
    ("found", "stage", "following"),
    [
        (history(), Stage.BUS, "retire"),
        (history(Stage.RETIRED), Stage.RETIRED, "acknowledge"),
        (history(Stage.RETIRED, acknowledged="ann"), Stage.RETIRED, "delete"),
    ],
)
def test_one_step_after_the_other(found, stage, following):
    """A quiet period at bus, one at retired, then somebody's word."""
    assert (judged(found, stage).next, judged(found, stage).holds) == (following, ())


@pytest.mark.parametrize(
    ("found", "stage", "handlers", "why"),
    [
        (history(), Stage.CANARY, ("h",), "it is at canary: legacy still answers"),
        (None, Stage.BUS, ("h",), "nobody has counted"),
        (history(), Stage.RETIRED, ("h",), "nobody has counted"),
        (
            history(since=NOW - timedelta(days=6)),
            Stage.BUS,
            ("h",),
            "quiet for 6 d 0 h of 7 d 0 h, since it came to bus",
        ),
        (history(silent=True), Stage.BUS, ("h",), "not heard of, killed or cut off: p0"),
        (history(processes=0), Stage.BUS, ("h",), "no living process declares it"),
        (history(), Stage.BUS, (), "no call was seen"),
    ],
)
def test_missing_data_holds(found, stage, handlers, why):
    """Each kind of not knowing is told as such."""
    assert why in "; ".join(judged(found, stage, handlers).holds)


@pytest.mark.parametrize("handlers", [{"self"}, {"self", "new:search"}])
def test_a_body_that_still_answers_is_never_listed(handlers):
    """Not even beside another handler: some worker runs it."""
    found = deletion(SEARCH, handlers)
    assert found.what.startswith("delete nothing: the body itself answers on the bus")
    assert 'search = shim.remote("web.search", signature=...)' in found.what


def test_a_body_that_another_handler_replaced_is():
    """By file and line."""
    found = deletion(SEARCH, {"new:search"})
    assert (found.place, found.what.partition(".")[0]) == ("tools.py:4", "the body: new:search answers")


def test_a_route_whose_service_still_answers_is_not_listed():
    """Behind `worker --http` the service is only asked by another."""
    route = Declared(seam="http.reports", domain="http", policy=Policy(), place="-")
    assert "delete nothing" in deletion(route, {"crossfade.proxy.http_handler:ToService"}).what
    found = deletion(route, {"new:reports"}, route="routes.yaml:9")
    assert (found.place, "new:reports answers" in found.what) == ("routes.yaml:9", True)


# -- as it is typed ----------------------------------------------------------------------------------------------


@pytest.fixture
async def world(bus, traffic):
    await traffic.declare()
    world = World(bus, traffic)
    await world.apply()
    return world


async def typed(world, *, period=timedelta(0), check=False, acknowledge=False):
    traffic = world.traffic
    asked = Asked(seam="web.search", period=period, check=check, acknowledge=acknowledge, act=Act(actor="ann"))
    return await Retirements(world.bus, traffic.subjects, traffic.policies).carry_out(asked)


async def lives(world, hits=0):
    instance = Instance(
        instance="p1", role="caller", seen=world.bus.now(), seams={"web.search": 0}, legacy_hits={"web.search": hits}
    )
    await world.traffic.policies.instances.report(instance)


async def test_a_seam_is_led_out_step_by_step(world):
    """Refused before bus; retired; acknowledged; and only then something can be deleted."""
    with pytest.raises(StageChangeRefusedError, match="at legacy, too early: it is at legacy"):
        await typed(world)
    await world.traffic.move("bus")
    await lives(world)
    await world.tick(result(), times=LOOK)
    with pytest.raises(StageChangeRefusedError, match="too early: quiet for 0 min of 7 d 0 h"):
        await typed(world, period=WEEK)
    said = (await typed(world, check=True)).lines(period="40d")
    assert said[1] == "  crossfade migrate retire web.search --period 40d"
    assert (await typed(world)).did.startswith("bus -> retired (revision 2)")
    assert await world.tick(result(), times=LOOK) == (Stage.RETIRED, "retired")
    said = (await typed(world)).lines(period="40d")
    assert said[1] == "  crossfade migrate retire web.search --period 40d --acknowledge"
    done = await typed(world, acknowledge=True)
    assert "the body: new:search answers" in done.lines(period="40d")[1]
    assert (await typed(world)).to_json()["next"] == "delete"


async def test_the_quiet_begins_with_the_stage(world):
    """Not with the next look at hits, seconds later: one that falls between would be nobody's."""
    await lives(world)
    await world.tick(times=2)
    await world.traffic.move("bus")
    await world.tick()
    await lives(world, hits=1)
    await world.tick(times=LOOK)
    found = await typed(world, check=True, period=WEEK)
    assert [(build.name, build.hits) for build in found.retirement.builds] == [("", 1)]


@pytest.mark.parametrize("stage", ["bus", "retired"])
async def test_a_hit_since_the_last_look_is_seen_by_who_decides(world, stage):
    """The controller looks every few seconds, and a person may decide between two looks: no hit falls between."""
    await world.traffic.move(stage)
    await lives(world)
    await world.tick(result(), times=LOOK)
    await lives(world, hits=1)
    found = await typed(world, check=True, period=timedelta(milliseconds=1))
    assert "the legacy code ran in p1 of unknown build (1x)" in found.retirement.holds[0]
    with pytest.raises(StageChangeRefusedError, match="too early"):
        await typed(world, period=timedelta(seconds=5), acknowledge=True)


async def test_a_hit_at_retired_takes_the_acknowledgement_back(world):
    """The tripwire was touched: somebody needs the code."""
    await world.traffic.move("retired")
    await lives(world)
    await world.tick(result(), times=LOOK)
    await typed(world, acknowledge=True)
    await lives(world, hits=1)
    await world.tick(times=LOOK)
    found = await typed(world, check=True, period=WEEK)
    assert found.retirement.next == "acknowledge"
    assert "the legacy code ran in p1 of unknown build (1x)" in found.retirement.holds[0]
