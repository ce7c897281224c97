"""Workflows on a real Kafka broker: what they ask of a bus is what every bus has."""

from __future__ import annotations

import pytest

from crossfade import shim
from crossfade.workflows import Workflow, answer
from integration.shim import kit


@pytest.mark.slow
def test_a_workflow_runs_on_kafka_as_it_is(connect, work, run, known, kafka_broker):
    """An event, a call, a person's yes, a time, an event and the end, each once."""
    calls = []

    @shim.tool("pack", effects="idempotent")
    def pack(number: int) -> str:
        calls.append(number)
        return f"box {number}"

    flow = Workflow("kafka.orders", on="order.placed", key="data.number")

    @flow.tool("pack", effects="idempotent")
    def packed(event):
        return {"number": event["number"]}

    @flow.approval()
    def approved(packed):
        return {"ship": packed}

    @flow.timer(needs=["approved"])
    def rested():
        return 0.2

    @flow.emit("order.shipped", needs=["rested"])
    def shipped(packed):
        return {"box": packed}

    opened = connect(kafka_broker.url)
    work(opened, pack)
    desk = run(opened)
    desk.publish("order.placed", {"number": 7})

    def waiting():
        found = desk.find("kafka.orders", "7")
        return found if found and found.steps["approved"].status == "waiting" else None

    answer(kit.until(waiting, timeout=60).id, "approved", approve=True)
    assert desk.until("kafka.orders", "7", "completed", timeout=60)
    assert calls == [7]
    assert desk.facts("order.shipped") == [{"box": "box 7"}]
