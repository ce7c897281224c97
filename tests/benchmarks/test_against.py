"""Ours against the peers, each installed into its own environment; minutes, and a package index, so slow."""

from __future__ import annotations

import os

import pytest

from crossfade.migrations.bench import against
from crossfade.migrations.bench.brokers import one_nats
from crossfade.migrations.bench.calls import calls
from crossfade.migrations.bench.measuring import Row
from crossfade.migrations.bench.processes import with_children
from support.needs import needs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_decorator_is_five_times_below_the_others(note):
    """The goal; five and a half times below laboratory as measured, so the assertion has slack."""
    rows = list(against.decorators())

    for row in rows:
        note(f"{row}")
    assert all(isinstance(row, Row) and row.ratio < 0.4 for row in rows)
    assert len(rows) == len(against.DECORATORS)


@needs("redis-server")
def test_every_task_queue_is_measured(note):
    """Each answers as many calls as ours; who is ahead is printed, twice their time would be a fault of ours."""
    with one_nats() as broker, calls(broker) as calling:
        rows = list(against.task_queues(calling, broker))

    for row in rows:
        note(f"{row}")
    assert all(isinstance(row, Row) and row.ratio < 2 for row in rows)
    assert len(rows) == len(against.ON_REDIS) + 1
    assert with_children([os.getpid()]) == [os.getpid()]


def test_no_version_that_counts_fails_the_row(monkeypatch):
    """As of 2018 only older versions were there: uv finds none, and the row says so."""
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2018-01-01")

    reasons = [row.reason for row in against.decorators()]

    assert len(reasons) == 2
    assert all("no version that counts can be had" in reason for reason in reasons)
    assert any("laboratory<=0.4.2" in reason and "laboratory>=1.0.2" in reason for reason in reasons)
