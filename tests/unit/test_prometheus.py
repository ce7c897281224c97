from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from crossfade.adapters import prometheus
from crossfade.adapters.prometheus import Prometheus, instrument
from crossfade.shim import hooks, tool
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import report
from crossfade.shim.seam import registry as seams
from support.commands import crossfade


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(seams, "_seams", {})
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    return CollectorRegistry()


def test_calls_that_never_meet_a_bus_are_counted(registry):
    """Not connected: legacy answers, and each outcome has a count of its own."""

    @tool("desk.search", effects="none")
    def search(query: str) -> str:
        if query == "bad":
            raise ValueError(query)
        return query

    stop = instrument(registry=registry)
    search("good")
    with pytest.raises(ValueError, match="bad"):
        search("bad")

    for outcome in ("value", "error"):
        told = {"seam": "desk.search", "stage": "legacy", "path": "legacy", "outcome": outcome}
        assert registry.get_sample_value("crossfade_calls_total", told) == 1
    stop()


def test_the_end_leaves_nothing_behind(registry):
    """After ``stop`` the registry is empty and a count goes nowhere; it can be begun anew."""
    instrument(registry=registry)()
    report.count("late")

    assert list(registry.collect()) == []
    stop = instrument(registry=registry)
    report.count("late")
    assert registry.get_sample_value("crossfade_events_total", {"name": "late", "seam": "-", "reason": "-"}) == 1
    stop()


def test_a_registry_that_has_them_is_refused(registry):
    """Twice in one registry would count twice: an error that says what to do, and the first goes on."""
    stop = instrument(registry=registry)
    with pytest.raises(ConfigurationError, match=r"instrument\(\) once"):
        instrument(registry=registry)
    report.count("late")

    assert registry.get_sample_value("crossfade_events_total", {"name": "late", "seam": "-", "reason": "-"}) == 1
    stop()


def test_series_are_bounded(registry, monkeypatch):
    """Beyond the bound all are one, so that a mistake in a reason cannot fill the memory; the known go on apart."""
    monkeypatch.setattr(prometheus, "MOST_SERIES", 2)
    kept = Prometheus(registry)
    for reason in ("a", "b", "c", "d", "a"):
        kept.count("failed", seam="s", reason=reason)

    def value(name, seam, reason):
        return registry.get_sample_value("crossfade_events_total", {"name": name, "seam": seam, "reason": reason})

    assert (value("failed", "s", "a"), value("failed", "s", "b"), value("failed", "s", "c")) == (2, 1, None)
    assert value("other", "other", "other") == 2


def test_metrics_need_an_address():
    """``--metrics`` alone has nowhere to be read, and says what is missing."""
    done = crossfade("worker", "nothing", "--metrics")

    assert done.code == 2
    assert "--health" in done.err
