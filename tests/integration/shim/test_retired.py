"""A retired seam whose legacy body is still there: running it is an alarm, and never a way out."""

from __future__ import annotations

import json
import logging

import pytest

from crossfade.shim import NotExecutedError, OutcomeUnknownError, current_call, tool
from crossfade.shim.errors import BusUnavailableError
from integration.shim import kit


def declare():
    @tool("web.old", effects="none", stage="retired", timeout=0.3)
    def old(n: object = 1) -> str:
        return "bus" if current_call() else "body"

    return old


def alarms(connection):
    events = [event for event in kit.read(connection, "{p}e.>") if event.type == "seam.skipped"]
    return [json.loads(event.data) for event in events]


def test_a_call_that_cannot_travel_runs_the_body_and_raises_an_alarm(connect, work, counts, caplog):
    """The tripwire: the caller is answered, and an error event says that the body is not unused yet."""
    old = declare()
    connection = connect()
    work(connection, old)
    assert old() == "bus"
    assert old(object()) == "body"
    (found,) = kit.until(lambda: alarms(connection))
    assert found == {"seam": "web.old", "reason": "legacy-hit", "instance": found["instance"], "build": "", "count": 1}
    assert counts.get("legacy-hit", seam="web.old") == 1
    assert [record.levelno for record in caplog.records if "legacy body was called" in record.getMessage()] == [
        logging.ERROR
    ]


def test_what_the_bus_did_not_do_the_body_does_not_do(connect, broker, counts):
    """No fallback: not sent and no result are the caller's errors, and leave no hit."""
    old = declare()
    connection = connect()
    broker.fail_next("publish", BusUnavailableError())
    with pytest.raises(NotExecutedError):
        old()
    with pytest.raises(OutcomeUnknownError):
        old()
    assert counts.get("legacy-hit") == 0
    assert alarms(connection) == []
