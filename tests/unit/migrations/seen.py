"""Events as the bus holds them, for tests of evidence."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from crossfade.shim.events import Event, new_id
from crossfade.shim.ports import Position, Stored

BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def stored(kind, payload, *, after=1.0, **attributes):
    """An event of ``web.search`` under revision 3, ``after`` seconds from ``BEGAN``."""
    event = Event(
        type=kind,
        source="urn:test",
        subject="web.search",
        extensions={"seam": "web.search", "policyrev": "3", **attributes},
        data=json.dumps(payload).encode(),
    )
    time = BEGAN + timedelta(seconds=after)
    return Stored(subject="-", event=event, position=Position(str(next(_numbers))), time=time)


def verdict(
    kind,
    *,
    after=1.0,
    reason="",
    source="shadow",
    call="<1K <10ms value",
    milliseconds=2.0,
    signature="",
    differences=(),
    rule="",
    **attributes,
):
    """A ``seam.compared``."""
    payload = {"verdict": kind, "reason": reason, "source": source, "kind": call, "handler": "new:search"}
    payload |= {"rule": rule, "bus_ms": milliseconds, "signature": signature, "differences": list(differences)}
    return stored("seam.compared", payload, after=after, **attributes)


def observed(*, error=False, after=1.0, milliseconds=2.0, status=None, **attributes):
    """A finished legacy call."""
    value = {"value": {"status": status}} if status else {"value": 1}
    payload = {"outcome": "error" if error else "value", "duration_ms": milliseconds, **({} if error else value)}
    return stored("tool.observed", payload, after=after, path="legacy", **attributes)


def result(outcome="value", *, after=1.0, milliseconds=2.0, queue=1.0, **attributes):
    """A call that the bus answered."""
    timings = {"handler_ms": milliseconds, "queue_ms": queue} if outcome in ("value", "error") else None
    payload = {"outcome": outcome, "handler": "new:search", "timings": timings}
    return stored("tool.result", payload, after=after, path="bus", **attributes)


def again(event, **attributes):
    """The event with other attributes and an id of its own."""
    return replace(event, id=new_id(), extensions={**event.extensions, **attributes})
