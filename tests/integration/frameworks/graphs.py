"""A graph that asks before it writes, kept in a file; a module that workers of other processes import, too."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from crossfade.adapters.langchain import graph_agent

JOURNAL = Path(os.environ.get("GRAPHS_JOURNAL", "journal.txt"))


class State(TypedDict, total=False):
    topic: str
    notes: list[str]
    approved: bool
    report: str


def note(line: str) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(f"{line}\n")


def read(state: State) -> Any:
    note("read")
    get_stream_writer()({"fraction": 0.5, "message": f"reading about {state['topic']}"})
    return {"notes": [f"{state['topic']} {n}" for n in range(2)]}


def approve(state: State) -> Any:
    return {"approved": interrupt({"publish": state["notes"]})}


def write(state: State) -> Any:
    note("write")
    return {"report": " / ".join(state["notes"]) if state["approved"] else "withheld"}


def failing(state: State) -> Any:
    if state["topic"] == "nothing":
        raise LookupError("no such topic")
    return {}


def built() -> Any:
    builder = StateGraph(State)
    for node in (failing, read, approve, write):
        builder.add_node(node.__name__, node)
    for edge in ((START, "failing"), ("failing", "read"), ("read", "approve"), ("approve", "write"), ("write", END)):
        builder.add_edge(*edge)
    return builder


@asynccontextmanager
async def kept_graph():
    async with AsyncSqliteSaver.from_conn_string(str(JOURNAL.with_suffix(".db"))) as saver:
        yield built().compile(checkpointer=saver)


def asked(topic: str) -> Any:
    """Research a topic, and publish what somebody approves."""
    return {"topic": topic}


def told(state: Any) -> str:
    return state["report"]


research = graph_agent("graphs.research", kept_graph, input=asked, output=told, effects="idempotent", timeout=60)
