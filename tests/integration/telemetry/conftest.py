"""One broker, one worker process that exports, and a caller here that does: both to one collector."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from crossfade.adapters.otel import instrument
from crossfade.shim import connection
from crossfade.shim.config import Config
from integration.telemetry.declaring import declared
from support.commands import Process
from support.otlp import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crossfade.shim.connection import Connection

PREFIX = "otel"

DESK = """
import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

from crossfade import shim

@shim.tool("desk.search", effects="none")
def search(query: str) -> str:
    if query == "bad":
        raise ValueError(query)
    logging.getLogger("desk").info("searched")
    return query.upper()

@shim.tool("desk.read", effects="none")
def read(query: str) -> str:
    return search(query)

@shim.tool("desk.spread", effects="none")
async def spread(queries: list[str]) -> list[str]:
    return await asyncio.gather(*(asyncio.to_thread(search, query) for query in queries))

@shim.agent("desk.research", effects="none")
async def research(topic: str) -> str:
    return topic

@shim.tool("desk.lines", effects="none")
def lines(n: int) -> Iterator[int]:
    yield from range(n)

@shim.tool("desk.alines", effects="none")
async def alines(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number

@shim.tool("desk.context", effects="none")
def context() -> list[str]:
    from opentelemetry import baggage, trace

    return [f"{trace.get_current_span().get_span_context().span_id:016x}", str(baggage.get_baggage("colour"))]

@shim.tool("desk.compared", effects="none")
def compared(query: str) -> str:
    return read(query)
"""

HANDLERS = """
import asyncio

from crossfade.shim.http import HttpResponse, http_handler

@http_handler("http.weather")
async def weather(request):
    if request.path.endswith("fails"):
        raise LookupError(request.path)
    return HttpResponse(200, [("Content-Type", "text/plain")], request.path)

@http_handler("http.compared")
async def also_weather(request):
    return await weather(request)

@http_handler("http.slow")
async def slow(request):
    await asyncio.sleep(1)
"""


@dataclass(frozen=True)
class World:
    """The caller's side; ``app`` is the module whose seams are called."""

    app: Any
    collector: Collector
    tracer: Any
    connection: Connection
    log: Path
    providers: tuple[TracerProvider, MeterProvider]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def exported(collector: Collector) -> Iterator[tuple[TracerProvider, MeterProvider]]:
    """Providers of the caller's own: not the global ones."""
    resource = Resource({"service.name": "caller"})
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.endpoint}/v1/traces")))
    exporter = OTLPMetricExporter(f"{collector.endpoint}/v1/metrics")
    points = MeterProvider([PeriodicExportingMetricReader(exporter, 1e9)], resource, shutdown_on_exit=False)
    yield spans, points
    spans.shutdown()
    points.shutdown()


@pytest.fixture(scope="module")
def world(nats_server, tmp_path_factory, collector, exported) -> Iterator[World]:
    """Both processes; every seam is on the bus, but ``desk.compared``, which is at shadow."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.py").write_text(textwrap.dedent(DESK))
    (folder / "handlers.py").write_text(textwrap.dedent(HANDLERS))
    (folder / "crossfade.toml").write_text('[seams."desk.search"]\nstage = "bus"\n')
    environment = {
        "CROSSFADE_PREFIX": PREFIX,
        "CROSSFADE_BUS": nats_server.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_SERVICE_NAME": "worker",
    }
    spans, points = exported
    with declared(DESK) as (app, stages):
        stop = instrument(tracer_provider=spans, meter_provider=points)
        with (
            mock.patch.dict(os.environ, environment),
            Process("worker", "desk", "handlers", "--json", "--otel", "--log-format", "json", folder=folder) as worker,
        ):
            worker.ready()
            connected = connection.connect(nats_server.url, config=Config(prefix=PREFIX, seams=stages), required=True)
            yield World(app, collector, spans.get_tracer("user"), connected, worker.log, (spans, points))
            connected.close()
        stop()
