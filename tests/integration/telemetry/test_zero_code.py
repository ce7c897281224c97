"""``opentelemetry-instrument`` around an application and a worker that say nothing of telemetry themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from crossfade.adapters import otel
from crossfade.shim.seam import registry
from crossfade.shim.watching import watchers
from support.commands import SOON
from support.otlp import Collector
from support.web_service import WebService

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTO = (Path(sys.executable).parent / "opentelemetry-instrument", "--")
APP = """
import os

import httpx
import requests
from fastapi import FastAPI

from crossfade import shim
from crossfade.adapters.httpx import SeamTransport, route
from crossfade.adapters.requests import SeamAdapter

SERVICE = os.environ["SERVICE"]
ROUTES = [route("http.weather", "GET /v1/{city}")]
app = FastAPI()


@shim.tool("desk.ask", effects="none", stage="bus")
def ask(query: str) -> int:
    return httpx.get(f"{SERVICE}/v1/{query}").status_code


@app.get("/ask/{query}")
def by_function(query: str) -> int:
    return ask(query)


@app.get("/httpx/{city}")
def by_httpx(city: str) -> int:
    with httpx.Client(transport=SeamTransport(ROUTES)) as client:
        return client.get(f"{SERVICE}/v1/{city}").status_code


@app.get("/requests/{city}")
def by_requests(city: str) -> int:
    with requests.Session() as session:
        session.mount("http://", SeamAdapter(ROUTES))
        return session.get(f"{SERVICE}/v1/{city}").status_code
"""
RUN = """
import asyncio
import os

import httpx
from app import app

from crossfade import shim

if os.environ.get("EXPLICIT"):
    from crossfade.adapters.otel import instrument

    instrument()


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example") as client:
        for path in ("/ask/bees", "/httpx/oslo", "/requests/rome"):
            assert (await client.get(path)).json() == 200


with shim.connect(required=True):
    asyncio.run(main())
"""


HANDLER = """
from crossfade.shim.http import HttpResponse, http_handler


@http_handler("http.reports")
async def reports(request):
    return HttpResponse.json({"by": "bus"})
"""
ROUTES = """
listen: 127.0.0.1:0
upstreams: {legacy: "http://127.0.0.1:9"}
routes:
  - seam: http.reports
    match: GET /v1/reports
"""


def told_to(collector, service: str, **more: str) -> dict[str, str]:
    """The environment of a process that exports to ``collector``."""
    return os.environ | {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "60000",
        **more,
    }


@contextmanager
def serving(*arguments: str, folder: Path, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A command of crossfade's around which telemetry is begun; yields its ready line."""
    command = [*AUTO, sys.executable, "-m", "crossfade", *arguments, "--stop-with-stdin", "--json"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(SOON)


@pytest.fixture(
    scope="module", params=["", pytest.param("1", marks=pytest.mark.slow)], ids=["by itself", "by hand, too"]
)
def spans(request, nats_server, tmp_path_factory):
    """What came of three requests to the application."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(textwrap.dedent(APP))
    (folder / "run.py").write_text(textwrap.dedent(RUN))
    with Collector() as collector, WebService() as service:
        bus = {"CROSSFADE_BUS": nats_server.url, "CROSSFADE_PREFIX": f"zero{request.param}"}
        more = {"SERVICE": service.url, "EXPLICIT": request.param, **bus}
        told = ["--otel"] if request.param else []
        with serving("worker", "app", *told, folder=folder, environment=told_to(collector, "worker", **more)):
            done = subprocess.run(
                [*AUTO, sys.executable, "run.py"],
                cwd=folder,
                env=told_to(collector, "caller", **more),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        end = time.monotonic() + SOON
        while len(found := [span for span in collector.spans if " http " not in span.name]) < 11:
            assert time.monotonic() < end, [(span.service, span.name) for span in found]
            time.sleep(0.02)
        yield found


def test_spans_of_other_instrumentation_are_above_and_below_ours(spans):
    """FastAPI's request > the call > its command > the worker's handler > the request that the handler makes."""
    assert len(spans) == 11, [(span.service, span.name) for span in spans]  # each once: nothing is told twice
    names = {span.id: f"{span.service} {span.name}" for span in spans}
    (bus,) = {span.name.partition(" ")[2] for span in spans if span.name.startswith("publish")}
    assert {(names.get(span.parent, ""), f"{span.service} {span.name}") for span in spans} == {
        ("", "caller GET /ask/{query}"),
        ("caller GET /ask/{query}", "caller execute_tool desk.ask"),
        ("caller execute_tool desk.ask", f"caller publish {bus}"),
        (f"caller publish {bus}", f"worker process {bus}"),
        (f"worker process {bus}", "worker GET"),
        ("", "caller GET /httpx/{city}"),
        ("caller GET /httpx/{city}", "caller call http.weather"),
        ("caller call http.weather", "caller GET"),
        ("", "caller GET /requests/{city}"),
        ("caller GET /requests/{city}", "caller GET"),
        ("caller GET", "caller call http.weather"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_proxy_goes_on_in_its_clients_trace(nats_server, tmp_path, workers):
    """Client > the proxy's command > the worker's handler; what a process of the proxy keeps is exported at its end."""
    (tmp_path / "handlers.py").write_text(textwrap.dedent(HANDLER))
    (tmp_path / "crossfade.toml").write_text('[seams."http.reports"]\nstage = "bus"\neffects = "none"\n')
    (tmp_path / "routes.yaml").write_text(textwrap.dedent(ROUTES))
    trace, bus = "5" * 32, {"CROSSFADE_BUS": nats_server.url, "CROSSFADE_PREFIX": f"zeroproxy{workers}"}
    with Collector() as collector:
        late = told_to(collector, "proxy", **bus, OTEL_BSP_SCHEDULE_DELAY="60000")
        with (
            serving("worker", "handlers", folder=tmp_path, environment=told_to(collector, "worker", **bus)),
            serving(
                "proxy", "--config", "routes.yaml", "--workers", workers, folder=tmp_path, environment=late
            ) as proxy,
        ):
            answer = httpx.get(f"{proxy['url']}/v1/reports", headers={"traceparent": f"00-{trace}-{'7' * 16}-01"})
            assert answer.json() == {"by": "bus"}
        send, run = sorted(collector.all_of(trace, 2), key=lambda span: span.service)
    assert (send.service, send.kind, send.parent) == ("proxy", "PRODUCER", "7" * 16)
    assert (run.service, run.kind, run.parent) == ("worker", "CONSUMER", send.id)


def test_the_entry_point_begins_once_and_ends(monkeypatch):
    """However often it is asked; and what a program begins by hand takes its place."""
    monkeypatch.setattr(registry, "_seams", {})
    automatic = otel.automatic()
    automatic.instrument(skip_dep_check=True)
    automatic.instrument()
    (begun,) = watchers.all
    stop = otel.instrument()
    assert watchers.all != (begun,)
    assert len(watchers.all) == 1
    stop()
    assert watchers.all == ()
    automatic.instrument()
    automatic.uninstrument()
    automatic.uninstrument()
    assert watchers.all == ()
