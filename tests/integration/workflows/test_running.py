"""Workflows from event to end over a bus."""

from __future__ import annotations

from crossfade import shim
from crossfade.workflows import Workflow


def test_an_email_starts_research_waits_for_two_tools_and_an_approval(connect, work, run, known):
    """The whole way: trigger, agent, two tools side by side, a person, an event and the end, each once."""
    calls = []

    @shim.agent("research", effects="none")
    def research(question: str) -> dict:
        calls.append(("research", question))
        return {"summary": f"about {question}"}

    @shim.tool("related", effects="none")
    def related(topic: str) -> list[str]:
        calls.append(("related", topic))
        return [topic, "more"]

    @shim.tool("write")
    def write(topic: str) -> dict:
        calls.append(("write", topic))
        return {"name": f"{topic}.md"}

    flow = Workflow("report.from.email", on="email.received", where={"data.recipients": ["desk@x"]})

    @flow.agent("research", effects="none")
    def findings(event):
        return {"question": event["subject"]}

    @flow.tool("related", effects="none")
    def links(findings, event):
        return {"topic": event["subject"]}

    @flow.tool("write")
    def report(findings, event):
        return {"topic": event["subject"]}

    @flow.approval(by="editor")
    def publish(links, report):
        return {"report": report["name"], "links": links}

    @flow.emit("report.published")
    def published(publish, report):
        return {"name": report["name"], "by": publish["by"]}

    @flow.result
    def ended(report):
        return report["name"]

    opened = connect()
    work(opened, research, related, write)
    desk = run(opened)
    desk.publish("email.received", {"recipients": ["desk@x"], "subject": "dicts"}, id="m1")
    desk.step("report.from.email", "m1", "publish", "waiting")
    instance = desk.find("report.from.email", "m1")
    desk.signal("report.from.email", {"instance": instance.id, "action": "approve", "step": "publish", "by": "editor"})
    instance = desk.until("report.from.email", "m1", "completed")

    assert sorted(calls) == [("related", "dicts"), ("research", "dicts"), ("write", "dicts")]
    assert instance.value == "dicts.md"
    assert desk.facts("report.published") == [{"name": "dicts.md", "by": "editor"}]
    assert [fact["value"] for fact in desk.facts("workflow.completed")] == ["dicts.md"]


def test_an_engine_says_when_unsafe_calls_may_start_twice(connect, run, known, caplog):
    """A broker that could lose a claim in a power cut is named, with the calls that mind it."""
    flow = Workflow("careful", on="order.placed")

    @flow.tool("card.charge")
    def paid(event):
        return {}

    @flow.tool("stock.look", effects="none")
    def looked(event):
        return {}

    run(connect())
    assert "card.charge: unsafe, and this broker could lose a claim" in caplog.text
