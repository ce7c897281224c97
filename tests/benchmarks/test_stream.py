"""One control process keeps thousands of pages up to date."""

from __future__ import annotations

import pytest

from crossfade.migrations.bench.stream import DELAY_GOAL, MEMORY_GOAL, run


@pytest.mark.slow
def test_two_thousand_pages_in_one_process(note):
    """Memory and delay within their goals, and nothing lost."""
    figures = run(2000)
    note(f"UI stream: {figures}")
    assert figures.lost == 0
    assert figures.kilobytes <= MEMORY_GOAL
    assert figures.p99 <= DELAY_GOAL
