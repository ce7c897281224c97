"""Invariant 13: every eligible call is counted before sampling, by kind, whatever becomes of its observation."""

from __future__ import annotations

import time

import pytest

from crossfade.migrations.coverage import read_coverage
from crossfade.shim import observations, tool
from crossfade.shim.coverage import REPORT_FIRST, Coverages
from integration.shim import kit


def declare(**options):
    @tool("web.covered", effects="none", **{"stage": "shadow", **options})
    def covered(n: object) -> object:
        if n == "fail":
            raise ValueError("no")
        return object() if n == "odd" else n

    return covered


def coverage(connection, revision=0):
    runtime = connection.runtime
    kit.on_loop(connection, Coverages(runtime.bus).report(runtime.instance, runtime.observer.tally))
    return kit.on_loop(connection, read_coverage(runtime.bus, runtime.subjects, "web.covered", revision=revision))


def settled(connection, n):
    """The coverage, once ``n`` calls are counted and all that could be compared is."""

    def whole():
        total = (found := coverage(connection)).total
        return total.eligible == n and total.compared + total.unjudged == total.observed and found

    return kit.until(whole)


def test_compared_of_eligible_by_kind(connect, work):
    """Values and errors are compared, what cannot be serialised is not; each is counted where it belongs."""
    covered = declare()
    connection = connect()
    work(connection, covered)
    for n in range(5):
        covered(n)
    covered("x" * 2000)
    with pytest.raises(ValueError, match="no"):
        covered("fail")
    covered(object())
    covered("odd")
    found = settled(connection, 9)
    by_size = {(kind.split()[0], kind.split()[2]): found.kinds[kind] for kind in found.kinds}  # however slow it was
    assert (by_size["<16K", "value"].eligible, by_size["<16K", "value"].compared) == (1, 1)
    assert (by_size["<1K", "error"].eligible, by_size["<1K", "error"].compared) == (1, 1)
    assert (by_size["unknown", "value"].eligible, by_size["unknown", "value"].observed) == (1, 0)
    assert (found.total.observed, found.total.compared, found.total.unjudged) == (7, 7, 0)


def test_what_is_sampled_out_is_eligible(connect, work, monkeypatch):
    """Its size is unknown and it is not compared: coverage says what the sample speaks for."""
    covered = declare(sample=0.25)
    draws = iter([0.1, 0.9] * 20)
    monkeypatch.setattr("random.random", lambda: next(draws))
    connection = connect()
    work(connection, covered)
    for n in range(20):
        covered(n)
    found = settled(connection, 20)
    assert (found.total.compared, found.total.share) == (10, 0.5)
    assert sum(covered.eligible for kind, covered in found.kinds.items() if kind.startswith("unknown")) == 10


def test_what_the_buffer_had_no_place_for_is_eligible(connect, broker, monkeypatch):
    """Dropped before the bus ever heard of it."""
    monkeypatch.setattr(observations, "BUFFER", 3)
    covered = declare()
    connection = connect()
    broker.stop()
    for n in range(10):
        covered(n)
    broker.start()
    found = kit.until(lambda: (c := coverage(connection)).total.eligible == 10 and c)
    assert found.total.observed == 3


def test_counts_are_told_at_the_end_and_begin_anew_with_a_revision(connect):
    """A process that lives for a second was traffic, too; a change of the policy starts new evidence."""
    covered = declare(stage="observe")
    with connect() as first:
        covered(1)
        kit.observed(first)
    connection = connect()
    runtime = connection.runtime
    found = kit.on_loop(connection, read_coverage(runtime.bus, runtime.subjects, "web.covered", revision=0))
    assert (found.total.eligible, found.total.observed, found.total.share) == (1, 1, 0.0)
    kit.set_live(connection, "web.covered", {"sample": 1.0})
    kit.until(lambda: "web.covered" in runtime._live)
    assert coverage(connection, runtime._live["web.covered"].revision).total.share is None


def test_counts_are_told_soon_after_a_change(connect):
    """A gate that asks for coverage has nothing to judge before: it must not wait for the quarter of a minute."""
    covered = declare()
    connection = connect()
    runtime = connection.runtime
    kit.set_live(connection, "web.covered", {"sample": 1.0})
    kit.until(lambda: "web.covered" in runtime._live)
    covered(1)
    began = time.monotonic()
    assert kit.until(lambda: kit.on_loop(connection, Coverages(runtime.bus).counted("web.covered")))
    assert time.monotonic() - began < 2 * REPORT_FIRST + 5  # seconds for a busy machine
