"""The broker's time: measured, with a bound that holds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.adapters import _clock as clocks

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
async def test_a_machine_whose_clock_is_wrong(bus, monkeypatch, command, event, shift):
    """With our clock an hour off, now is still the broker's time within the error it states."""

    wall = time.time
    monkeypatch.setattr(clocks.time, "time", lambda: wall() + shift.total_seconds())
    await bus._clock.measure()
    before = bus.now() - bus.clock_error
    await bus.publish(command, event())
    after = bus.now() + bus.clock_error
    stored = (await bus.last(command)).time
    assert before <= stored <= after
    assert abs(bus.now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert timedelta(0) < bus.clock_error < timedelta(milliseconds=200)


async def test_measured_again_after_a_reconnect(own_bus, server, hooks):
    """A server that comes back may be another machine: the offset is measured again."""
    from plugins.nats import until

    own_bus._clock._last = None
    assert own_bus.clock_error > timedelta(days=1)
    server.restart()
    await until(lambda: own_bus.clock_error < timedelta(seconds=1))


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
async def test_a_clock_that_is_stepped(bus, monkeypatch, shift):
    """Now goes on as before; its error says that something happened, until it is measured again."""
    before, wall = bus.now(), time.time
    monkeypatch.setattr(clocks.time, "time", lambda: wall() + shift.total_seconds())
    assert timedelta(0) <= bus.now() - before < timedelta(seconds=5)
    assert bus.clock_error > timedelta(minutes=59)
    await bus.check_clock()
    assert bus.clock_error < timedelta(milliseconds=200)
    assert timedelta(0) <= bus.now() - before < timedelta(seconds=5)


async def test_a_machine_that_slept(bus, monkeypatch):
    """The monotonic clock stood still for an hour: nobody may rely on now, and one measurement mends it."""
    before, wall, monotonic = bus.now(), time.time, time.monotonic
    monkeypatch.setattr(clocks.time, "monotonic", lambda: monotonic() - 3600)
    monkeypatch.setattr(clocks.time, "time", wall)
    assert bus.clock_error > timedelta(minutes=59)
    await bus.check_clock()
    assert bus.clock_error < timedelta(milliseconds=200)
    assert timedelta(0) <= bus.now() - before < timedelta(seconds=5)
