"""Looking back over much costs no memory, and time in proportion."""

from __future__ import annotations

import pytest

from crossfade.migrations.bench.history import SHOWN_GOAL, results, traces


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_events_are_looked_back_over(note):
    """One run within its goal; ten times the events take at most a little more memory, and fifteen times the time."""
    commands, looks = traces(100_000)
    note(f"traces: {commands} {looks}")
    half = len(commands) // 2
    for few, many in zip(commands[:half], commands[half:], strict=True):
        assert many.megabytes < few.megabytes + 50, (few, many)
        assert many.seconds < 15 * few.seconds, (few, many)
    assert max(each.p99 for each in looks) <= SHOWN_GOAL


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_result_is_looked_up_among_a_million(note):
    """By its subject, and by its call's id."""
    looks = results(1_000_000)
    note(f"look-ups: {looks}")
    assert len(looks) == 2


def test_a_result_is_looked_up_among_a_few():
    """So that the measurement does not rot."""
    assert all(0 < each.p50 <= each.p99 for each in results(1000))
