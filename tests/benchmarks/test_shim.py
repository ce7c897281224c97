"""What the shim costs, beside its floors in the same run; the figures are printed, the steady one is asserted."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from crossfade.migrations.bench.shim import legacy, run


def test_the_decorator_at_legacy_costs_at_most_two_bare_wrappers(note):
    """One branch more than wrapt's own wrapper."""
    row = legacy()
    note(f"decorator at legacy: {row.ours_p50:.0f} ns, bare wrapt {row.floor_p50:.0f} ns, ratio {row.ratio:.2f}")
    assert row.reached


@pytest.mark.slow
def test_every_row_is_measured(note):
    """The table of `crossfade bench shim`; goals that a noisy machine may miss are printed, not asserted."""
    rows = run()
    for row in rows:
        note(f"{row.what}: ratio {row.ratio:.2f} (goal {row.goal}), {asdict(row)}")
    assert [row.what for row in rows] == [
        "decorator at legacy",
        "observe, per call",
        "bus call, async",
        "bus call, sync in a thread",
        "unsafe call, async",
    ]
    assert all(row.ours_p50 > 0 and row.floor_p50 > 0 for row in rows)
