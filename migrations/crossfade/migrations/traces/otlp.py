"""Traces of other tools in, and ours out: OTLP JSON, and Jaeger's.

Sources: OpenTelemetry protocol 1.x, its JSON encoding (ids in hex, times as text of nanoseconds, enums as numbers,
names in camelCase); Jaeger's query API (``data[].spans[]``, microseconds). A file may hold one document or one a line,
as the collector's file exporter writes. Both ways go through a line at a time, so that no more is in memory than that.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.tracecontext import parse_traceparent

from .run import MAX_TEXT, Fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from .run import Call, Run

_MOST: Final = 64 * 1024 * 1024  # characters of a document, which is read whole
_SPANS: Final = 1000  # in a document that is written

_ERROR: Final = 2  # STATUS_CODE_ERROR
_CLIENT: Final = 3  # SPAN_KIND_CLIENT
_INTERNAL: Final = 1


def export(runs: Iterable[Run]) -> Iterator[str]:
    """The runs as OTLP ``ExportTraceServiceRequest``, one a line, each of 1000 spans at most: few runs are one line.

    A run keeps the trace that its calls came in.
    """
    spans = (_span(node.call, run) for run in runs for node, _ in run.walk())
    while some := list(islice(spans, _SPANS)):
        yield json.dumps(_request(some), ensure_ascii=False) + "\n"


def _request(spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [_attribute("service.name", "crossfade")]},
                "scopeSpans": [{"scope": {"name": "crossfade.traces"}, "spans": spans}],
            }
        ]
    }


def read(file: TextIO, *, path: str, where: str) -> Iterator[Fact]:
    """The calls of an OTLP or Jaeger file, as if they had taken ``path``.

    Raises ``ConfigurationError`` at ``where`` when it is neither; facts that came before the mistake are no good then.
    """
    found = False
    for document in _documents(file, where):
        for fact in _facts(document, path, where):
            found = True
            yield fact
    if not found:
        raise ConfigurationError(
            "there is no span in it: write OTLP JSON (resourceSpans) or Jaeger's (data)", where=where
        )


def _documents(file: TextIO, where: str) -> Iterator[dict[str, Any]]:
    """Those of a file of lines one by one; of any other file all of it, which must be one."""
    first = _line(file, where)
    try:
        yield _object(json.loads(first))
    except json.JSONDecodeError:
        yield _whole(first + file.read(_MOST + 1), where)
        return
    except RecursionError:
        raise _too_deep(where) from None
    number = 1
    while line := _line(file, where):
        number += 1
        if line.strip():
            yield _whole(line, f"{where}:{number}")


def _line(file: TextIO, where: str) -> str:
    line = file.readline(_MOST + 1)
    if len(line) > _MOST:
        raise _too_long(where)
    return line


def _whole(text: str, where: str) -> dict[str, Any]:
    if len(text) > _MOST:
        raise _too_long(where)
    try:
        return _object(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"this is no JSON: {error.msg}", where=where) from None
    except RecursionError:
        raise _too_deep(where) from None


def _too_long(where: str) -> ConfigurationError:
    return ConfigurationError(f"is over {_MOST // 2**20} MiB in one document: write one a line", where=where)


def _too_deep(where: str) -> ConfigurationError:
    return ConfigurationError("this JSON is nested too deep to be a trace", where=where)


def _facts(document: dict[str, Any], path: str, where: str) -> Iterator[Fact]:
    try:
        if "resourceSpans" in document:
            yield from _otlp(document, path)
        elif "data" in document:
            yield from _jaeger(document, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"a span in it cannot be read: {error!r}", where=where) from error


def _otlp(document: dict[str, Any], path: str) -> Iterator[Fact]:
    for resource in document["resourceSpans"]:
        service = _values(resource.get("resource", {}).get("attributes", [])).get("service.name", "")
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                yield _of_span(span, service=service, path=path)


def _of_span(span: dict[str, Any], *, service: str, path: str) -> Fact:
    trace, about = span["traceId"].lower(), _values(span.get("attributes", []))
    status = span.get("status", {})
    failed = status.get("code") in (_ERROR, "STATUS_CODE_ERROR")
    began, ended = int(span["startTimeUnixNano"]) / 1e9, int(span["endTimeUnixNano"]) / 1e9
    parent = span.get("parentSpanId") or ""
    return Fact(
        id=about.get("crossfade.callid") or f"{trace}-{span['spanId'].lower()}",
        run=about.get("crossfade.run") or trace,
        seam=(about.get("crossfade.seam") or span["name"])[:MAX_TEXT],
        path=about.get("crossfade.path") or path,
        parent=about.get("crossfade.parent") or (f"{trace}-{parent.lower()}" if parent else None),
        began=began,
        ended=ended,
        queue=_number(about.get("crossfade.queue_ms")),
        handler=_number(about.get("crossfade.handler_ms")),
        outcome=about.get("crossfade.outcome") or ("error" if failed else "value"),
        reason=(about.get("error.type") or status.get("message") or "")[:MAX_TEXT],
        instance=service[:MAX_TEXT],
    )


def _jaeger(document: dict[str, Any], path: str) -> Iterator[Fact]:
    for trace in document["data"]:
        services = {name: process.get("serviceName", "") for name, process in trace.get("processes", {}).items()}
        for span in trace["spans"]:
            tags = {tag["key"]: tag.get("value") for tag in span.get("tags", [])}
            parent = _parent(span)
            began = span["startTime"] / 1e6
            failed = tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR"
            yield Fact(
                id=f"{span['traceID']}-{span['spanID']}",
                run=span["traceID"],
                seam=str(span["operationName"])[:MAX_TEXT],
                path=path,
                parent=f"{span['traceID']}-{parent}" if parent else None,
                began=began,
                ended=began + span["duration"] / 1e6,
                outcome="error" if failed else "value",
                reason=str(tags.get("error.type") or "")[:MAX_TEXT],
                instance=str(services.get(span.get("processID"), ""))[:MAX_TEXT],
            )


def _parent(span: dict[str, Any]) -> str:
    """Whose child it is, else what it follows from in its own trace: links to others are no cause."""
    told = [each for each in span.get("references", []) if each.get("traceID", span["traceID"]) == span["traceID"]]
    of = {each.get("refType"): each["spanID"] for each in reversed(told)}
    return of.get("CHILD_OF") or of.get("FOLLOWS_FROM") or ""


def _span(call: Call, run: Run) -> dict[str, Any]:
    came = parse_traceparent(call.traceparent) if call.traceparent else None
    parent = _span_id(call.parent) if call.parent else came.span_id if came else ""
    about = {
        "crossfade.callid": call.id,
        "crossfade.run": run.id,
        "crossfade.seam": call.seam,
        "crossfade.path": call.path,
        "crossfade.parent": call.parent,
        "crossfade.outcome": call.outcome,
        "crossfade.queue_ms": "" if call.queue is None else f"{call.queue * 1000:.3f}",
        "crossfade.handler_ms": "" if call.handler is None else f"{call.handler * 1000:.3f}",
        "error.type": call.reason if call.outcome == "error" else "",
    }
    span: dict[str, Any] = {
        "traceId": came.trace_id if came else hashlib.sha256(run.id.encode()).hexdigest()[:32],
        "spanId": _span_id(call.id),
        "name": call.seam,
        "kind": _CLIENT if call.path == "bus" else _INTERNAL,
        "startTimeUnixNano": str(round(call.began * 1e9)),
        "endTimeUnixNano": str(round(call.end * 1e9)),
        "attributes": [_attribute(name, value) for name, value in about.items() if value],
        "status": {"code": _ERROR} if call.outcome == "error" else {},
    }
    return {**span, "parentSpanId": parent} if parent else span


def _span_id(call: str) -> str:
    return hashlib.sha256(call.encode()).hexdigest()[:16]


def _attribute(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value}}


def _values(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each.get("value", {}).values()), "")) for each in attributes}


def _number(text: str | None) -> float | None:
    return float(text) / 1000 if text else None


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
