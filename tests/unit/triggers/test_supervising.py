"""Several triggers in one process: one that fails harms no other, and all end together."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.adapters.triggers import Triggers, supervising
from crossfade.shim import hooks
from crossfade.shim.errors import ConfigurationError


class Bus:
    connected = True


class Fake:
    """Fails as often as it is told to, then runs until it is stopped."""

    def __init__(self, name, *, failures=0, error=None):
        self.name = name
        self.starts = 0
        self.running = asyncio.Event()
        self._failures = failures
        self._error = error or RuntimeError("broken")

    async def run(self, stopping, ready):
        self.starts += 1
        if self.starts <= self._failures:
            raise self._error
        ready(f"{self.name}://")
        self.running.set()
        await stopping.wait()


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    monkeypatch.setattr(supervising, "_FIRST", 0.01)
    return counters


async def test_one_that_fails_is_started_again_and_its_neighbour_goes_on(counts, caplog):
    """Counted and logged; ready is told once all of them are."""
    broken, steady = Fake("broken", failures=3), Fake("steady")
    triggers, told = Triggers([broken, steady], Bus()), []
    running = asyncio.create_task(triggers.run(told.append))

    await steady.running.wait()
    await broken.running.wait()
    health = await triggers.health()
    triggers.stop()
    await running

    assert (steady.starts, broken.starts) == (1, 4)
    assert told == [{"steady": "steady://", "broken": "broken://"}]
    assert counts.get("trigger-failed", seam="broken", reason="RuntimeError") == 3
    assert (health.status, health.failures) == ("serving", {"broken": "RuntimeError"})
    assert "trigger broken failed" in caplog.text


async def test_one_that_goes_on_failing_is_shown(monkeypatch):
    """The health page is no 200 while a way in is shut."""
    monkeypatch.setattr(supervising, "_FIRST", 5.0)
    broken, steady = Fake("broken", failures=99), Fake("steady")
    triggers = Triggers([broken, steady], Bus())
    running = asyncio.create_task(triggers.run(lambda _where: None))
    await steady.running.wait()

    health = await triggers.health()
    triggers.stop()
    await asyncio.wait_for(running, 5)

    assert (health.status, health.triggers) == ("failing", {"broken": "failing", "steady": "running"})


async def test_what_is_wrong_before_it_ever_ran_ends_all():
    """Somebody must act; the others are stopped."""
    wrong = Fake("wrong", failures=1, error=ConfigurationError("taken", where="listen"))
    with pytest.raises(ConfigurationError, match="taken"):
        await asyncio.wait_for(Triggers([Fake("steady"), wrong], Bus()).run(lambda _where: None), 5)


async def test_what_comes_first_is_ready_before_the_others_begin():
    """A starter that is late misses no fact: nothing comes in before it listens."""
    first, other = Fake("first", failures=3), Fake("other")
    triggers = Triggers([other], Bus(), first=[first])
    running = asyncio.create_task(triggers.run(lambda _where: None))
    await asyncio.sleep(0)
    assert other.starts == 0

    await other.running.wait()
    assert first.running.is_set()
    triggers.stop()
    await running


async def test_a_stop_while_nothing_is_ready_ends_at_once(monkeypatch):
    """SIGTERM during a start that fails does not wait for it."""
    monkeypatch.setattr(supervising, "_FIRST", 60.0)
    first, other = Fake("first", failures=99), Fake("other")
    triggers = Triggers([other], Bus(), first=[first])
    running = asyncio.create_task(triggers.run(lambda _where: None))
    await asyncio.sleep(0.01)

    triggers.stop()
    await asyncio.wait_for(running, 5)
    assert other.starts == 0
