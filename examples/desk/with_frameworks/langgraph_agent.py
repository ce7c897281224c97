"""The desk's agent as a LangGraph graph: it researches a topic, asks a person, and has the report written.

    python -m with_frameworks.langgraph_agent "context managers"

The graph is the seam ``desk.research``. Its steps are told as they happen, its approval waits on the bus, and each tool
it calls is a seam of its own.
"""

import argparse
import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypedDict

from desk import reports, tools
from desk.records import Section
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from crossfade import shim
from crossfade.adapters.langchain import graph_agent, seam_tool
from crossfade.shim.answers import answer

fetch = seam_tool("desk.fetch", StructuredTool.from_function(tools.fetch, description="A passage."), effects="none")


class State(TypedDict, total=False):
    """What the graph keeps between its steps: JSON, so that any checkpointer can."""

    topic: str
    request: str
    found: list[str]
    sections: list[dict[str, Any]]
    approved: bool
    report: dict[str, Any]


def search(state: State) -> State:
    """The passages that fit the topic best."""
    hits = tools.search(state["topic"], 6, request=f"{state['request']}.search")
    return {"found": [hit.passage_id for hit in hits]}


def read(state: State) -> State:
    """Three passages to a section, summarised."""
    sections: list[dict[str, Any]] = []
    for number, heading in enumerate(("The essentials", "In detail")):
        chosen = state["found"][3 * number : 3 * number + 3]
        passages = [fetch.invoke({"passage_id": each, "request": f"{state['request']}.{each}"}) for each in chosen]
        texts = [f"{passage.title}\n\n{passage.text}" for passage in passages]
        summary = tools.summarise(texts, state["topic"], 4, request=f"{state['request']}.{number}")
        paragraphs = [point.text for point in summary.points]
        sections.append(asdict(Section(heading=heading, paragraphs=paragraphs, sources=chosen)))
    return {"sections": sections}


def approve(state: State) -> State:
    """Somebody says whether it is worth a report."""
    return {"approved": bool(interrupt({"topic": state["topic"], "sources": state["found"]}))}


def write(state: State) -> State:
    """The report, once: a step that is repeated after a crash makes the same call."""
    if not state["approved"]:
        return {"report": {}}
    sections = [Section(**section) for section in state["sections"]]
    with shim.correlate(key=f"{state['request']}.write"):
        return {"report": asdict(tools.write_report(state["topic"], sections, request=f"{state['request']}.write"))}


def built() -> StateGraph[State]:
    """The graph, not yet compiled."""
    builder = StateGraph(State)
    for step in (search, read, approve, write):
        builder.add_node(step.__name__, step)
    for edge in ((START, "search"), ("search", "read"), ("read", "approve"), ("approve", "write"), ("write", END)):
        builder.add_edge(*edge)
    return builder


@asynccontextmanager
async def kept() -> AsyncIterator[Any]:
    """The graph with its state in the desk's folder, where every worker of this machine finds it."""
    home = reports.folder().parent
    home.mkdir(parents=True, exist_ok=True)
    async with AsyncSqliteSaver.from_conn_string(str(home / "agent.db")) as saver:
        yield built().compile(checkpointer=saver)


def asked(topic: str) -> State:
    """Research ``topic`` and have a report written, once somebody has approved it."""
    call = shim.current_call()
    return {"topic": topic, "request": call.callid if call else uuid.uuid4().hex}


def told(state: Any) -> dict[str, Any]:
    """The report; empty when nobody wanted it."""
    return dict(state["report"])


research = graph_agent("desk.research", kept, input=asked, output=told, effects="idempotent", timeout=3600)


def wants_it() -> bool:
    """What somebody at the terminal says."""
    return input("Write it? [y/n] ").strip().lower() == "y"


async def run(topic: str, *, approve_it: bool | None) -> dict[str, Any]:
    """Submit it, show each step, and answer what it asks: as ``approve_it`` says, else by asking at the terminal."""
    with shim.correlate(user="desk"):
        task = await research.asubmit(topic)
    async for said in task.aevents():
        print(said.message, flush=True)
        if said.data and said.data.get("status") == "input-required":
            print(json.dumps(said.data["questions"][0]["value"], indent=2))
            yes = approve_it if approve_it is not None else await asyncio.to_thread(wants_it)
            await asyncio.to_thread(answer, task.callid, value=yes, actor="the desk")
    return await task.aresult()


def main(arguments: list[str] | None = None) -> None:
    """One topic from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("topic")
    parser.add_argument("--yes", action="store_true", default=None, help="approve without asking")
    given = parser.parse_args(arguments)
    with shim.connect(required=True):
        report = asyncio.run(run(given.topic, approve_it=given.yes))
    print(f"written: {report['name']}" if report else "not written")


if __name__ == "__main__":
    main()
