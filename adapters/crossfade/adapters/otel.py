"""OpenTelemetry: the spans of calls, their commands and handlers, and metrics of all of them.

    from crossfade.adapters.otel import instrument

    instrument()  # the global providers, or those you hand over

A call is a span at its call site (``execute_tool``, ``invoke_agent``; ``call`` of a request by httpx or requests), its
command a PRODUCER inside it, the handler a CONSUMER that is the producer's child and linked to it. A shadow or a
replayed call starts a trace of its own, linked to the call that it repeats: nothing of it is in a user's trace. Context
crosses the bus in the command's ``traceparent``, ``tracestate`` and ``baggage``.

Nothing here installs a provider; ``export_by_otlp`` does, and only where there is none.
Sources: OpenTelemetry's semantic conventions 1.44 for messaging, and those for generative AI (both in development).
"""

from __future__ import annotations

import os
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import MissingExtraError
from crossfade.shim.tracecontext import format_baggage
from crossfade.shim.watching import unwatch, watch

try:
    from opentelemetry import baggage, context, metrics, trace
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingExtraError("otel", needed_for="OpenTelemetry") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import TracerProvider

    from crossfade.shim.correlate import Correlation
    from crossfade.shim.watching import End, Step

SCOPE: Final = "crossfade"
"""The instrumentation scope of every span and metric."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 900)
"""Boundaries of every histogram: those of the conventions, and on to the length of an agent's work."""

MOST_SERIES: Final = 500
"""Counts of so many names, seams and reasons are told apart; the rest is added up as ``other``."""

_SYSTEMS: Final = {"embedded": "nats", "tls": "nats"}
_FLUSH: Final = 5_000  # milliseconds for each provider
_NO_ERRORS: Final = ("value", "cancelled")
_OPERATIONS: Final = {"agent": "invoke_agent", "tool": "execute_tool"}
_W3C: Final = TraceContextTextMapPropagator()  # what events carry, whatever the process propagates by elsewhere


class Otel:
    """Tells OpenTelemetry of counts and steps."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._instruments = _Instruments(meter_provider)
        self._providers = tracer_provider, meter_provider

    def flush(self) -> None:
        """See ``Flushing``; the API's own providers keep nothing."""
        spans, points = self._providers
        for provider in (spans or trace.get_tracer_provider(), points or metrics.get_meter_provider()):
            if (force := getattr(provider, "force_flush", None)) is not None:
                force(_FLUSH)

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        """See ``Hooks``."""
        self._instruments.count(name, seam, reason, n)

    def begin(self, step: Step) -> _Span:
        """See ``Watcher``."""
        outer, links = _place(step)
        span = self._tracer.start_span(
            _name(step), outer, kind=_kind(step), attributes=_attributes(step), links=links, record_exception=False
        )
        return _Span(step, span, outer, self._instruments)


class _Span:
    """One step's span, and what its end adds to the metrics."""

    def __init__(self, step: Step, span: OtelSpan, outer: Context, instruments: _Instruments) -> None:
        self._step = step
        self._span = span
        self._context = trace.set_span_in_context(span, outer)
        self._instruments = instruments
        self._began = perf_counter()

    def enter(self) -> object:
        """See ``Span``."""
        return context.attach(self._context)

    def leave(self, token: Any) -> None:
        """See ``Span``."""
        context.detach(token)

    def context(self) -> Mapping[str, str]:
        """See ``Span``: what W3C propagates, with the baggage of the call's correlation."""
        carried: dict[str, str] = {}
        _W3C.inject(carried, self._context)
        members = {**_baggage_of(self._step.correlation), **_texts(baggage.get_all(self._context))}
        return carried | ({"baggage": format_baggage(members)} if members else {})

    def end(self, end: End) -> None:
        """See ``Span``."""
        self._instruments.measure(self._step, end, perf_counter() - self._began)
        self._span.set_attributes(_ending(self._step, end))
        if end.outcome not in _NO_ERRORS:
            if end.error is not None:
                self._span.record_exception(end.error)
            self._span.set_status(Status(StatusCode.ERROR, end.reason or _error_type(end)))
        self._span.end()


