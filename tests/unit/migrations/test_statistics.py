"""Bounds of shares: what they promise holds, at one look and at every look."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.statistics import (
    fixed_bounds,
    is_proven_above,
    paired_difference,
    paired_p,
    sequential_bounds,
)
from crossfade.shim import ConfigurationError

counts = st.integers(0, 5000)
confidences = st.sampled_from([0.5, 0.9, 0.95, 0.999])


@pytest.mark.parametrize(
    ("hits", "misses", "low", "high"),
    [(299, 0, 0.99003, 1.0), (0, 10, 0.0, 0.25887), (8, 2, 0.49310, 0.96323), (500, 500, 0.47353, 0.52647)],
)
def test_fixed_bounds_are_those_of_the_tables(hits, misses, low, high):
    """Clopper and Pearson at 95 % on each side, as R's binom.test gives them."""
    found = fixed_bounds(hits, misses, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-5)


def test_what_it_takes_without_a_miss():
    """0.99 at 95 %: 299 trials at one look, 449 when looked at all the time."""
    assert not is_proven_above(448, 0, share=0.99, confidence=0.95)
    assert is_proven_above(449, 0, share=0.99, confidence=0.95)


@given(counts, counts, confidences)
def test_bounds_lie_around_the_share_and_sequential_ones_outside_the_fixed(hits, misses, confidence):
    """Looking at all times is paid for with wider bounds, never with narrower ones."""
    sequential, fixed = (find(hits, misses, confidence=confidence) for find in (sequential_bounds, fixed_bounds))
    seen = hits / (hits + misses) if hits + misses else 0.5
    assert 0 <= sequential.low <= fixed.low + 1e-9
    assert fixed.low <= seen + 1e-9 <= fixed.high + 2e-9
    assert fixed.high <= sequential.high + 1e-9 <= 1 + 1e-9


@given(counts, counts, confidences)
def test_the_sides_mirror_each_other(hits, misses, confidence):
    """The bound of the misses is what the bound of the hits leaves."""
    one, other = (sequential_bounds(*pair, confidence=confidence) for pair in ((hits, misses), (misses, hits)))
    assert one.low == pytest.approx(1 - other.high)


@given(counts, counts, confidences, st.floats(0.001, 0.999))
def test_proof_and_bound_say_the_same(hits, misses, confidence, share):
    """The cheap question is the dear one's answer, away from where they meet."""
    low = sequential_bounds(hits, misses, confidence=confidence).low
    if abs(low - share) > 1e-6:
        assert is_proven_above(hits, misses, share=share, confidence=confidence) == (low > share)


@given(counts, counts, confidences)
def test_a_hit_never_lowers_and_a_miss_never_raises(hits, misses, confidence):
    """Monotone: more evidence for a claim is never held against it."""
    low = sequential_bounds(hits, misses, confidence=confidence).low
    assert sequential_bounds(hits + 1, misses, confidence=confidence).low >= low - 1e-9
    assert sequential_bounds(hits, misses + 1, confidence=confidence).low <= low + 1e-9


def test_looking_after_every_trial_deceives_as_seldom_as_promised():
    """1,000 candidates exactly as bad as the bar, at 90 %: a bound for one look fails, this one holds."""
    rng = random.Random(7)
    sequential, fixed = [], []
    for n in range(1000):
        trials = [rng.random() < 0.9 for _ in range(400)]
        seen = [(sum(trials[:look]), look - sum(trials[:look])) for look in (10, 22, 50, 110, 245, 400)]
        sequential.append(any(is_proven_above(*each, share=0.9, confidence=0.9) for each in seen))
        if n < 150:
            fixed.append(any(fixed_bounds(*each, confidence=0.9).low > 0.9 for each in seen))
    assert sum(sequential) / len(sequential) <= 0.1
    assert sum(fixed) / len(fixed) > 0.1


def test_pairs_that_disagree_evenly_prove_nothing():
    """The values are the exact binomial's."""
    assert paired_p(0, 0) == 1.0
    assert paired_p(10, 10) == 1.0
    assert paired_p(0, 10) == pytest.approx(2 / 1024)
    assert paired_p(950, 1050) == pytest.approx(0.02683, rel=1e-3)


def test_large_counts_are_judged_in_time_and_without_overflow():
    """A million calls."""
    found = sequential_bounds(999_000, 1_000, confidence=0.95)
    assert 0.9985 < found.low < 0.999 < found.high < 0.9995


@pytest.mark.parametrize("confidence", [0.4, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    """Below one half, or certainty."""
    with pytest.raises(ConfigurationError, match="no confidence"):
        sequential_bounds(1, 1, confidence=confidence)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((18, 0, 0, 32), -0.0427, 0.0427), ((0, 0, 0, 0), -1.0, 1.0)],
)
def test_paired_differences_are_those_of_the_paper(counts, low, high):
    """Newcombe (1998), method 10, both sides together at 95 %; nothing is known of no pair."""
    found = paired_difference(*counts, confidence=0.975)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(*[st.integers(0, 300)] * 4)
def test_a_paired_difference_is_the_same_from_the_other_side(both, first, second, neither):
    """Its bounds hold what was seen, and change sides with the properties."""
    found = paired_difference(both, first, second, neither, confidence=0.95)
    mirrored = paired_difference(both, second, first, neither, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low))
    if n := both + first + second + neither:
        assert found.low - 1e-12 <= (first - second) / n <= found.high + 1e-12
