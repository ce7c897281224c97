"""The broker's time: measured, with a bound that holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crossfade.adapters.nats import _clock as clocks

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
async def test_a_machine_whose_clock_is_wrong(bus, monkeypatch, command, event, shift):
    """With our clock an hour off, now is still the broker's time within the error it states."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + shift

    monkeypatch.setattr(clocks, "datetime", Shifted)
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

    own_bus._clock.error = timedelta.max
    server.restart()
    await until(lambda: own_bus.clock_error < timedelta(seconds=1))
