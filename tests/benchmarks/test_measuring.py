"""Turns, figures and goals: what a row says follows from what was taken."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys

import pytest

from crossfade.migrations.bench.measuring import Side, Taken, in_flight, in_turns, row
from crossfade.migrations.bench.processes import cpu_of


def taken(*seconds: float, cpu: float = math.nan) -> Taken:
    return Taken(seconds=seconds, cpu=cpu)


def test_rivals_take_turns_and_the_first_round_does_not_count():
    """A B A B, and what warms up is thrown away."""
    order = []

    def side(name: str) -> Side:
        def run(n: int) -> list[float]:
            order.append(name)
            return [float(len(order))] * n

        return Side(run=run, cpu=lambda: float(len(order)))

    ours, theirs = in_turns(side("A"), side("B"), rounds=2, batch=2)

    assert order == list("ABABAB")
    assert (ours.seconds, theirs.seconds) == ([3.0, 3.0, 5.0, 5.0], [4.0, 4.0, 6.0, 6.0])
    assert ours.cpu == theirs.cpu == 0.5


@pytest.mark.parametrize(
    ("ours", "tail", "reached"),
    [(1.9, False, True), (2.1, False, False), (1.9, True, False)],
)
def test_a_goal_is_reached_by_the_median_and_where_said_by_the_tail(ours, tail, reached):
    """The 99th percentile, ten times theirs, misses the goal only where it counts."""
    found = row("x", "y", [taken(ours, ours, 10), taken(1, 1, 1)], unit="ms", goal=2.0, tail=tail)

    assert found.reached is reached


@pytest.mark.parametrize(("seconds", "reached"), [(0.01, True), (0.02, False)])
def test_a_rate_shall_be_at_least_its_goal(seconds, reached):
    """For what is counted per second, more is better."""
    found = row("x", "y", [taken(seconds), taken(0.008)], unit="/s", goal=0.6)

    assert found.ours.p50 == pytest.approx(1 / seconds)
    assert found.reached is reached


def test_no_goal_is_neither_met_nor_missed():
    """And CPU time that nobody knows is not a number in JSON."""
    found = row("x", "y", [taken(1)], unit="ms")

    assert (found.reached, found.ratio, found.ours.cpu) == (None, None, None)


def test_as_many_calls_are_in_flight_as_asked_for():
    """Never more than that, and at some moment that many."""
    now, most = 0, 0

    async def call() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    with asyncio.Runner() as runner:
        in_flight(runner, call, 4)(50)

    assert most == 4


@pytest.mark.skipif(sys.platform != "linux", reason="the clocks of other processes are Linux's")
def test_cpu_time_of_children_counts():
    """What a child of a child burns is in the tree's time, and not in our own."""
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert cpu_of(process.pid, this_process=False)() >= 0.2
        assert cpu_of(process.pid)() - cpu_of(process.pid, this_process=False)() > 0
        process.stdin.close()
