"""An OpenTelemetry collector of the test's own: OTLP over HTTP on loopback, decoded from the protobuf it receives."""

from __future__ import annotations

import gzip
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Proto
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from support.commands import SOON


@dataclass(frozen=True)
class Span:
    """One span as it was exported; ids are hex."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    failed: bool
    exceptions: list[str]


class Collector:
    """Serves from ``with`` to its end; ``endpoint`` is what ``OTEL_EXPORTER_OTLP_ENDPOINT`` wants."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.points: dict[str, list[Any]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def trace(self, trace: str, n: int) -> dict[str, Span]:
        """The ``n`` spans of a trace by service and name, once all of them came; a suite's end shows more."""
        return {
            f"{span.service} {span.name.replace('otel.*.*.*.', '').replace('.*.*.invoke', '')}": span
            for span in self.all_of(trace, n)
        }

    def all_of(self, trace: str, n: int) -> list[Span]:
        """See ``trace``, where several have one name."""
        end = time.monotonic() + SOON
        while len(found := [span for span in list(self.spans) if span.trace == trace]) < n:
            assert time.monotonic() < end, [(span.service, span.name) for span in found]
            time.sleep(0.02)
        assert len(found) == n, [(span.service, span.name) for span in found]
        return found

    def linked_to(self, span: Span) -> Span:
        """The only span of another trace that is linked to ``span``, waited for."""
        end = time.monotonic() + SOON
        while not (
            found := [s for s in list(self.spans) if s.trace != span.trace and (span.trace, span.id) in s.links]
        ):
            assert time.monotonic() < end, [(each.service, each.name) for each in self.spans]
            time.sleep(0.02)
        assert len(found) == 1, [(each.service, each.name) for each in found]
        return found[0]

    def take(self, path: str, body: bytes) -> None:
        """One export."""
        if path == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            self._take_points(ExportMetricsServiceRequest.FromString(body))

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for each in request.resource_spans:
            service = _attributes(each.resource.attributes)["service.name"]
            for scope in each.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]

    def _take_points(self, request: ExportMetricsServiceRequest) -> None:
        for each in request.resource_metrics:
            for scope in each.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    self.points[metric.name] += [(_attributes(p.attributes), p) for p in data.data_points]


def _span(service: str, span: Proto) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=Proto.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes=_attributes(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        exceptions=[_attributes(event.attributes)["exception.type"] for event in span.events],
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(self.path, gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
