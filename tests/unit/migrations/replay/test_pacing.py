"""When the next call begins."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.migrations.replay.pacing import Pace, Pacer, parse_speed
from crossfade.shim.errors import ConfigurationError


@pytest.mark.parametrize(
    ("pace", "pause"),
    [
        (Pace(), 0.0),
        (Pace(factor=1), 60.0),
        (Pace(factor=10), 6.0),
        (Pace(factor=0.5), 120.0),
        (Pace(factor=1, max_gap=5), 5.0),
        (Pace(factor=2, max_gap=5), 2.5),
        (Pace(rate=4), 0.25),
        (Pace(factor=1000, rate=4), 0.25),
    ],
)
def test_a_pause_is_kept_quickened_cut_and_capped(pace, pause):
    """After a recorded minute."""
    assert pace.pause(60.0) == pause


def test_clocks_that_went_back_are_no_pause():
    """Two processes' clocks may disagree about what came first."""
    assert Pace(factor=1).pause(-5.0) == 0.0


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("1x", 1.0), ("2.5x", 2.5), ("10", 10.0)])
def test_a_speed_is_read(text, speed):
    """As it is written in the help."""
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "fast", "0x", "-1x", "1xx", "nan"])
def test_no_speed_is_refused(text):
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match="max, or 1x"):
        parse_speed(text)


async def test_what_was_late_is_made_up_for():
    """A call that held things up costs its own time, not that of all that follow."""
    loop = asyncio.get_running_loop()
    pacer = Pacer(Pace(factor=1))
    began = loop.time()
    await pacer.wait(100.0)
    await asyncio.sleep(0.1)
    await pacer.wait(100.05)
    await pacer.wait(100.12)

    assert 0.1 <= loop.time() - began < 0.2 + 5  # not 0.1 + 0.05 + 0.07 where nobody disturbs; never before it is due
    assert loop.time() - began >= 0.12