class _Instruments:
    """The metrics; no attribute of theirs names a call, a run or a user."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, meter_provider=provider)

        def histogram(name: str, description: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, unit="s", description=description, explicit_bucket_boundaries_advisory=SECONDS
            )

        self._call = histogram("crossfade.call.duration", "Calls at their call sites.")
        self._tool = histogram("gen_ai.execute_tool.duration", "Calls of tools at their call sites.")
        self._agent = histogram("gen_ai.client.operation.duration", "Calls of agents at their call sites.")
        self._publish = histogram("messaging.client.operation.duration", "Commands, until the bus has stored them.")
        self._process = histogram("messaging.process.duration", "Runs of handlers.")
        self._wait = histogram("crossfade.queue.duration", "From a command's storing to its handler's start.")
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Commands sent.")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Commands run.")
        self._events = meter.create_counter("crossfade.events", "{event}", "What crossfade counts, by name and reason.")
        self._series: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    def count(self, name: str, seam: str, reason: str, n: int) -> None:
        """Add a count, to a series of its own while there are not too many."""
        key = name, seam, reason
        if key not in self._series:
            with self._lock:
                if len(self._series) >= MOST_SERIES:
                    key = "other", "-", "-"
                self._series.add(key)
        self._events.add(n, {"crossfade.event": key[0], "crossfade.seam": key[1], "crossfade.reason": key[2]})

    def measure(self, step: Step, end: End, seconds: float) -> None:
        """Add a step that is over."""
        error = {} if end.outcome in _NO_ERRORS else {"error.type": _error_type(end)}
        seam = {"crossfade.seam": step.seam}
        if step.kind == "call":
            told = seam | {"crossfade.path": end.path, "crossfade.stage": step.stage, "crossfade.outcome": end.outcome}
            self._call.record(seconds, told)
            if step.domain == "agent":
                self._agent.record(seconds, _gen_ai(step) | error)
            elif step.domain == "tool":
                self._tool.record(seconds, _gen_ai(step) | error)
            return
        bus = {**_destination(step), **seam, **error}
        if step.kind == "send":
            self._publish.record(seconds, bus)
            self._sent.add(1, bus)
            return
        self._process.record(seconds, bus | {"crossfade.shadow": step.shadow})
        if step.waited is not None:
            self._consumed.add(1, bus)
            self._wait.record(step.waited, seam)


def instrument(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Callable[[], None]:
    """Tell OpenTelemetry of every call, command and handler of this process; what it returns ends that.

    ``None`` is the global provider, whoever set it and whenever. Call it before ``connect``. What
    ``opentelemetry-instrument`` began ends with it, so that nothing is told twice.
    """
    _automatic.uninstrument()
    return _started(Otel(tracer_provider=tracer_provider, meter_provider=meter_provider))


def _started(otel: Otel) -> Callable[[], None]:
    watch(otel)
    return lambda: unwatch(otel)


class Automatic:
    """What ``opentelemetry-instrument`` begins where no line of code does; one for a process."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None

    def instrument(self, **_options: Any) -> None:
        """Begin, with the global providers; the options are about packages, and of no matter here."""
        if self._stop is None:
            self._stop = _started(Otel())

    def uninstrument(self, **_options: Any) -> None:
        """End what ``instrument`` began, if it did."""
        if self._stop is not None:
            self._stop()
            self._stop = None


_automatic: Final = Automatic()


def automatic() -> Automatic:
    """The process' own: what the entry point ``opentelemetry_instrumentor`` names."""
    return _automatic


