"""What lies under ``{p}ui`` of a submitted call, at every place it may run."""

from __future__ import annotations

import json

import pytest

from crossfade import shim
from crossfade.shim.errors import NotExecutedError
from integration.shim import kit

SECRET = "sk-live-0123456789abcdef0123456789abcdef"
PROMPT = "where the treasure is buried"


def told(connection, n):
    """Type, user and payload of everything the UI was told, once there are ``n``."""
    events = kit.until(lambda: len(found := kit.read(connection, "{p}ui.>")) >= n and found, what=f"no {n} told")
    return [(event.type, event.get("userid"), json.loads(event.data)) for event in events]


def declare():
    @shim.tool("desk.report", effects="none")
    def report(topic: str) -> str:
        shim.report_progress(0.5, f"with {SECRET}", {"password": SECRET})
        if topic == "bad":
            raise ValueError(SECRET)
        return SECRET

    return report


@pytest.mark.parametrize("stage", ["legacy", "observe", "bus"])
def test_a_task_is_told_from_start_to_end(connect, work, stage):
    """Started, its progress, ended, in this order and for its user, whether it runs here or on the bus."""
    report = declare()
    connection = connect(desk__report={"stage": stage})
    if stage == "bus":
        work(connection, report)
    with shim.correlate(user="alice", tenant="acme", run="r1"):
        report.submit(PROMPT).result(10)

    found = told(connection, 3)
    assert [(kind, user) for kind, user, _ in found] == [
        ("call.started", "alice"),
        ("tool.progress", "alice"),
        ("call.ended", "alice"),
    ]
    assert found[2][2] == {"outcome": "value", "reason": ""}


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_a_handles_events_are_its_progress_alone(connect, work, stage):
    """Start and end are for pages; a handle gives every step up to the last one, then stops."""

    @shim.tool("desk.steps", effects="none")
    def steps() -> None:
        for number in range(20):
            shim.report_progress(number / 20, f"step {number}")

    connection = connect(desk__steps={"stage": stage})
    if stage == "bus":
        work(connection, steps)
    with shim.correlate(user="alice", run="r1"):
        task = steps.submit()

    assert [progress.message for progress in task.events()] == [f"step {number}" for number in range(20)]
    assert [progress.message for progress in task.events()] == [f"step {number}" for number in range(20)]


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_no_secret_argument_or_result_is_told(connect, work, stage):
    """Not the argument, not the value, not the error's text; what the handler says is redacted."""
    report = declare()
    connection = connect(desk__report={"stage": stage})
    if stage == "bus":
        work(connection, report)
    with shim.correlate(user="alice", run="r1"):
        report.submit(PROMPT).result(10)
        with pytest.raises(ValueError, match=r"sk-live|redacted"):
            report.submit("bad").result(10)

    found = told(connection, 6)
    assert SECRET not in json.dumps(found)
    assert PROMPT not in json.dumps(found)
    assert found[-1][2] == {"outcome": "error", "reason": "ValueError"}


def test_a_task_that_never_ran_is_told_as_cancelled(connect):
    """Whoever watches learns that nothing will come."""
    report = declare()
    connection = connect(desk__report={"stage": "bus"})
    with shim.correlate(user="alice", run="r1"):
        task = report.submit("a")
    assert task.cancel()
    with pytest.raises(NotExecutedError):
        task.result(5)

    assert told(connection, 1) == [("call.ended", "alice", {"outcome": "cancelled", "reason": ""})]


def test_a_plain_call_over_the_bus_tells_no_start_and_no_end(connect, work):
    """Nobody follows it, so it does not pay for two more events."""
    report = declare()
    connection = connect(desk__report={"stage": "bus"})
    work(connection, report)
    with shim.correlate(user="alice", run="r1"):
        report("a")

    assert [kind for kind, _, _ in told(connection, 1)] == ["tool.progress"]


def test_a_broker_that_is_away_costs_a_task_nothing(connect, broker):
    """At legacy a task runs as ever, and tells nobody."""
    report = declare()
    connection = connect()
    broker.stop()
    with shim.correlate(user="alice", run="r1"):
        task = report.submit("a")

    assert task.result(5) == SECRET
    assert connection.connected is False
