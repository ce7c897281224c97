from __future__ import annotations

import logging
import threading

import pytest

from crossfade.shim.hooks import Counters, Guarded


class Failing:
    def __init__(self, error):
        self.error = error

    def count(self, name, *, seam="-", reason="-", n=1):
        raise self.error


def test_counts_are_summed_over_what_is_not_asked_for():
    """A question about a name covers every seam and reason unless it names one."""
    counters = Counters()
    counters.count("skipped", seam="web.search", reason="secret")
    counters.count("skipped", seam="web.search", reason="stale", n=2)
    counters.count("skipped", seam="web.fetch", reason="stale", n=4)
    counters.count("dropped", n=8)
    assert counters.get("skipped") == 7
    assert counters.get("skipped", seam="web.search") == 3
    assert counters.get("skipped", reason="stale") == 6
    assert counters.get("skipped", seam="web.fetch", reason="secret") == 0
    assert counters.get("dropped", seam="-", reason="-") == 8


def test_a_snapshot_does_not_change_afterwards():
    """A metrics page renders one moment."""
    counters = Counters()
    counters.count("late")
    before = counters.snapshot()
    counters.count("late")
    assert before == {("late", "-", "-"): 1}
    assert counters.snapshot() == {("late", "-", "-"): 2}


def test_no_count_is_lost_between_threads():
    """Eight threads count at once and the sum is exact."""
    counters = Counters()
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(2_000):
            counters.count("skipped", reason="stale")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.get("skipped") == 16_000


def test_a_failing_hook_never_reaches_a_call_and_is_logged_once_per_name(caplog):
    """Telemetry that breaks is a log line, not an outage and not a flood."""
    hooks = Guarded(Failing(RuntimeError("metrics are down")))
    with caplog.at_level(logging.ERROR, logger="crossfade"):
        for _ in range(3):
            hooks.count("skipped")
        hooks.count("dropped")
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "the hook for 'skipped' failed",
        "the hook for 'dropped' failed",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_a_guard_lets_an_exit_pass():
    """Only ``Exception`` is guarded: an interrupt still ends the program."""
    with pytest.raises(KeyboardInterrupt):
        Guarded(Failing(KeyboardInterrupt())).count("skipped")


def test_a_guard_passes_counts_on_unchanged():
    """Guarding changes nothing but errors."""
    counters = Counters()
    Guarded(counters).count("late", seam="web.search", reason="resolved", n=3)
    assert counters.snapshot() == {("late", "web.search", "resolved"): 3}
