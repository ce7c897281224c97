"""What a route's stage costs its callers: the rows, and (slow) that every one is measured."""

from __future__ import annotations

import os

import pytest

from crossfade.migrations.bench import nginx, proxy_stages
from crossfade.migrations.bench.measuring import Row, Unmeasured
from crossfade.migrations.bench.processes import with_children
from crossfade.migrations.bench.proxy_stages import costs, half_of, waits
from crossfade.migrations.bench.windows import Taken, cores
from crossfade.migrations.bench.wrk import Load, Window
from support.needs import needs

LOAD = Load(target="/bench/1kb", size=1_000, connections=16)


def taken(p50: float, p99: float, rate: float = 1000, cpu: float = 50e-6) -> list[Taken]:
    return [Taken(seen=Window(answers=rate * 2, seconds=2, p50=p50, p99=p99), cpu=cpu)]


@pytest.mark.parametrize(
    ("p50", "p99", "reached"),
    [(1.04, 1.14, [True, True]), (1.06, 1.0, [False, True]), (1.0, 1.16, [True, False])],
)
def test_callers_at_shadow_have_two_goals(p50, p99, reached):
    """1.05 of the median and 1.15 of the 99th percentile, each judged by itself."""
    assert [row.reached for row in waits("x", taken(p50, p99), taken(1.0, 1.0))] == reached


def test_capacity_is_only_reported():
    """There is no goal for what is left of it, and none for CPU time."""
    cpu, rate = costs("x", taken(1, 1, rate=500, cpu=100e-6), taken(1, 1))

    assert (cpu.ratio, rate.ratio) == (pytest.approx(2), pytest.approx(0.5))
    assert cpu.reached is rate.reached is None


@pytest.mark.parametrize("of", [costs, waits])
def test_a_spoilt_side_says_why(of):
    """Whichever it is."""
    for ours, theirs in (("refused", taken(1, 1)), (taken(1, 1), "refused")):
        (row,) = of("x", ours, theirs)
        assert isinstance(row, Unmeasured)
        assert row.reason == "refused"


def test_half_load_is_half_the_rate():
    """64 connections that pause 16 ms ask 4,000 times a second, half of 8,000."""
    half = half_of(LOAD, rate=8000)

    assert half.connections / half.pause * 1000 == 4000
    assert (half.target, half.size) == (LOAD.target, LOAD.size)


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("nginx")
@needs("wrk")
def test_observe_and_shadow_are_measured(note):
    """With the candidate slow, dead, and the broker stopped no request fails; the figures are printed."""
    on = cores()
    with nginx.service({"1kb": 1_000}, core=on.load) as service:
        rows = [
            *proxy_stages.observe({"1 KB": LOAD}, service, on, rounds=1),
            *proxy_stages.shadow("1 KB", service, LOAD, on, rounds=1),
        ]

    for row in rows:
        note(f"{row}")
    assert all(isinstance(row, Row) for row in rows)
    assert len(rows) == 2 + 3 * 4
    assert with_children([os.getpid()]) == [os.getpid()]
