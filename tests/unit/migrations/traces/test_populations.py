"""Many runs against many: what surely differs is told, and chance is not."""

from __future__ import annotations

import random

from crossfade.migrations.traces.populations import MAX_EDGES, Population, compare
from unit.migrations.traces.calls import call, run


def population(n, *, fetches=1, slow=1.0, fails=0.0, path="bus", seed=1):
    chance, made = random.Random(seed), Population()
    for _ in range(n):
        inner = [
            call(
                f"f{at}",
                "fetch",
                parent="a",
                at=at + 1,
                took=slow * chance.uniform(0.5, 1.0),
                path=path,
                queue=0.1,
                outcome="error" if chance.random() < fails else "value",
            )
            for at in range(fetches)
        ]
        made.add(run(call("a", "agent", took=20, path=path, queue=0.1), *inner))
    return made


def certain(old, new):
    return {each.edge: set(each.certain) for each in compare(old, new)}


def test_the_same_behaviour_differs_in_nothing():
    """Two hundred runs each."""
    assert certain(population(200), population(200, seed=2)) == {"agent": set(), "agent > fetch": set()}


def test_slower_failing_and_repeated_calls_are_each_told():
    """On the edge that they are on, first in the list."""
    found = compare(population(200), population(200, fetches=2, slow=2.0, fails=0.5))
    assert found[0].edge == "agent > fetch"
    assert {"calls", "errors", "total p50", "handler p50"} <= set(found[0].certain)
    assert "runs" not in found[0].certain


def test_a_call_that_only_one_side_makes_is_told():
    """By the share of runs that have it."""
    assert certain(population(100), population(100, fetches=0))["agent > fetch"] >= {"runs", "calls"}


def test_few_runs_prove_nothing():
    """Three of each."""
    assert certain(population(3), population(3, fetches=2, slow=3.0)) == {"agent": set(), "agent > fetch": set()}


def test_legacy_calls_have_no_queue():
    """Nothing is said of it, rather than that it is nothing."""
    (each, *_) = compare(population(50, path="legacy"), population(50, path="legacy"))
    assert each.old.quantiles["queue", 0.5][0] is None


def test_edges_are_bounded_and_the_rest_is_counted():
    """Names may come from outside."""
    made = Population()
    for at in range(MAX_EDGES + 5):
        made.add(run(call(f"s{at}")))
    assert (len(made.edges), made.left_out) == (MAX_EDGES, 5)
