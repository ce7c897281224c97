"""Processes whose wall clock is wrong, or is stepped while they run: the broker's time decides, and nothing is lost.

libfaketime gives a process the clock; only its wall clock, since nobody steps a monotonic one.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from integration.ledger.world import SOON, until
from support.needs import needs

# One server: of three it is the leader's clock that is asked, in the same way.
pytestmark = [needs("faketime"), pytest.mark.parametrize("brokers", ["R1"], indirect=True)]

WRONG = ["+300s", "-300s"]


class Clock:
    """A wall clock that a test sets while a process runs by it."""

    def __init__(self, file, shift):
        self.file = file
        self.set(shift)

    def set(self, shift):
        self.file.with_suffix(".new").write_text(f"{shift}\n")
        self.file.with_suffix(".new").replace(self.file)

    @property
    def environment(self):
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(tmp_path):
    """Makes a clock."""
    return lambda shift: Clock(tmp_path / "clock", shift)


def judge(world, side):
    """Each call has started once at most and in time by the broker's clock, and has one terminal. Returns them."""
    until(lambda: world.kinds(side).count("result") == world.kinds(side).count("invoke"), "a call has no terminal")
    deadlines, kinds = {}, {}
    for stored in world.log(side):
        call, _, kind = stored.subject.rpartition(".")
        kinds.setdefault(call, []).append(kind)
        if kind == "invoke":
            deadlines[call] = datetime.fromisoformat(stored.event.get("expirytime"))
        elif kind == "own" and stored.event.data and b'"role": "worker"' in stored.event.data:
            assert stored.time <= deadlines[call], "claimed after its deadline, by the broker's clock"
    assert {tuple(found) for found in kinds.values()} == {("invoke", "own", "result")}
    assert max(Counter(world.journal.lines).values(), default=0) <= 1
    return Counter(answer.reason or answer.kind for answer in world.terminals(side))


@pytest.mark.parametrize("shift", WRONG)
def test_a_worker_that_is_minutes_off(world, clock, shift):
    """It serves what is in time and nothing else."""
    world.member(environment=clock(shift).environment)
    caller = world.side(timeout=10)
    assert [caller.call(f"a{number}") for number in range(10)] == [f"a{number} by 0" for number in range(10)]
    assert judge(world, caller) == {"value": 10}


@pytest.mark.parametrize("shift", WRONG)
def test_an_expired_command_at_a_worker_that_is_minutes_off(world, clock, shift):
    """By a clock that is behind it would be in time; it is refused all the same."""
    caller = world.side(timeout=0.5, fallback="raise")
    task = caller.call.submit("a")
    until(lambda: caller.bus.now() > task._command.deadline)
    world.member(environment=clock(shift).environment)
    until(lambda: world.terminals(caller))
    assert [answer.reason for answer in world.terminals(caller)] == ["expired"]
    assert world.journal.lines == []


@pytest.mark.parametrize("shift", WRONG)
def test_a_caller_that_is_minutes_off(world, clock, shift):
    """Its deadlines are the broker's: its calls run, and it waits no longer than its timeout."""
    side = world.side().serve()
    member = world.member("call", timeout=5.0, environment=clock(shift).environment)
    until(lambda: len(told(world)) >= 10)
    world.mark("go").touch()
    assert member.wait(SOON) == 0
    assert set(told(world)) == {"done"}
    assert set(judge(world, side)) == {"value"}


@pytest.mark.parametrize("who", ["worker", "caller"])
def test_steps_while_it_runs(world, clock, who, note, brokers):
    """Five minutes on, then ten back, then on again: no call is started late or refused for ever, each ends once."""
    wall = clock("+0")
    if who == "worker":
        side = world.side()
        world.member(environment=wall.environment)
        caller = world.member("call", timeout=5.0)
    else:
        side = world.side().serve()
        caller = world.member("call", timeout=5.0, environment=wall.environment)
    number = 1 if who == "worker" else 0
    for shift in ("+300s", "-300s", "+0"):
        seen = len(told(world, number))
        until(lambda seen=seen: len(told(world, number)) >= seen + 5)
        wall.set(shift)
        time.sleep(0.3)
    seen = len(told(world, number))
    until(lambda: len(told(world, number)) >= seen + 5)
    world.mark("go", number).touch()
    assert caller.wait(SOON) == 0
    ended = judge(world, side)
    note(f"wall clock of the {who} stepped thrice on {type(brokers).__name__}: {dict(ended)}")
    assert not any(line.startswith("no ") for line in told(world, number)[-3:]), told(world, number)
    assert ended["value"] > ended.total() * 0.8
    assert set(ended) <= {"value", "clock"}


def told(world, number=0):
    """What the calling process was told, call by call; without the name of who answered."""
    with contextlib.suppress(FileNotFoundError):
        return [line.partition(" by ")[0] for line in world.mark("told", number).read_text().splitlines()]
    return []
