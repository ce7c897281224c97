"""The proxy beside others on one core: what its rows say, and (slow) that ours stays within its ratios."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossfade.migrations.bench import proxy
from crossfade.migrations.bench.fronts import PEERS, Front
from crossfade.migrations.bench.measuring import Row
from crossfade.migrations.bench.processes import with_children
from crossfade.migrations.bench.proxy import CPU_GOALS, cases, rows
from crossfade.migrations.bench.windows import Taken
from crossfade.migrations.bench.wrk import Window
from crossfade.migrations.cli import _app
from support.needs import needs


def taken(*cpus: float, rate: float = 1000, p50: float = 0.001, p99: float = 0.002) -> list[Taken]:
    return [Taken(seen=Window(answers=rate * 2, seconds=2, p50=p50, p99=p99), cpu=cpu) for cpu in cpus]


def made(name: str, ours: list[Taken], theirs: list[Taken]) -> list[Row]:
    return list(rows("1 KB", Front(name=name, title=name, port=1, cpu=lambda: 0.0), ours, theirs))


def test_cpu_is_the_median_window_in_microseconds():
    """One window in which the machine was elsewhere changes nothing."""
    cpu, *_ = made("nginx", taken(50e-6, 52e-6, 900e-6), taken(20e-6, 21e-6, 26e-6))

    assert (cpu.ours.p50, cpu.theirs.p50) == (pytest.approx(52), pytest.approx(21))
    assert cpu.ratio == pytest.approx(52 / 21)
    assert cpu.reached


def test_the_goals_are_the_designs():
    """CPU per request against three, the pace against Envoy; the rest is reported."""
    for name in ("nginx", *(peer.name for peer in PEERS)):
        cpu, rate, latency = made(name, taken(1e-6), taken(1e-6))
        assert cpu.goal == CPU_GOALS.get(name)
        assert (rate.goal, latency.goal) == ((1.0, 1.0) if name == "Envoy" else (None, None))


@pytest.mark.parametrize(("p50", "p99", "reached"), [(0.005, 0.002, True), (0.001, 0.003, False)])
def test_latency_is_judged_by_its_tail(p50, p99, reached):
    """Requests per second judge the middle already."""
    *_, latency = made("Envoy", taken(1e-6, p50=p50, p99=p99), taken(1e-6))

    assert latency.reached is reached
    assert latency.ours.p99 == pytest.approx(p99 * 1000)


def test_the_full_matrix_is_three_by_three_and_one_that_repeats():
    """What is quick is one of them."""
    full = cases(full=True)

    assert len(full) == 10
    assert cases(full=False).items() <= full.items()
    assert [load.same for load in full.values()] == [False] * 9 + [True]


def test_without_wrk_every_row_says_so_and_the_exit_code_is_1(monkeypatch, tmp_path):
    """Nothing is left out without a word."""
    monkeypatch.setenv("PATH", str(tmp_path))

    result = CliRunner().invoke(_app.app, ["bench", "proxy", "--full"])

    assert result.exit_code == 1
    assert result.stdout.count("NOT MEASURED") == len(cases(full=True))
    assert "apt-get install wrk" in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("nginx")
@needs("wrk")
def test_cpu_per_request_stays_within_its_ratios(note):
    """Every proxy is measured, in its own process; the goals are printed; missed twofold, the test fails."""
    found = list(proxy.run())

    for row in found:
        note(f"{row}")
    assert all(isinstance(row, Row) for row in found)
    assert len(found) == 3 * (1 + len(PEERS))
    assert [row.what for row in found if row.unit == "us" and row.goal and row.ratio > 2 * row.goal] == []
    assert with_children([os.getpid()]) == [os.getpid()]
    assert not list(Path("/tmp").glob("crossfade-bench-*/access.*"))
