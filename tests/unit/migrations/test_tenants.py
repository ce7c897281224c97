"""A regression of one tenant is seen beside everybody's average."""

from __future__ import annotations

import json

from crossfade.migrations.tenants import MOST, OTHERS, Tenants


def told(**counts):
    """``name=(calls, failed)``."""
    return Tenants.from_json(counts)


def test_the_worst_is_whose_failures_are_proven():
    """One of one is bad luck, forty of a hundred is a regression, none of a thousand is the average."""
    name, share = told(tiny=(1, 1), acme=(100, 40), fine=(1000, 0)).worst()
    assert (name, share.calls, share.failed) == ("acme", 100, 40)


def test_nobody_is_worst_where_nothing_fails_or_all_are_one():
    """There is nobody to point at."""
    assert told(acme=(10, 0), fine=(10, 0)).worst() is None
    assert told(acme=(10, 5)).worst() is None


def test_tenants_are_bounded():
    """Those who come late count together, and what is kept reads back as it was."""
    tenants = Tenants()
    for n in range(3 * MOST):
        tenants.add(f"tenant {n}", failed=n >= MOST)
    assert len(tenants.shares) == MOST + 1
    assert (tenants.shares[OTHERS].calls, tenants.shares[OTHERS].failed) == (2 * MOST, 2 * MOST)
    tenants.add("tenant 3", failed=True)
    assert tenants.shares["tenant 3"].calls == 2
    assert Tenants.from_json(json.loads(json.dumps(tenants.to_json()))) == tenants