def export_by_otlp(service: str) -> Callable[[], None]:
    """``instrument``, and export by OTLP over HTTP as the ``OTEL_*`` variables say; what it returns flushes and ends.

    A provider that the process has already (``opentelemetry-instrument`` sets one) is used and left alone. ``service``
    is the ``service.name`` where ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` name none. Raises
    ``MissingExtraError`` without the SDK and its exporter.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return instrument()
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("otel", needed_for="exporting by OTLP") from error
    resource = Resource.create()
    if "service.name" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") and "OTEL_SERVICE_NAME" not in os.environ:
        resource = resource.merge(Resource({"service.name": service}))
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    measured = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource, shutdown_on_exit=False)
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(measured)
    end = instrument()

    def close() -> None:
        end()
        spans.shutdown()
        measured.shutdown()

    return close


# -- what a step is called ---------------------------------------------------------------------------------------------


def _name(step: Step) -> str:
    if step.kind != "call":
        verb = "publish" if step.kind == "send" else "process"
        return f"{verb} {step.address or step.seam}"
    return f"{_operation(step)} {step.seam}"


def _operation(step: Step) -> str:
    return _OPERATIONS.get(step.domain, "call")


def _kind(step: Step) -> SpanKind:
    if step.kind == "send":
        return SpanKind.PRODUCER
    if step.kind == "run":
        return SpanKind.CONSUMER if step.address else SpanKind.INTERNAL
    remote = step.domain == "agent" and step.stage in ("canary", "bus", "retired")
    return SpanKind.CLIENT if remote else SpanKind.INTERNAL


def _attributes(step: Step) -> dict[str, Any]:
    told: dict[str, Any] = {"crossfade.seam": step.seam}
    if step.kind == "call":
        return told | _gen_ai(step) | {"crossfade.stage": step.stage} | _conversation(step)
    told |= {"crossfade.callid": step.callid, "crossfade.path": "bus"} | _conversation(step)
    if step.kind == "run":
        told |= {"crossfade.attempt": step.attempt, "crossfade.shadow": step.shadow}
    if step.waited is not None:
        told["crossfade.queue.seconds"] = step.waited
    if not step.address:  # a shadow or a replay: no command
        return told
    told |= _destination(step) | {"messaging.message.id": step.callid}
    return told if step.size is None else told | {"messaging.message.body.size": step.size}


def _gen_ai(step: Step) -> dict[str, str]:
    match step.domain:
        case "agent":
            named = {"gen_ai.agent.name": step.seam, "gen_ai.provider.name": SCOPE}
        case "tool":
            named = {"gen_ai.tool.name": step.seam, "gen_ai.tool.type": "function"}
        case _:
            return {}
    return {"gen_ai.operation.name": _operation(step), **named}


def _destination(step: Step) -> dict[str, str]:
    if not step.address:
        return {}
    verb, kind = ("publish", "send") if step.kind == "send" else ("process", "process")
    return {
        "messaging.system": _SYSTEMS.get(step.bus, step.bus),
        "messaging.operation.name": verb,
        "messaging.operation.type": kind,
        "messaging.destination.name": step.address,
        "messaging.destination.template": step.address,
    }


def _conversation(step: Step) -> dict[str, str]:
    if step.correlation is None or not step.correlation.run:
        return {}
    return {"messaging.message.conversation_id": step.correlation.run} | (
        {"gen_ai.conversation.id": step.correlation.session} if step.correlation.session else {}
    )


def _ending(step: Step, end: End) -> dict[str, str]:
    told: dict[str, str] = {"crossfade.outcome": end.outcome}
    if step.kind == "call":
        told["crossfade.path"] = end.path
        if end.callid:
            told |= {"crossfade.callid": end.callid}
        if end.callid and step.domain == "tool":
            told |= {"gen_ai.tool.call.id": end.callid}
    if end.reason:
        told["crossfade.reason"] = end.reason
    return told if end.outcome in _NO_ERRORS else told | {"error.type": _error_type(end)}


def _error_type(end: End) -> str:
    return end.outcome if end.error is None else type(end.error).__qualname__


# -- where a step stands in which trace --------------------------------------------------------------------------------


def _place(step: Step) -> tuple[Context, list[Link]]:
    """The context that the step begins in, and what it is linked to."""
    if step.kind != "run":
        here = context.get_current()
        if trace.get_current_span(here).get_span_context().is_valid:
            return here, []
        return _extracted(step.correlation, here), []
    outer = _extracted(step.correlation, context.Context())
    cause = trace.get_current_span(outer).get_span_context()
    links = [Link(cause)] if cause.is_valid else []
    if step.shadow:
        return context.Context(), links
    for name, value in _baggage_of(step.correlation).items():
        outer = baggage.set_baggage(name, value, outer)
    return outer, links


def _extracted(correlation: Correlation | None, outer: Context) -> Context:
    """``outer`` with the remote span that ``correlation`` names, if it names one."""
    if correlation is None or not correlation.traceparent:
        return outer
    carrier = {"traceparent": correlation.traceparent, "tracestate": correlation.tracestate or ""}
    return _W3C.extract(carrier, outer)


def _baggage_of(correlation: Correlation | None) -> Mapping[str, str]:
    return {} if correlation is None else correlation.baggage


def _texts(members: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in members.items()}
