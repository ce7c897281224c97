"""Latencies kept in two-percent buckets: every quantile is within one percent, and bounds hold."""

from __future__ import annotations

import json
import random
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.sketch import ACCURACY, Sketch

times = st.lists(st.floats(1e-6, 86_400), min_size=1, max_size=200)


def of(seconds):
    sketch = Sketch()
    for each in seconds:
        sketch.add(each)
    return sketch


@given(times, st.floats(0, 1))
def test_a_quantile_is_within_a_percent(seconds, share):
    """Of the value at that rank."""
    true = sorted(seconds)[max(1, ceil(share * len(seconds))) - 1]
    assert of(seconds).quantile(share) == pytest.approx(true, rel=ACCURACY * 1.001)


@given(times, times)
def test_parts_add_up(first, second):
    """Merging is sketching everything at once, and JSON keeps it."""
    merged = of(first)
    merged.merge(of(second))
    assert merged == of(first + second)
    assert Sketch.from_json(json.loads(json.dumps(merged.to_json()))) == merged


def test_few_calls_bound_nothing_and_many_bound_closely():
    """The 99th percentile of ten calls may be anything above what was seen; that of 100,000 is known."""
    rng = random.Random(3)
    few, many = of(rng.random() for _ in range(10)), of(rng.random() for _ in range(100_000))
    assert few.bounds(0.99, confidence=0.95).high == float("inf")
    found = many.bounds(0.99, confidence=0.95)
    assert 0.96 < found.low < many.quantile(0.99) < found.high < 1.02


def test_bounds_hold_at_every_look():
    """300 populations, 6 looks each: the true median is outside at 90 % in fewer than one in ten, on either side."""
    rng = random.Random(5)
    outside = 0
    for _ in range(300):
        sketch, wrong = Sketch(), False
        for n in range(320):
            sketch.add(rng.expovariate(1.0))
            if n in (9, 19, 39, 79, 159, 319):
                found = sketch.bounds(0.5, confidence=0.95)
                wrong |= not found.low * (1 - ACCURACY) <= 0.693147 <= found.high * (1 + ACCURACY)
        outside += wrong
    assert outside / 300 <= 0.1


def test_nothing_is_nothing():
    """No call: no quantile, and bounds from 0 to infinity."""
    assert Sketch().quantile(0.5) is None
    assert Sketch().bounds(0.5, confidence=0.95).high == float("inf")


def test_what_is_no_time_a_call_takes_counts_as_the_nearest():
    """Zero, and a week."""
    assert of([0.0, 700_000]).quantile(1) == pytest.approx(86_400, rel=0.02)
    assert len(of([10**n for n in range(-9, 9)]).buckets) <= 1300
