from __future__ import annotations

import io
import json
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from crossfade.adapters.otel import instrument
from crossfade.shim import correlate, tool
from crossfade.shim.logs import Correlating, JsonFormatter
from crossfade.shim.seam import registry


@pytest.fixture
def logged():
    """A logger with the filter; reads back its JSON lines."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(Correlating())
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_a_record_outside_any_call_has_no_ids(logged):
    """Nothing is made up; a format that names the fields still works, because they are there and empty."""
    logger, lines = logged
    logger.info("plain %d", 1)
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "INFO", "logger": "test.logs", "message": "plain 1"}
    record = logging.makeLogRecord({})
    Correlating().filter(record)
    assert (record.trace_id, record.callid) == ("", "")


def test_a_record_has_the_run_and_the_trace_it_is_logged_in(logged):
    """Without OpenTelemetry's own span, by the correlation's traceparent; an error is one line, with its traceback."""
    logger, lines = logged
    with correlate(run="r1", traceparent=f"00-{'5' * 32}-{'7' * 16}-01"):
        try:
            int("bad")
        except ValueError:
            logger.exception("failed")
    (line,) = lines()
    assert (line["correlationid"], line["trace_id"], line["span_id"]) == ("r1", "5" * 32, "7" * 16)
    assert "ValueError: invalid literal" in line["error"]


def test_a_body_logs_in_its_calls_span(logged, monkeypatch):
    """With OpenTelemetry the ids are those of the call's own span, and the record names the seam."""
    logger, lines = logged
    monkeypatch.setattr(registry, "_seams", {})
    stop = instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))

    @tool("logs.body")
    def body() -> None:
        logger.info("inside")

    with correlate(run="r1", traceparent=f"00-{'5' * 32}-{'7' * 16}-01"):
        body()
    stop()
    (line,) = lines()
    assert (line["seam"], line["correlationid"], line["trace_id"]) == ("logs.body", "r1", "5" * 32)
    assert line["span_id"] != "7" * 16
