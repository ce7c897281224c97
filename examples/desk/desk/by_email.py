"""Reports by email: a workflow beside the desk, none of whose services knows of it.

    crossfade worker desk.tools desk.by_email
    crossfade workflow run desk.by_email

An email to ``reports@desk.example`` has its subject researched. Two tools work on what is found, a person looks at
it, and the report is written. The page of whoever wrote the email is told all along.
"""

from datetime import timedelta
from typing import Any

from crossfade import shim
from crossfade.workflows import Workflow
from desk import agent
from desk.records import Answer
from desk.wiring import wire

ADDRESS = "reports@desk.example"


@shim.agent("desk.research", effects="none", timeout=120)
def research(question: str, *, request: str = "") -> Answer:
    """The desk's agent, as it answers over HTTP, for callers on the bus."""
    shim.report_progress(0.0, "searching the documentation")
    found = agent.answer(question, request, wire())
    shim.report_progress(1.0, f"{len(found.sources)} sources")
    return found


flow = Workflow("desk.report.by_email", on="email.received", where={"data.recipients": ADDRESS})


@flow.agent("desk.research", effects="none", timeout=120, attempts=3)
def answer(event: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """What the documentation says about the email's subject."""
    return {"question": event["subject"], "request": instance["id"]}


@flow.tool("desk.search", effects="none", attempts=3, needs=["answer"])
def further(event: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """Pages to read on, looked for while the summary is written."""
    return {"query": event["subject"], "limit": 3, "request": f"{instance['id']}.further"}


@flow.tool("desk.summarise", effects="none", attempts=3)
def summary(event: dict[str, Any], answer: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """Two sentences of what was found."""
    texts = [f"{_title(answer, point)}\n\n{point['text']}" for point in answer["points"]]
    return {"texts": texts, "question": event["subject"], "sentences": 2, "request": f"{instance['id']}.summary"}


@flow.approval(timeout=timedelta(days=7))
def approved(event: dict[str, Any], summary: dict[str, Any], further: list[dict[str, Any]]) -> dict[str, Any]:
    """Somebody looks at it before it goes out."""
    return {
        "question": f"publish a report on {event['subject']!r}?",
        "says": [point["text"] for point in summary["points"]],
        "further": [hit["title"] for hit in further],
    }


@flow.tool("desk.report", timeout=60, needs=["approved"])
def report(event: dict[str, Any], answer: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """The report on disk: written once, whatever dies meanwhile."""
    paragraphs = [f"**{_title(answer, point)}**: {point['text']}" for point in answer["points"]]
    sources = [source["passage_id"] for source in answer["sources"]]
    section = {"heading": "What the documentation says", "paragraphs": paragraphs, "sources": sources}
    return {"topic": event["subject"], "sections": [section], "request": f"{instance['id']}.report"}


@flow.show()
def told(report: dict[str, Any]) -> dict[str, Any]:
    """The page can link it."""
    return {"report": report["name"]}


@flow.emit("report.published")
def published(event: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Whoever sends answers to emails listens to this."""
    return {"name": report["name"], "to": event["sender"]}


@flow.result
def name(report: dict[str, Any]) -> str:
    """The report's file."""
    return str(report["name"])


def _title(answer: dict[str, Any], point: dict[str, Any]) -> str:
    return next((source["title"] for source in answer["sources"] if source["number"] == point["source"]), "")
