"""Spans of other tools come in, ours go out, and what went out comes in again the same."""

from __future__ import annotations

import io
import json

import pytest

from crossfade.migrations.traces import otlp
from crossfade.migrations.traces.run import Call, Run
from crossfade.shim.errors import ConfigurationError
from unit.migrations.traces.calls import call, run

REAL = """
{"data": [{"traceID": "5b8aa5a2d2c872e8", "spans": [
  {"traceID": "5b8aa5a2d2c872e8", "spanID": "5b8aa5a2d2c872e8", "flags": 1, "operationName": "HTTP GET /dispatch",
   "references": [], "startTime": 1767603600123456, "duration": 731422,
   "tags": [{"key": "span.kind", "type": "string", "value": "server"},
            {"key": "http.status_code", "type": "int64", "value": 200},
            {"key": "internal.span.format", "type": "string", "value": "proto"}],
   "logs": [{"timestamp": 1767603600123999, "fields": [{"key": "event", "type": "string", "value": "begun"}]}],
   "processID": "p1", "warnings": null},
  {"traceID": "5b8aa5a2d2c872e8", "spanID": "0c5c4a1f6e1bd4e5", "operationName": "SQL SELECT",
   "references": [{"refType": "FOLLOWS_FROM", "traceID": "ffffffffffffffff", "spanID": "ffffffffffffffff"},
                  {"refType": "CHILD_OF", "traceID": "5b8aa5a2d2c872e8", "spanID": "5b8aa5a2d2c872e8"}],
   "startTime": 1767603600150000, "duration": 301000,
   "tags": [{"key": "error", "type": "bool", "value": true},
            {"key": "error.type", "type": "string", "value": "Timeout"}],
   "logs": [], "processID": "p2", "warnings": ["clock skew"]},
  {"traceID": "5b8aa5a2d2c872e8", "spanID": "2ae0d4d5b7c1f3a9", "operationName": "notify",
   "references": [{"refType": "FOLLOWS_FROM", "traceID": "5b8aa5a2d2c872e8", "spanID": "0c5c4a1f6e1bd4e5"}],
   "startTime": 1767603600860000, "duration": 1000, "tags": [], "logs": [], "processID": "p1", "warnings": null}],
  "processes": {"p1": {"serviceName": "frontend", "tags": [{"key": "hostname", "type": "string", "value": "a"}]},
                "p2": {"serviceName": "mysql", "tags": []}}, "warnings": null}],
 "total": 0, "limit": 0, "offset": 0, "errors": null}
"""
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
JAEGER = {
    "data": [
        {
            "traceID": "t1",
            "processes": {"p1": {"serviceName": "shop"}},
            "spans": [
                {
                    "traceID": "t1",
                    "spanID": "a",
                    "operationName": "GET /",
                    "startTime": 1_000_000,
                    "duration": 5000,
                    "processID": "p1",
                },
                {
                    "traceID": "t1",
                    "spanID": "b",
                    "operationName": "search",
                    "startTime": 1_001_000,
                    "duration": 2000,
                    "processID": "p1",
                    "references": [{"refType": "CHILD_OF", "traceID": "t1", "spanID": "a"}],
                    "tags": [{"key": "error", "type": "bool", "value": True}],
                },
            ],
        }
    ]
}


def back(text):
    return [
        Call(
            **{
                name: value
                for name in (
                    "id",
                    "run",
                    "seam",
                    "path",
                    "parent",
                    "began",
                    "ended",
                    "queue",
                    "handler",
                    "outcome",
                    "reason",
                )
                if (value := getattr(each, name)) is not None
            }
        )
        for each in otlp.read(io.StringIO(text), path="legacy", where="spans.json")
    ]


def test_what_goes_out_comes_in_again_the_same():
    """Ids, causes, times, outcomes."""
    sent = run(
        call("a", path="bus", queue=0.25, handler=0.5, outcome="value"),
        call("b", parent="a", at=0.25, took=0.5, outcome="error", reason="ValueError"),
    )
    assert Run.of("r", back("".join(otlp.export([sent])))) == sent


def test_a_run_keeps_the_trace_it_came_in():
    """The collector shows it below the span that caused it."""
    (sent,) = otlp.export([run(call("a", traceparent=PARENT))])
    (span,) = json.loads(sent)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["parentSpanId"]) == (PARENT[3:35], PARENT[36:52])
    assert len(span["spanId"]) == 16


def test_jaegers_spans_are_read():
    """Names, times in microseconds, causes, errors."""
    top, inner = back(json.dumps(JAEGER))
    assert (top.seam, top.parent, top.began, top.seconds) == ("GET /", "", 1.0, pytest.approx(0.005))
    assert (inner.parent, inner.outcome) == (top.id, "error")


def test_a_trace_as_jaegers_page_downloads_it_is_one_tree():
    """Over many lines, with what nobody asks for; links to other traces are no cause, what follows in its own is."""
    found = Run.of("r", back(REAL))
    assert [(node.call.seam, depth) for node, depth in found.walk()] == [
        ("HTTP GET /dispatch", 0),
        ("SQL SELECT", 1),
        ("notify", 2),
    ]
    assert found.seconds == pytest.approx(0.737544)
    assert [(n.call.outcome, n.call.reason) for n, _ in found.walk()][1] == ("error", "Timeout")


def test_many_runs_go_out_a_document_a_line_and_come_in_again():
    """More spans than one document holds."""
    sent = [run(*(call(f"{n}-{at}", at=at) for at in range(7)), id=f"r{n}") for n in range(300)]
    lines = list(otlp.export(sent))
    assert [len(json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in lines] == [1000, 1000, 100]
    assert {each.id for each in back("".join(lines))} == {n.call.id for each in sent for n, _ in each.walk()}


def test_a_file_of_lines_is_read():
    """As the collector's file exporter writes it."""
    lines = "\n".join(line for name in "ab" for line in otlp.export([run(call(name))]))
    assert [each.id for each in back(lines)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no span"),
        ('{"resourceSpans": 3}', "cannot be read"),
        ('{"data": [{"spans": [{}]}]}', "cannot be read"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 3}]}]}]}', "cannot be read"),
        ("[" * 100_000, "nested"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(text, said):
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match=said):
        list(otlp.read(io.StringIO(text), path="legacy", where="spans.json"))
