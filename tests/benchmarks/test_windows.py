"""Proxies take turns, window by window; what spoils one of them spoils no other."""

from __future__ import annotations

import os

import pytest

from crossfade.migrations.bench import windows, wrk
from crossfade.migrations.bench.fronts import Front
from crossfade.migrations.bench.processes import on_core
from crossfade.migrations.bench.windows import Cores, in_turns, window_for
from crossfade.migrations.bench.wrk import Load, LoadError, Window

LOAD = Load(target="/", size=1, connections=16)
CORES = Cores(proxy=1, load=0)


def front(name: str, port: int) -> Front:
    return Front(name=name, title=name, port=port, cpu=iter(range(100)).__next__)


def seen(rate: float, seconds: float = 2.0) -> Window:
    return Window(answers=rate * seconds, seconds=seconds, p50=0.001, p99=0.002)


@pytest.fixture
def asked(monkeypatch):
    """What was asked of whom: (port, seconds); port 3 fails the second time."""
    order: list[tuple[int, int]] = []

    def window(_load: Load, *, port: int, core: int, seconds: int) -> Window:
        assert core == CORES.load
        order.append((port, seconds))
        if port == 3 and len(order) > 3:
            raise LoadError("7 requests failed")
        return seen(10 if port == 2 else 1000, seconds)

    monkeypatch.setattr(wrk, "window", window)
    return order


def test_the_first_round_is_thrown_away_and_says_how_long_the_next_last(asked):
    """A window holds eight answers per connection, or ten seconds: the slow one gets ten."""
    taken = in_turns([front("fast", 1), front("slow", 2)], LOAD, CORES, rounds=2)

    assert asked == [(1, 2), (2, 2), (1, 2), (2, 10), (1, 2), (2, 10)]
    assert [one.cpu for one in taken["fast"]] == [1 / 2000, 1 / 2000]
    assert [one.cpu for one in taken["slow"]] == [1 / 100, 1 / 100]


def test_one_that_fails_is_named_and_the_others_go_on(asked):
    """It is asked no more, and why stands where its windows would."""
    taken = in_turns([front("fast", 1), front("slow", 2), front("broken", 3)], LOAD, CORES, rounds=2)

    assert taken["broken"] == "7 requests failed"
    assert [len(taken[name]) for name in ("fast", "slow")] == [2, 2]
    assert [port for port, _ in asked].count(3) == 2


@pytest.mark.parametrize(("rate", "seconds"), [(10_000, 2), (64, 2), (32, 4), (1, 10)])
def test_windows_last_from_two_to_ten_seconds(rate, seconds):
    """As long as 16 connections need for eight answers each."""
    assert window_for(seen(rate), LOAD) == seconds


@pytest.mark.parametrize(("size", "connections", "seconds"), [(1_000, 256, 2), (10**7, 100, 4), (10**7, 256, 10)])
def test_the_first_window_lets_large_answers_through(size, connections, seconds):
    """Without one whole answer nothing would be known of the proxy."""
    assert windows.first_window(Load(target="/", size=size, connections=connections)) == seconds


def test_what_starts_on_a_core_stays_there():
    """And whoever started it goes back to where it was."""
    before = os.sched_getaffinity(0)
    core = max(before)
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_single_core_is_refused(monkeypatch):
    """Callers on the proxy's core would be measured with it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    with pytest.raises(windows.CrossfadeError, match="two cores"):
        windows.cores()
