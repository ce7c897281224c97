"""Gates and abort rules judge wrongly as seldom as they promise, over migrations whose truth is known."""

from __future__ import annotations

import pytest

from crossfade.migrations import gates, simulation
from crossfade.migrations.simulation import Simulated, simulate
from crossfade.migrations.statistics import Bounds


def test_what_is_promised_holds():
    """At the very limit, beyond it, late and slow; a candidate that is plainly good is let on."""
    found = list(simulate(len(simulation.candidates()) * 2, seed=7))
    assert [each.candidate.name for each in found if not each.kept] == []
    assert found[-1].endings == {"promoted": 2}
    assert next(each for each in found if each.candidate.late).endings == {"rolled-back": 2}


def test_a_gate_that_judged_rates_would_be_caught(monkeypatch):
    """Promoting on the rate alone, at every look, breaks the promise for a candidate at the limit."""
    at_the_limit = simulation.candidates()[0]
    monkeypatch.setattr(simulation, "candidates", lambda: (at_the_limit,))
    monkeypatch.setattr(gates, "sequential_bounds", lambda hits, misses, confidence: rate(hits / (hits + misses)))
    (found,) = simulate(20, seed=7)
    assert not found.kept


def rate(share):
    return Bounds(share, share)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_migrations_keep_every_promise(note):
    """The figures of docs/explanation/why-gates-judge-bounds.md."""
    found: list[Simulated] = []
    for each in simulate(10_000, seed=1):
        note(
            f"{each.candidate.name}: {each.candidate.wrong} {each.wrong:.2%}, promised <= {each.candidate.promise:.0%}"
        )
        found.append(each)
    assert [each.candidate.name for each in found if not each.kept] == []
