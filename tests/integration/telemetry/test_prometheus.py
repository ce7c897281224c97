"""Metrics as Prometheus scrapes them: from a worker process over HTTP, and from the registry of a caller."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from crossfade.adapters.prometheus import instrument, page
from crossfade.shim import connection
from crossfade.shim.config import Config
from integration.telemetry.declaring import declared
from support.commands import Process, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "prom"

DESK = """
from prometheus_client import Counter

from crossfade import shim

WORDS = Counter("desk_words", "The user's own.", registry=None)

@shim.tool("desk.search", effects="none")
def search(query: str) -> str:
    if query == "bad":
        raise ValueError(query)
    return query.upper()

@shim.tool("desk.compared", effects="none")
def compared(query: str) -> str:
    return query

class Broken:
    broken = False

    def collect(self):
        if self.broken:
            raise RuntimeError("a collector of the user's own")
        return []

@shim.tool("desk.break", effects="none")
def break_(broken: bool) -> bool:
    Broken.broken = broken
    return broken
"""

OWN = """
from prometheus_client import REGISTRY

REGISTRY.register(WORDS)
REGISTRY.register(Broken())
"""


@dataclass(frozen=True)
class Desk:
    """The caller's side; ``app`` is the module whose seams are called."""

    app: Any
    address: str
    registry: CollectorRegistry

    def scrape(self, method="GET"):
        return httpx.request(method, f"http://{self.address}/metrics", timeout=10, trust_env=False)

    def worker(self):
        return samples(self.scrape().text)

    def caller(self):
        return samples(page(self.registry)[1].decode())


@pytest.fixture(scope="module")
def desk(nats_server, tmp_path_factory) -> Iterator[Desk]:
    """A worker with ``--metrics``, and a caller here with a registry of its own."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.py").write_text(textwrap.dedent(DESK + OWN))
    environment = {"CROSSFADE_PREFIX": PREFIX, "CROSSFADE_BUS": nats_server.url}
    with declared(DESK) as (app, stages):
        registry = CollectorRegistry()
        stop = instrument(registry=registry)
        with (
            mock.patch.dict(os.environ, environment),
            Process("worker", "desk", "--json", "--health", "127.0.0.1:0", "--metrics", folder=folder) as worker,
        ):
            address = worker.ready()["health"]
            connected = connection.connect(nats_server.url, config=Config(prefix=PREFIX, seams=stages), required=True)
            yield Desk(app, address, registry)
            connected.close()
        stop()


def samples(text):
    """Every sample by its name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name, /, **labels):
    return (name, *sorted(labels.items()))


def test_both_sides_count_calls_and_measure_them(desk):
    """Calls by stage, path and outcome at the caller; its commands; queue, handlers and counts at the worker."""
    assert desk.app.search("events") == "EVENTS"
    with pytest.raises(ValueError, match="bad"):
        desk.app.search("bad")

    caller, seam_ = desk.caller(), {"seam": "desk.search"}
    told = {**seam_, "stage": "bus", "path": "bus"}
    assert caller[key("crossfade_calls_total", **told, outcome="value")] == 1
    assert caller[key("crossfade_calls_total", **told, outcome="error")] == 1
    assert caller[key("crossfade_call_duration_seconds_count", **seam_, path="bus")] == 2
    assert 0 < caller[key("crossfade_call_duration_seconds_sum", **seam_, path="bus")] < 60
    assert caller[key("crossfade_send_duration_seconds_count", **seam_, outcome="value")] == 2

    handled = {**seam_, "shadow": "false"}
    until(lambda: desk.worker().get(key("crossfade_handler_duration_seconds_count", **handled, outcome="error")) == 1)
    worker = until(
        lambda: (
            (found := desk.worker()).get(key("crossfade_events_total", name="served", **seam_, reason="value"))
            and found
        )
    )
    assert worker[key("crossfade_handler_duration_seconds_count", **handled, outcome="value")] == 1
    assert worker[key("crossfade_queue_duration_seconds_count", **seam_)] == 2
    assert worker[key("crossfade_handler_duration_seconds_bucket", **handled, outcome="value", le="+Inf")] == 1


def test_shadow_runs_are_told_apart_and_their_verdicts_counted(desk):
    """A sampled call is legacy at the caller, a shadow run at the worker, and a comparison with a verdict."""
    assert desk.app.compared("events") == "events"

    told = {"seam": "desk.compared", "stage": "shadow", "path": "legacy", "outcome": "value"}
    assert desk.caller()[key("crossfade_calls_total", **told)] == 1
    shadow = {"seam": "desk.compared", "shadow": "true", "outcome": "value"}
    until(lambda: desk.worker().get(key("crossfade_handler_duration_seconds_count", **shadow)) == 1)
    until(lambda: any(("name", "compared") in sample for sample in desk.worker()))


def test_no_label_names_a_call_or_a_user(desk):
    """What a backend would keep a series of for each call is in none of the metrics, on either side."""
    desk.app.search("events")

    for found in (desk.caller(), desk.worker()):
        ours = [sample for sample in found if sample[0].startswith("crossfade_")]
        labels = {label for _, *told in ours for label, _ in told}
        assert ours
        assert labels <= {"name", "seam", "reason", "stage", "path", "outcome", "shadow", "le"}


def test_the_page_is_what_a_scraper_wants(desk):
    """Its media type; the user's own metrics and the process' on the same page; HEAD without a body, POST refused."""
    answer = desk.scrape()

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert key("desk_words_total") in samples(answer.text)
    assert key("process_cpu_seconds_total") in samples(answer.text)
    assert desk.scrape("HEAD").content == b""
    assert desk.scrape("POST").status_code == 405
    assert httpx.get(f"http://{desk.address}/healthz", trust_env=False).json()["status"] == "serving"


def test_a_collector_that_fails_costs_the_page_and_nothing_else(desk):
    """500 while a collector of the user's raises, counted; calls go on, and so does the page once it is mended."""
    desk.app.break_(True)
    try:
        assert desk.scrape().status_code == 500
    finally:
        desk.app.break_(False)

    assert desk.worker()[key("crossfade_events_total", name="metrics-failed", seam="-", reason="RuntimeError")] >= 1
