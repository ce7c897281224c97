"""Evidence of real calls on a real server: of those that no worker takes, and of which build took the others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.controller import Controller
from crossfade.migrations.gathering import Gatherer
from crossfade.migrations.ruling import live_of
from crossfade.shim import connection, correlate, current_call, tool
from crossfade.shim.config import Config
from crossfade.shim.standing import standings
from integration.shim import kit

PLAYBOOK = """
seams: [web.counted]
steps:
  - {to: canary 100%, gate: {hold: 1m}, abort: {errors: "> 5%"}}
  - to: bus
"""


@pytest.fixture
def join(prefix, nats_server):
    """Connects this process as one of a build; the one before leaves."""

    def join(build=""):
        leave()
        return connection.connect(nats_server.url, config=Config(prefix=prefix, build=build), required=True)

    def leave():
        if connection._current is not None:
            connection._current.close()

    yield join
    leave()


def declare(**options):
    @tool("web.counted", effects="none", **{"timeout": 0.3, **options})
    async def counted(n: int) -> str:
        return "bus" if current_call() else "body"

    return counted


async def gathered(runtime):
    """The evidence of the seam now, and which live policy it is of."""
    standing = next(iter(await standings(runtime.policies, runtime.bus)))
    return (await Gatherer(runtime.bus, runtime.subjects).gather("web.counted", "tool", live_of(standing))).evidence


def test_a_canary_whose_every_call_falls_back_is_taken_back(join):
    """No worker is there, so no result says anything: only callers know, and legacy answers all of them."""
    counted = declare(stage="legacy")
    joined = join()
    runtime = joined.runtime
    applied = Applied(name="dead", text=PLAYBOOK, actor="ann", applied=datetime.now(UTC).isoformat())
    controller = Controller(runtime.bus, runtime.subjects, instance="one")

    async def to_canary():
        await Migrations(runtime.bus).apply(applied)
        while (view := controller.views.get("web.counted")) is None or view.live.stage != "canary":
            await controller.tick()

    async def call(n):
        with correlate(user=f"user {n}"):
            return await counted(n)

    async def calls():
        return await asyncio.gather(*map(call, range(40)))

    kit.on_loop(joined, to_canary())
    kit.until(lambda: runtime.policy("web.counted", counted.__crossfade_seam__.policy).percent == 100)
    assert set(asyncio.run(calls())) == {"body"}

    async def taken_back():
        while (view := controller.views["web.counted"]).progress.status != "rolled-back":
            assert view.progress.status == "holding", "a gate that asks for nothing but time let it on"
            await asyncio.sleep(0.05)
            await controller.tick()
        return view

    view = kit.on_loop(joined, taken_back())
    assert "errors 100 % of 40 calls" in view.progress.reason
    assert dict(view.gathered.evidence.unanswered) == {"unknown:deadline": 40}


@pytest.mark.parametrize("stage", ["bus", "shadow"])
def test_what_a_handler_says_names_its_build(join, tmp_path, stage):
    """Results and comparisons of one build are evidence, until the next one is deployed."""
    counted = declare(stage=stage, timeout=10)
    for build in ("2026.1", "2026.2"):
        joined = join(build)
        with kit.Workers(tmp_path / "spool") as workers:
            workers.start(joined, counted)

            def proven(joined=joined, build=build):
                asyncio.run(counted(1))
                found = kit.on_loop(joined, gathered(joined.runtime))
                return found if found.build == build and found.paths[stage].calls else None

            found = kit.until(proven)
    assert set(found.builds) == {"2026.1", "2026.2"}
    assert found.anew is not None
