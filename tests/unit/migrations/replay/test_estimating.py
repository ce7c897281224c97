"""What a dry run says."""

from __future__ import annotations

import pytest

from crossfade import shim
from crossfade.migrations.replay.estimating import estimate
from crossfade.migrations.replay.pacing import Pace
from crossfade.migrations.replay.running import ReplayOptions
from crossfade.migrations.replay.selecting import Selection
from unit.migrations.replay.conftest import call


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 3.0), ({"concurrency": 1}, 12.0), ({"pace": Pace(factor=1)}, 60.0)]
)
async def test_nothing_runs_and_the_time_is_told(engine, recording, options, seconds):
    """By what the recorded calls took, shared by as many as run at once, or by the pauses between them."""

    @shim.tool("shop.price", effects="none")
    def price(item: str) -> int:
        raise AssertionError("it ran")

    calls = [call("shop.price", {"item": "tea"}, 3, at=at, seconds=6.0) for at in (0, 60)]
    calls.append(call("shop.price", {}, at=30, callid="none", unfit="sampled-out", outcome=None))
    replay = engine(*calls, **options)

    found = estimate(replay, recording, Selection(seams=("shop.price",)), ReplayOptions(**options))

    assert found.to_json() == {"seams": {"shop.price": {"calls": 3, "skipped": {"sampled-out": 1}}}, "seconds": seconds}
