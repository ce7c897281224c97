"""The page on telemetry names every metric and attribute that the adapters make, and none that they do not."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry

from crossfade.adapters import prometheus
from support.project import TOP

PAGE = (TOP / "docs" / "howto" / "telemetry.md").read_text()
OTEL = (TOP / "adapters" / "crossfade" / "adapters" / "otel.py").read_text()


def test_every_metric_of_opentelemetry_is_on_the_page():
    """Both ways: names made in the code, and names in the first column of the page's table."""
    made = set(re.findall(r'(?:histogram|create_counter)\(\s*"([a-z_.]+)"', OTEL))
    table = PAGE.partition("## Metrics")[2].partition("## Prometheus")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}

    assert made == told
    assert len(made) > 5


def test_every_metric_of_prometheus_is_on_the_page():
    """With its labels, as a scrape would show them."""
    registry = CollectorRegistry()
    stop = prometheus.instrument(registry=registry)
    names = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    stop()
    table = PAGE.partition("## Prometheus")[2]

    assert names == set(re.findall(r"^\| `(crossfade_[a-z_]+)` \|", table, re.MULTILINE))
