"""What being decorated costs while the seam is off, beside a wrapt decorator that does nothing."""

from __future__ import annotations

import statistics
import time

import pytest
import wrapt

from crossfade.shim import tool

CALLS, ROUNDS = 5_000, 41


def took(function):
    """Nanoseconds per call."""
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        function()
    return (time.perf_counter_ns() - began) / CALLS


class Holder:
    """A decorated method, and one under a bare wrapper."""


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["function", "method"])
@pytest.mark.parametrize("stage", ["never connected", "legacy"])
def test_off_costs_about_a_branch(on_bus, note, kind, stage):
    """Rounds in turns, so that what else the machine does hits both alike; the median of the ratios."""

    def body(self=None):
        pass

    ours = tool("overhead.noop")(body)
    bare = wrapt.FunctionWrapper(body, lambda wrapped, _instance, args, kwargs: wrapped(*args, **kwargs))
    if stage == "legacy":
        on_bus(ours, stage="legacy")
    assert ours.__crossfade_seam__.route is None
    if kind == "method":
        Holder.ours, Holder.bare = ours, bare
        calls = Holder().ours, Holder().bare
    else:
        calls = ours, bare
    took(calls[0])
    rounds = [(took(calls[0]), took(calls[1])) for _ in range(ROUNDS)]
    ratio = statistics.median(mine / theirs for mine, theirs in rounds)
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    note(f"no-op {kind}, {stage}: {mine:.0f} ns, bare wrapt {theirs:.0f} ns, ratio {ratio:.2f}")
    assert ratio < 2.5
