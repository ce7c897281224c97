"""Log records that say which call they are about, for the standard library's logging.

    handler.addFilter(Correlating())

Every record that passes gets ``trace_id``, ``span_id``, ``correlationid``, ``callid`` and ``seam``, empty where there
is none, so that a format may name them; what a record has already stays. ``JsonFormatter`` writes them as JSON lines.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from .calls import serving
from .correlate import current_correlation
from .tracecontext import parse_traceparent
from .watching import calling

FIELDS: Final = ("trace_id", "span_id", "correlationid", "callid", "seam")


class Correlating(logging.Filter):
    """Lets every record pass, with the ids of what runs where it is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        for name, value in zip(FIELDS, (*_trace(), *_call()), strict=True):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time``, ``level``, ``logger``, ``message``, ``error``, and what ids there are."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told | {name: value for name in FIELDS if (value := getattr(record, name, ""))})


def _trace() -> tuple[str, str]:
    """OpenTelemetry's current span, where this process has it; else what the correlation says."""
    if (opentelemetry := sys.modules.get("opentelemetry.trace")) is not None:
        span: Any = opentelemetry.get_current_span().get_span_context()
        if span.is_valid:
            return f"{span.trace_id:032x}", f"{span.span_id:016x}"
    correlation = current_correlation()
    parent = parse_traceparent(correlation.traceparent) if correlation and correlation.traceparent else None
    return (parent.trace_id, parent.span_id) if parent else ("", "")


def _call() -> tuple[str, str, str]:
    """The run, and the call that is served or made here."""
    correlation, served, watched = current_correlation(), serving.get(), calling.get()
    run = correlation.run if correlation else ""
    if watched is not None:
        return run, watched.callid, watched.step.seam
    return (run, served.callid, served.seam) if served is not None else (run, "", "")
