from __future__ import annotations

import contextlib
import math

import pytest

from crossfade.shim.comparison import Budget
from crossfade.shim.comparison.budget import ExhaustedError, Meter
from crossfade.shim.errors import ConfigurationError


def spent(meter):
    """How often it lets one pay."""
    paid = 0
    with contextlib.suppress(ExhaustedError):
        while True:
            meter.spend()
            paid += 1
    return paid


def test_nodes_are_paid_one_by_one():
    """A budget of n nodes allows exactly n."""
    assert spent(Meter(Budget(nodes=1))) == 1
    assert spent(Meter(Budget(nodes=700))) == 700


def test_time_ends_a_walk():
    """The clock is looked at every 256 nodes; a reading past the end ends it, one at the end does not."""
    readings = iter([10.0, 10.5, 11.0, 11.001])
    assert spent(Meter(Budget(seconds=1, clock=lambda: next(readings)))) == 3 * 256 - 1


def test_preparation_is_not_paid_but_foreseen():
    """What is left decides, to the node."""
    meter = Meter(Budget(nodes=10))
    meter.spend()
    meter.foresee(9)
    with pytest.raises(ExhaustedError):
        meter.foresee(10)
    meter.foresee(9)


@pytest.mark.parametrize(
    ("options", "where"),
    [({"nodes": 0}, "budget.nodes"), ({"seconds": 0}, "budget.seconds")]
    + [({"seconds": seconds}, "budget.seconds") for seconds in (-1, math.inf, math.nan)],
)
def test_a_budget_that_bounds_nothing_is_refused(options, where):
    """A comparison without a bound can hang its worker; one without any budget judges nothing."""
    with pytest.raises(ConfigurationError) as caught:
        Budget(**options)

    assert caught.value.where == where
